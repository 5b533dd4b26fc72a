"""A web server on this machine that serves files as badly as it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file, and what is wrong with how it is served.

    Attributes:
        body: the file.
        tag: its ETag; "" for none.
        ranges: "honoured", "ignored", or "careless": given even if the file is another by now.
        cuts: bytes after which the next answers break off.
        failures: HTTP codes of the next answers.
        headers: further ones, which come first.
        length: say how long the answer is.
    """

    body: bytes = b""
    tag: str = '"one"'
    ranges: str = "honoured"
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    length: bool = True


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by path and notes (path, Range) of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str | None]] = []

    def serve(self, path: str, body: bytes, **how) -> str:
        """Serve ``body`` at ``path`` and return its URL."""
        self.files[path] = Served(body, **how)
        return self.url(path)

    def handle_error(self, request, client_address) -> None:
        """Stay silent about clients that hang up."""

    def url(self, path: str) -> str:
        """Return the URL of ``path``."""
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        path, wanted = self.path.lstrip("/"), self.headers.get("Range")
        self.server.requests.append((path, wanted))
        served = self.server.files.get(path)
        if served is None:
            self.send_error(404)
        elif served.failures:
            self.send_response(served.failures.pop(0))
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.end_headers()
        else:
            self._answer(served, wanted)

    def _answer(self, served: Served, wanted: str | None) -> None:
        same = self.headers.get("If-Range") == served.tag or served.ranges == "careless"
        start = int(wanted[len("bytes=") : -1]) if wanted and same and served.ranges != "ignored" else 0
        total = len(served.body)
        if start >= total > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        for name, value in served.headers.items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if served.tag:
            self.send_header("ETag", served.tag)
        if served.length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write(served.body[start:][: served.cuts.pop(0) if served.cuts else None])

    def log_message(self, *args) -> None:
        """Stay silent."""


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a server until the end of the context."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
