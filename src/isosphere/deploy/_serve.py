"""A bundle that answers over HTTP: vectors, search, classes."""

import asyncio
import ipaddress
import json
import logging
import math
import secrets
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isosphere.data import PIXELS, UnreadableImageError, dimensions, reason_of, require_pixels
from isosphere.deploy._batches import Batches, Outputs
from isosphere.deploy._runtime import Bundle, BundleError
from isosphere.errors import RunError, UsageError, option

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PACKAGES = ("starlette", "uvicorn")
MOST_MATCHES = 1000
_DECODERS = 2
_RETRY = "1"  # seconds


@dataclass(frozen=True)
class Limits:
    """What a service takes: `most_bytes` of a request, `most_pixels` of a picture, `queue` requests at once, `batch` of
    them through the network together, `upload` and `timeout` seconds until a request has come and is answered.
    """

    most_bytes: int = 20 << 20
    most_pixels: int = 50_000_000
    queue: int = 64
    batch: int = 16
    upload: float = 10.0
    timeout: float = 30.0


class _Answer(Exception):  # noqa: N818  (it ends a request, as an error or not)
    """An answer that ends a request: a status, and a sentence."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def require_service() -> None:
    """Raises: UsageError if the packages of a service are not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"a service needs {' and '.join(missing)}, which {verb} not installed. Type: pip install "
            + " ".join(missing)
        )


def open_bundle(folder: str | Path, *, threads: int = 0) -> Bundle:
    """A bundle whose files are whole, and whose pictures are read as here.

    Raises: UsageError if onnxruntime is not installed; RunError, which names the file, for what is no bundle, is cut
        short, or mixed of several.
    """
    if find_spec("onnxruntime") is None:
        raise UsageError("a bundle needs onnxruntime, which is not installed. Type: pip install onnxruntime")
    try:
        found = Bundle(folder, threads=threads)
    except BundleError as error:
        raise RunError(str(error)) from None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder} cannot be used: {reason_of(error)}.") from error
    if found.about.get("pixels") != PIXELS:
        raise RunError(
            f"{folder} was made by a version of isosphere that reads pictures otherwise (isosphere "
            f"{found.about.get('isosphere')}): serve it by that, or bundle the run again."
        )
    return found


