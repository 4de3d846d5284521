"""A Hub of one data set for tests, ``datasets/me/set``: what huggingface_hub's filesystem asks of the real one."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_API, _FILES = "/api/datasets/me/set", "/datasets/me/set/resolve/main/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder, asked = None, None

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = urlsplit(self.path)
        self.asked.append(self.path)
        if parts.path.startswith(_FILES):
            return self._file(self.folder / unquote(parts.path.removeprefix(_FILES)))
        if parts.path.startswith(f"{_API}/tree/main"):
            place = self.folder / unquote(parts.path.removeprefix(f"{_API}/tree/main")).strip("/")
            if not place.is_dir():
                return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            files = place.rglob("*") if "recursive=true" in parts.query.lower() else place.iterdir()
            return self._answer(200, json.dumps([self._entry(file) for file in sorted(files)]).encode())
        if parts.path.startswith(_API):
            return self._answer(200, json.dumps({"id": "me/set", "sha": "a" * 40, "tags": []}).encode())
        return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _entry(self, file):
        path = str(file.relative_to(self.folder))
        if file.is_dir():
            return {"type": "directory", "path": path, "oid": "0" * 40}
        body = file.read_bytes()
        return {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}

    def _file(self, file):
        body = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked:
            return self._answer(200, body)
        first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
        return self._answer(
            206, body[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        )

    def _answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def hub_of(folder):
    """The address of a Hub, and the list of what was asked of it."""
    asked = []
    made = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (_Handler,), {"folder": folder, "asked": asked})
    )
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}", asked
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
