"""A web server of a folder for tests: it takes Range or not, asks for a password or not, and counts what it sends."""

import base64
import hashlib
import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Web:
    """The server: its address, what was asked of it, and how it behaves."""

    folder: Path
    port: int = 0
    ranges: bool = True
    etags: bool = True
    password: str = ""
    signature: str = ""
    cut_after: int | None = None  # requests, after which bodies end in the middle
    shift: int = 0  # bytes that a part begins too late
    failures: int = 0  # so many of the next requests get 503
    asked: list[tuple[str, str, int]] = field(default_factory=list)  # path, range, bytes sent
    connections: set[socket.socket] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bytes(self) -> int:
        return sum(size for _, _, size in self.asked)

    def forget(self) -> None:
        self.asked.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def setup(self):
        super().setup()
        self.web.connections.add(self.connection)

    def finish(self):
        self.web.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):
        web, parts = self.web, urlsplit(self.path)
        file = web.folder / unquote(parts.path).lstrip("/")
        if web.failures:
            web.failures -= 1
            return self._answer(503, b"")
        login = base64.b64encode(web.password.encode()).decode()
        if web.password and self.headers.get("Authorization") != f"Basic {login}":
            return self._answer(401, b"")
        if web.signature and parts.query != web.signature:
            return self._answer(403, b"")
        if parts.path.startswith("/round/"):
            return self._answer(302, b"", {"Location": self.path})
        if not file.is_file():
            return self._answer(404, b"")
        body = file.read_bytes()
        headers = {}
        if web.etags:
            headers["ETag"] = f'"{hashlib.md5(body).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not (asked and web.ranges):
            return self._answer(200, body, headers)
        first, last = int(asked[1]) + web.shift, min(int(asked[2]) + web.shift, len(body) - 1)
        if first >= len(body):
            return self._answer(416, b"", headers | {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return self._answer(206, body[first : last + 1], headers)

    def _answer(self, status, body, headers=None):
        web = self.web
        cut = web.cut_after is not None and len(web.asked) >= web.cut_after
        web.asked.append((self.path, self.headers.get("Range", ""), len(body)))
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):  # a client that has gone
        pass


@contextmanager
def serving(folder: Path, **how):
    """A web server of a folder; ``web.stop()`` ends it early, on a port that nobody answers then."""
    web = Web(folder, **how)
    server = _Server(("127.0.0.1", web.port), type("Handler", (_Handler,), {"web": web}))
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def stop():
        server.shutdown()
        with suppress(OSError):  # forked workers hold it too
            server.socket.shutdown(socket.SHUT_RDWR)
        server.server_close()
        for connection in list(web.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()

    web.stop = stop
    try:
        yield web
    finally:
        if thread.is_alive():
            stop()