def build_service(
    bundle: Bundle, *, limits: Limits = Limits(), token: str | None = None, loopback: bool = True
) -> App:
    """A bundle as an ASGI application: ``POST /embed``, ``/search``, ``/classify`` with a picture as the body, and
    ``GET /health``.

    Args:
        token: asked for by ``Authorization: Bearer TOKEN``, but of ``/health``; None: none is asked for.
        loopback: only this machine's own names, and no pages of other origins, are answered.
    """
    from starlette.applications import Starlette  # pyright: ignore[reportMissingImports]
    from starlette.exceptions import HTTPException  # pyright: ignore[reportMissingImports]
    from starlette.requests import Request  # pyright: ignore[reportMissingImports]
    from starlette.responses import JSONResponse, Response  # pyright: ignore[reportMissingImports]
    from starlette.routing import Route  # pyright: ignore[reportMissingImports]

    service = _Service(bundle, limits)
    marks = {"network": bundle.network, "layer": bundle.layer, "version": bundle.version}

    async def health(_: Request) -> Response:
        return JSONResponse(
            {"status": "ok", **marks, "images": len(bundle.vectors), "requests": service.taken}
        )

    async def embed(request: Request) -> Response:
        row = (await service.outputs(request, whole=False))["embeddings"]
        if request.headers.get("accept") == "application/octet-stream":
            headers = {f"x-{name}": value for name, value in marks.items()}
            return Response(
                row.astype("<f4").tobytes(), media_type="application/octet-stream", headers=headers
            )
        return JSONResponse({**marks, "dim": len(row), "vector": row.tolist()})

    async def search(request: Request) -> Response:
        k = _whole_number(request.query_params.get("k", "5"), MOST_MATCHES)
        if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
            row, other = _vector(await service.body(request), bundle), None
        else:
            outputs = await service.outputs(request, whole=True)
            row, other = outputs["embeddings"], outputs.get("copies")
        copies = None if other is None else other[None]
        (found,) = await service.threaded(bundle.nearest, row[None], k, copies)
        return JSONResponse({**marks, "matches": found})

    async def classify(request: Request) -> Response:
        if bundle.classifier is None:
            raise _Answer(404, "this bundle has no classifier")
        features = (await service.outputs(request, whole=False))["features"]
        return JSONResponse({**marks, **bundle.classes_of(features[None])[0]})

    def limited(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            with service.admitted():
                try:
                    async with asyncio.timeout(limits.timeout):
                        return await answer(request)
                except TimeoutError:
                    raise _Answer(
                        503, f"no answer within {limits.timeout:g} seconds: try again later"
                    ) from None

        return answered

    def refused(_: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, _Answer) else getattr(error, "status_code", 500)
        said = (
            str(error) if isinstance(error, _Answer) else getattr(error, "detail", "a fault of the service")
        )
        headers = {"retry-after": _RETRY} if status == 503 else {}
        if status in (408, 413, 503):  # what has not been read yet is not waited for
            headers["connection"] = "close"
        return JSONResponse({"error": said}, status_code=status, headers=headers)

    app = Starlette(
        routes=[
            Route("/health", health),
            *(
                Route(f"/{answer.__name__}", limited(answer), methods=["POST"], name=answer.__name__)
                for answer in (embed, search, classify)
            ),
        ],
        exception_handlers={_Answer: refused, HTTPException: refused, Exception: refused},
        lifespan=lambda app: service.working(),
    )
    return _Door(app, limits, token, loopback)


class _Service:
    """What the answers have in common: reading, decoding, the network; each bounded."""

    def __init__(self, bundle: Bundle, limits: Limits) -> None:
        self.bundle, self.limits, self.taken = bundle, limits, 0
        self.batches: Batches | None = None

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        self.threads = ThreadPoolExecutor(_DECODERS, "decoder")
        try:
            async with Batches(self.bundle.run, self.limits.batch) as self.batches:
                yield
        finally:
            self.threads.shutdown(wait=False, cancel_futures=True)

    def admitted(self) -> "_Place":
        """A place among the requests that are worked on, within the block. Raises: _Answer where there is none."""
        if self.taken >= self.limits.queue:
            raise _Answer(503, f"{self.limits.queue} requests are being answered: try again later")
        return _Place(self)

    async def threaded(self, what: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, what, *given)

    async def body(self, request: Any) -> bytes:
        """The bytes of a request. Raises: _Answer where they are too many or do not come."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.upload):
                async for part in request.stream():
                    size += len(part)
                    if size > self.limits.most_bytes:
                        raise too_large(self.limits)
                    parts.append(part)
        except TimeoutError:
            raise _Answer(408, f"the request did not come within {self.limits.upload:g} seconds") from None
        return b"".join(parts)

    async def outputs(self, request: Any, *, whole: bool) -> Outputs:
        """What the network says of the picture that is the body."""
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise _Answer(
                415, "a form was sent, expected the picture itself: curl --data-binary @picture.jpg URL"
            )
        body = await self.body(request)
        row = await self.threaded(self.prepared, body, whole)
        assert self.batches is not None
        found = await self.batches(row)
        if not all(np.isfinite(values).all() for values in found.values()):
            raise _Answer(422, "the network gives no vector of this picture: its numbers are not finite")
        return found

    def prepared(self, body: bytes, whole: bool) -> NDArray[np.float32]:
        """The picture in these bytes as the network takes it. Raises: _Answer if they are none."""
        try:
            require_pixels(*dimensions(body), self.limits.most_pixels)
            return self.bundle.prepare(body, whole=whole)
        except (MemoryError, UnreadableImageError) as error:
            raise _Answer(400, f"this is no picture that can be read: {reason_of(error)}") from None
        except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
            raise _Answer(400, f"this is no picture that can be read: {reason_of(error)}") from error


class _Place:
    """One of the requests that are worked on."""

    def __init__(self, service: _Service) -> None:
        self.service = service

    def __enter__(self) -> None:
        self.service.taken += 1

    def __exit__(self, *failure: object) -> None:
        self.service.taken -= 1


class _Door:
    """Who is answered: before anything of a request is read."""

    def __init__(self, app: App, limits: Limits, token: str | None, loopback: bool) -> None:
        self.app, self.limits, self.loopback = app, limits, loopback
        self.expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await _answer(send, refusal)
            return
        if scope["type"] in ("http", "lifespan"):
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> _Answer | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self.loopback and not _of_this_machine(headers):
            return _Answer(403, "only programs of this machine are answered")
        given = headers.get(b"authorization", b"")
        open_to_all = self.expected is None or scope["path"] == "/health"
        if not (open_to_all or secrets.compare_digest(given, self.expected or b"")):
            return _Answer(401, "a token is needed: Authorization: Bearer TOKEN")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.limits.most_bytes:
            return too_large(self.limits)
        return None


def too_large(limits: Limits) -> _Answer:
    return _Answer(413, f"the request is larger than the {limits.most_bytes / 2**20:g} MiB that are taken")


def _of_this_machine(headers: dict[bytes, bytes]) -> bool:
    """Whether a request is for a name of this machine, and not of a page from elsewhere."""
    host = headers.get(b"host", b"").decode("latin-1")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    origin = headers.get(b"origin", b"").decode("latin-1").partition("://")[2]
    site = headers.get(b"sec-fetch-site", b"none")
    return is_loopback(name) and origin in ("", host) and site in (b"none", b"same-origin")


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's alone."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


async def _answer(send: Send, answer: _Answer) -> None:
    body = json.dumps({"error": str(answer)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if answer.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _whole_number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most and len(text) < 9):
        raise _Answer(400, f"k: got {text[:20]!r}, expected a whole number from 1 to {most}")
    return int(text)


def _vector(body: bytes, bundle: Bundle) -> NDArray[np.float32]:
    """The vector of a request, ``{"vector": [...], "network": "..."}``. Raises: _Answer for what is none."""
    expected = f'expected {{"vector": [{bundle.dim} numbers], "network": "..."}}, as /embed gives'
    try:
        given = json.loads(body)
        row = np.asarray(given["vector"], np.float32)
        network = given["network"]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise _Answer(400, expected) from None
    if network != bundle.network:
        raise _Answer(409, "the vector is of another network than this index, and cannot be compared with it")
    if row.shape != (bundle.dim,) or not np.isfinite(row).all():
        raise _Answer(400, expected)
    return row


def serve_bundle(
    bundle: Bundle,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits = Limits(),
    token: str | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Answer until it is stopped by Ctrl-C or SIGTERM: requests that have come are answered first.

    `ready` is called with the address. Port 0: any that is free.

    Raises: UsageError if the packages are missing, the port is taken, or there is no token for a network.
    """
    require_service()
    import uvicorn  # pyright: ignore[reportMissingImports]

    local = is_loopback(host)
    if not (local or token):
        raise UsageError(f"{option('host', host)} is open to a network: give a token.")
    with _listening(host, port) as socket_:
        found = socket_.getsockname()[1]
        app = build_service(bundle, limits=limits, token=token, loopback=local)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="error",
                access_log=False,
                lifespan="on",
                ws="none",
                server_header=False,
                timeout_keep_alive=5,
                limit_concurrency=4 * limits.queue,
                timeout_graceful_shutdown=math.ceil(limits.timeout),
            )
        )
        warnings.filterwarnings("ignore", module="PIL")  # what is damaged is said to the client
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        ready(f"http://{f'[{host}]' if ':' in host else host}:{found}")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[socket_])


def _listening(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        raise UsageError(
            f"{option('host', host)} and {option('port', port)} cannot be had ({error})."
        ) from error
    made.listen()
    return made
