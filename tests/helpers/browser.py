"""A headless Chromium, driven over its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager

from websockets.sync.client import connect

BROWSER = shutil.which(os.environ.get("MTLSI_BROWSER", "chromium"))
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,1800")


class Tab:
    """One page.

    Args:
        socket: to its DevTools.
    """

    def __init__(self, socket):
        self.socket, self.number = socket, 0

    def call(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, expression):
        """Return the value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def becomes(self, expression, seconds):
        """Say whether a JavaScript expression becomes true within some time."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True

    def wait_for(self, expression, seconds=90):
        """Wait until a JavaScript expression is true."""
        assert self.becomes(expression, seconds), f"{expression} is not: {self.evaluate('document.body.innerText')}"

    def upload(self, selector, path):
        """Choose a file in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def open_page(url, folder):
    """Yield a ``Tab`` of ``url``; ``folder`` holds the browser's profile."""
    flags = [*FLAGS, f"--user-data-dir={folder}", "--remote-debugging-port=0", "--remote-allow-origins=*"]
    process = subprocess.Popen([str(BROWSER), *flags, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file, end = folder / "DevToolsActivePort", time.monotonic() + 60
        while not port_file.is_file() or not port_file.read_text().strip():
            assert time.monotonic() < end, "the browser did not start"
            time.sleep(0.1)
        port = port_file.read_text().split()[0]
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
                pages = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if pages:
                break
            time.sleep(0.1)
        with connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)
