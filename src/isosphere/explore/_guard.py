"""Who is answered: the person who was given the address, and a page that came from it."""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # of the map's component
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
"""What the page may load: its own files, and nothing from a network."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

MOST_BYTES = 64 << 20
"""Bytes of a request at the most: of a picture that was dropped on the page."""


class Guard:
    """Passes on requests for ``/TOKEN/...`` on this machine's own names, from the page itself or typed by a person.

    The path is passed on without the token. Everything else is refused before anything is read: other host names (a
    page elsewhere whose name was made to point here), other origins, requests without the token, large ones.
    """

    def __init__(self, app: App, token: str, port: Callable[[], int]) -> None:
        self.app, self.token, self.port = app, token, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # lifespan is switched off, and there are no web sockets
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if status := self._refused(scope, headers):
            await _answer(send, status)
            return
        _, _, rest = scope["path"][1:].partition("/")
        if "/" not in scope["path"][1:]:
            await _answer(send, 307, location=f"/{self.token}/")
            return
        passed = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self.app(passed, receive, send_with_headers)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> int:
        """The status of a refusal; 0 for none."""
        port = self.port()
        names = [name + ("" if port == 80 else f":{port}") for name in ("127.0.0.1", "localhost")]
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        own = origin is None or origin in [f"http://{name}" for name in names]
        if headers.get("host") not in names or not own or site not in (None, "same-origin", "none"):
            return 403
        token = scope["path"][1:].partition("/")[0]
        if not secrets.compare_digest(token.encode("utf-8", "surrogateescape"), self.token.encode()):
            return 404
        length = headers.get("content-length", "0")
        return 0 if length.isdecimal() and int(length) <= MOST_BYTES else 413


async def _answer(send: Send, status: int, **headers: str) -> None:
    given = {**HEADERS, "content-length": "0", **headers}
    encoded = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b""})
