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
        cuts: bytes after which the next answers break off.
        failures: HTTP codes of the next answers.
        headers: further ones, which come first.
        length: say how long the answer is.
    """

    body: bytes = b""
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    length: bool = True


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by path and notes the path of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.requests: list[str] = []

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
        path = self.path.lstrip("/")
        self.server.requests.append(path)
        served = self.server.files.get(path)
        if served is None:
            self.send_error(404)
        elif served.failures:
            self.send_response(served.failures.pop(0))
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.end_headers()
        else:
            self._answer(served)

    def _answer(self, served: Served) -> None:
        self.send_response(200)
        for name, value in served.headers.items():
            self.send_header(name, value)
        if served.length:
            self.send_header("Content-Length", str(len(served.body)))
        self.end_headers()
        self.wfile.write(served.body[: served.cuts.pop(0) if served.cuts else None])

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
