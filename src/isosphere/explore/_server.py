"""The page, served to this machine alone."""

import json
import re
import secrets
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isosphere.errors import IsosphereError, UsageError, option, wording
from isosphere.explore._annotations import Annotations
from isosphere.explore._collection import NEIGHBOURS
from isosphere.explore._guard import MOST_BYTES, App, Guard
from isosphere.explore._page import Page
from isosphere.explore._resources import MissingError, Resources, found_json
from isosphere.tabular import decode_name

STATIC = Path(__file__).parent / "static"
FILES = {"": "text/html", "app.js": "text/javascript", "app.css": "text/css"}
"""What the page consists of, and its types; ``""`` is index.html."""


def require_packages() -> None:
    """Raises: UsageError if the packages that serve a page are not installed."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"a page that answers needs {' and '.join(missing)}, which {verb} not installed. Type: "
            f"pip install {' '.join(missing)}"
            + wording(shell=", or write files that need no server: --export FOLDER", python="")
        )


def build_app(page: Page, *, token: str | None = None, port: Callable[[], int] = lambda: 80) -> Guard:
    """The page as an ASGI application under ``/TOKEN/``, for a server on 127.0.0.1 at this port."""
    from starlette.applications import Starlette  # pyright: ignore[reportMissingImports]
    from starlette.concurrency import run_in_threadpool  # pyright: ignore[reportMissingImports]
    from starlette.requests import Request  # pyright: ignore[reportMissingImports]
    from starlette.responses import JSONResponse, Response  # pyright: ignore[reportMissingImports]
    from starlette.routing import Route  # pyright: ignore[reportMissingImports]

    count = len(page.resources.collection)

    def file(request: Request) -> Response:
        name = request.path_params.get("name", "")
        if name not in FILES:
            return Response(status_code=404)
        return Response((STATIC / (name or "index.html")).read_bytes(), media_type=FILES[name])

    def data(request: Request) -> Response:
        return JSONResponse(page.resources.get(request.path_params["name"], request.query_params))

    def notes(request: Request) -> Response:
        return JSONResponse(page.annotations.read())

    def picture(request: Request) -> Response:
        row = request.path_params["row"]
        if row >= count:
            return Response(status_code=404)
        make = page.pictures.thumbnail if request.path_params["kind"] == "thumbs" else page.pictures.large
        return Response(
            make(row), media_type="image/webp", headers={"cache-control": "private, max-age=3600"}
        )

    async def search(request: Request) -> Response:
        if page.resources.collection.searching is None:
            return Response(status_code=404)
        body = await _body(request)
        return JSONResponse(await run_in_threadpool(_searched, page.resources, body, request.query_params))

    async def change(request: Request) -> Response:
        try:
            given = json.loads(await _body(request))
            await run_in_threadpool(_changed, page.annotations, count, request.path_params["what"], given)
        except (ValueError, TypeError, KeyError, LookupError):
            return JSONResponse({"error": "this is no such change"}, status_code=400)
        return JSONResponse(await run_in_threadpool(page.annotations.read))

    def refused(_: Request, error: Exception) -> Response:
        status = 400 if isinstance(error, UsageError) else 500
        return JSONResponse({"error": str(error)}, status_code=status)

    def missing(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": "there is nothing of this name"}, status_code=404)

    app = Starlette(
        routes=[
            Route("/data/annotations.json", notes),
            Route("/data/{name:path}.json", data),
            Route("/annotations/{what}", change, methods=["POST"]),
            Route("/search", search, methods=["POST"]),
            Route("/{kind}/{row:int}.webp", picture),
            Route("/{name}", file),
            Route("/", file),
        ],
        exception_handlers={
            IsosphereError: refused,
            MissingError: missing,
            _TooLargeError: lambda *_: Response(status_code=413),
        },
    )
    return Guard(app, token or secrets.token_urlsafe(24), port)


class _TooLargeError(Exception):
    """A request of more bytes than are taken."""


async def _body(request: Any) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise _TooLargeError
        parts.append(part)
    return b"".join(parts)


def _searched(resources: Resources, body: bytes, query: Any) -> dict[str, Any]:
    """What is most like the picture in these bytes. Raises: UsageError if they are none."""
    layer = query.get("layer") or resources.collection.layers[0]
    if layer not in resources.collection.layers:
        raise MissingError(layer)
    with tempfile.TemporaryDirectory(prefix="isosphere-") as folder:
        picture = Path(folder) / "dropped.png"  # its kind is told by its content
        picture.write_bytes(body)
        try:
            found = resources.collection.search(picture, layer, NEIGHBOURS)
        except UsageError as error:
            raise UsageError(str(error).replace(str(picture), "what was dropped")) from None
    return found_json(found)


def _changed(annotations: Annotations, count: int, what: str, given: Any) -> None:
    """Write a change down. Raises: ValueError, TypeError, KeyError for what is none."""
    rows = given["rows"]
    if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < count for row in rows):
        raise ValueError("rows")
    name = given.get("label")
    if name is not None and not (isinstance(name, str) and 0 < len(name.strip()) <= 200):
        raise ValueError("label")
    if name is not None and not name.isascii() and re.search("[\ud800-\udfff]", name):
        raise ValueError("half a character")  # which no file can hold
    name = name if name is None else " ".join(name.split())
    if what == "labels":
        annotations.label(rows, None if name is None else decode_name(name))
    elif what == "hidden":
        if not isinstance(given["hidden"], bool):
            raise ValueError("hidden")
        annotations.hide(rows, hidden=given["hidden"])
    elif what == "clusters" and len(rows) == 1:
        annotations.name_cluster(rows[0], name)
    else:
        raise ValueError(what)


def serve(page: Page, *, port: int = 0, ready: Callable[[str], None] = print) -> None:
    """Serve the page on 127.0.0.1 until it is stopped; `ready` is called with its address. Port 0: any that is free.

    Raises: UsageError if the packages are missing or the port is taken.
    """
    require_packages()
    import uvicorn  # pyright: ignore[reportMissingImports]

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"{option('port', port)} cannot be had ({error}): leave it out, and a free one is taken."
            ) from error
        found = listening.getsockname()[1]
        app: App = build_app(page, port=lambda: found)
        settings: dict[str, Any] = {
            "log_level": "error",
            "access_log": False,
            "lifespan": "off",
            "ws": "none",
        }
        server = uvicorn.Server(
            uvicorn.Config(app, **settings, timeout_graceful_shutdown=1, server_header=False)
        )
        listening.listen()
        ready(f"http://127.0.0.1:{found}/{app.token}/")  # pyright: ignore[reportAttributeAccessIssue]
        with suppress(KeyboardInterrupt):  # how a page is ended
            server.run(sockets=[listening])
