"""Files behind an address, by fsspec: listed once, read in parts, and refused as soon as they have changed."""

import base64
import importlib
import io
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote

from isosphere.addresses import Secrets, secrets_of, without_secrets
from isosphere.errors import RemoteError, UsageError

from ._braces import expand_braces

S = TypeVar("S")
T = TypeVar("T")

PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "https": "aiohttp",
    "http": "aiohttp",
}
"""Schemes of addresses, and the package by which fsspec reads each."""

_WEB = ("http", "https")
_WAITS = (0.5, 2.0, 6.0)
"""Seconds before the second, third and fourth try."""

_CONNECT, _SILENCE = 15.0, 30.0
"""Seconds in which a web server has to accept a connection, and to send something."""

_RENEWED = 60.0
"""Seconds after which a store is asked again which version of a file it holds, where it takes no condition."""

_AT_ONCE = 16
"""Requests of a process at the same time."""

_LEAST, _MOST, _NEAR = 1 << 16, 1 << 23, 1 << 20
"""Bytes that are read ahead at first and at the most, and a gap that is rather read than jumped over."""


class _ChangedError(Exception):
    """A file is not the one that was listed."""


class _WholeOnlyError(Exception):
    """A web server answers a request for a part with all of the file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file behind an address: its length, and what its store says of the version (an ETag, a digest, a date; empty
    for nothing). Every process opens connections of its own.
    """

    place: str
    size: int
    version: str
    secrets: Secrets = field(default=Secrets(), repr=False)

    @property
    def path(self) -> PurePosixPath:
        """The address as a path, for names and folders."""
        return PurePosixPath(self.place)

    def __str__(self) -> str:
        return self.place

    @property
    def state(self) -> str | None:
        """What changes with the content; None where the store says nothing that does."""
        return f"{self.place}\0{self.size}\0{self.version}" if self.version else None

    def read(self, start: int = 0, size: int | None = None) -> bytes:
        """So many bytes from `start` on, all of the rest if None.

        Raises: RemoteError, where several tries have failed or the file is not the one that was listed.
        """
        size = self.size - start if size is None else size
        if size <= 0:
            return b""

        def part() -> bytes:
            body = _fetch(self, start, start + size)
            if len(body) != size:
                raise OSError(f"{len(body):,} of {size:,} bytes came")
            return body

        try:
            return _patiently(self.place, part)
        except FileNotFoundError:
            raise RemoteError(f"{self.place} is no longer there.") from None
        except _WholeOnlyError:
            raise RemoteError(
                f"{self.place}: the server sent something else than the part that was asked for, such as a page to "
                "sign in."
            ) from None
        except PermissionError as error:
            raise _refusal(self.place, error) from None

    def open(self) -> BinaryIO:
        """A stream that reads ahead: more each time while what is asked for lies close together."""
        return cast(BinaryIO, _ReadAhead(self))

    def beside(self, shown: str, name: str) -> bytes | None:
        """A small file in the folder from which this one is called `shown`; None where there is none, or it is not to
        be seen.
        """
        try:  # a signature may be that of one file, or of all
            return _file(self.place.removesuffix(shown) + name, self.secrets).read()
        except (FileNotFoundError, PermissionError, _WholeOnlyError):
            return None


class _ReadAhead(io.RawIOBase):
    def __init__(self, file: RemoteFile) -> None:
        self._file, self._place, self._start, self._held, self._length = file, 0, 0, b"", _LEAST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence, self._file.size))
        return self._place

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._file.size - self._place)
        if size <= 0:
            return 0
        first = self._place - self._start
        if not 0 <= first <= first + size <= len(self._held):
            near = 0 <= first - len(self._held) <= _NEAR or 0 <= first <= len(self._held)
            self._length = min(2 * self._length, _MOST) if near else _LEAST
            length = min(max(size, self._length), self._file.size - self._place)
            self._start, self._held, first = self._place, self._file.read(self._place, length), 0
        buffer[:size] = self._held[first : first + size]
        self._place += size
        return size


def require_known(address: str) -> None:
    """Raises: UsageError for an address of a kind that is not read, or whose package is not installed."""
    scheme = _scheme(address)
    if scheme not in PACKAGES:
        local = " Type the path alone." if scheme == "file" else ""
        raise UsageError(
            f"{address} is an address of a kind that is not read; expected s3://, gs://, hf:// or https://.{local}"
        )
    try:
        for package in ("fsspec", PACKAGES[scheme]):
            importlib.import_module(package)
    except ImportError as error:
        raise UsageError(
            f"{address} is read by fsspec and {PACKAGES[scheme]}, and {error.name} is not installed. Type: pip install "
            f"fsspec {PACKAGES[scheme]}, or fetch the files and give their folder."
        ) from error


def listed(address: str) -> list[RemoteFile]:
    """The files that an address stands for, in the order of their names: one, those of braces and wildcards, or all
    below a folder. Where a store lists folders, each is asked for once.

    Raises: UsageError for names that lead to no file, and for what a web server cannot tell; RemoteError where nobody
        answers, or access is refused.
    """
    require_known(address)
    secrets, names = secrets_of(address), expand_braces(address)
    try:
        found = _on_the_web(names, secrets) if _scheme(address) in _WEB else _in_a_store(names, secrets)
    except _WholeOnlyError:
        raise UsageError(
            f"{address}: the server sends whole files only (it takes no Range), and images are read in parts. Fetch "
            "the files first (curl -O) and give their folder."
        ) from None
    except PermissionError as error:
        raise _refusal(address, error) from None
    absent = [name for name in names if not found.get(name)]
    if absent:
        some = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise UsageError(
            f"{address}: {len(absent)} of {len(names)} {'names lead' if len(names) > 1 else 'name leads'} to no file "
            f"({some}). Correct the address."
        )
    return list({file.place: file for name in names for file in found[name]}.values())


def _scheme(address: str) -> str:
    return address.partition("://")[0]


def _on_the_web(names: list[str], secrets: Secrets) -> dict[str, list[RemoteFile]]:
    """The files of a web server, by name: it lists nothing, and is asked for each."""
    # Behind the host, which may be [::1].
    paths = {name: name.partition("://")[2].partition("/")[2] for name in names}
    vague = next((name for name, path in paths.items() if name.endswith("/") or set("*[") & set(path)), None)
    if vague is not None:
        raise UsageError(
            f"{vague}: a web server does not list its files, so that folders and wildcards cannot be read. Type their "
            "names, as in https://host/train-{000..063}.tar."
        )
    found: dict[str, list[RemoteFile]] = {}

    def ask(name: str) -> None:
        try:
            found[name] = [_file(name, secrets)]
        except FileNotFoundError:
            found[name] = []

    in_parallel(ask, names)
    return found


def _in_a_store(names: list[str], secrets: Secrets) -> dict[str, list[RemoteFile]]:
    """The files of a store that lists folders, by name; several of one folder by one listing."""
    system, scheme = _system(_scheme(names[0]), secrets), _scheme(names[0])
    system.invalidate_cache()

    def files(entries: Iterable[Mapping[str, Any]]) -> list[RemoteFile]:
        kept = [entry for entry in entries if entry.get("type") == "file"]
        found = [_listed_file(f"{scheme}://{entry['name']}", entry, secrets) for entry in kept]
        return sorted(found, key=lambda file: file.place)

    def ask(name: str, look: Callable[[str], Any]) -> Any:
        try:
            return _patiently(name, lambda: look(system._strip_protocol(name)))
        except FileNotFoundError:
            return {}

    wild = [name for name in names if any(c in name for c in "*?[")]
    found = {name: files(ask(name, lambda path: system.glob(path, detail=True)).values()) for name in wild}
    plain = [name for name in names if name not in found]
    if len(plain) == 1:
        entry = ask(plain[0], system.info)
        below = entry.get("type") == "directory"
        entries = ask(plain[0], lambda path: system.find(path, detail=True)).values() if below else [entry]
        return found | {plain[0]: files(entries)}
    for folder in dict.fromkeys(name.rpartition("/")[0] for name in plain):
        entries = {
            file.place: file for file in files(ask(folder, lambda path: system.ls(path, detail=True)) or ())
        }
        inside = [name for name in plain if name.rpartition("/")[0] == folder]
        found |= {name: [entries[name]] if name in entries else [] for name in inside}
    return found


def _file(place: str, secrets: Secrets) -> RemoteFile:
    """One file, as its store describes it. Raises: FileNotFoundError, PermissionError."""
    if _scheme(place) in _WEB:

        def ask() -> RemoteFile:
            _, size, version = _from_the_web(place, secrets, 0, 1)
            return RemoteFile(place, size, version, secrets)

        return _patiently(place, ask)
    system = _system(_scheme(place), secrets)
    entry = _patiently(place, lambda: system.info(system._strip_protocol(place)))
    return _listed_file(place, entry, secrets)


def _listed_file(place: str, entry: Mapping[str, Any], secrets: Secrets) -> RemoteFile:
    return RemoteFile(place, int(entry.get("size") or 0), _version(entry), secrets)


_VERSIONS = (
    *("etag", "generation", "blob_id", "content-md5"),
    *("lastmodified", "last-modified", "last_modified", "updated", "mtime"),
)
"""What stores call the version of a file, digests before dates."""


def _version(entry: Mapping[str, Any]) -> str:
    """What a store's entry, or a web server's headers, say that changes with the content."""
    facts = {str(name).lower(): value for name, value in entry.items()}
    return next((str(facts[name]).strip('"') for name in _VERSIONS if facts.get(name)), "")


# --- connections ------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_systems: dict[tuple[int, str, Secrets], Any] = {}
_handles: dict[tuple[int, RemoteFile], tuple[float, Any]] = {}
_renewed: dict[Any, float] = {}
"""Filesystems, open files with the time, and when listings were dropped, by process: a connection does not survive a
fork, and those of the parent are kept as they are.
"""


def _in_a_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)


def in_parallel(do: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """``do`` for each, several at a time: most of it is waiting for an answer."""
    pool = ThreadPoolExecutor(min(_AT_ONCE, max(1, len(items))))
    try:
        return list(pool.map(do, items))
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C, or when one has failed, wait for what has begun


def _system(scheme: str, secrets: Secrets) -> Any:
    """The filesystem of fsspec; its listings are not kept, since files may be added."""
    with _lock:
        key = os.getpid(), scheme, Secrets(secrets.login)
        if key not in _systems:
            options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
            user, password = _login(secrets)
            if scheme in _WEB:
                limits = importlib.import_module("aiohttp").ClientTimeout
                patience = limits(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
                options["client_kwargs"] = {"timeout": patience, "trust_env": True}  # proxies, ~/.netrc
            elif user:
                options |= {"key": user, "secret": password}
            _systems[key] = importlib.import_module("fsspec").filesystem(scheme, **options)
        return _systems[key]


def _login(secrets: Secrets) -> tuple[str, str]:
    """User, or key, and password."""
    user, _, password = secrets.login.partition(":")
    return unquote(user), unquote(password)


def _fetch(file: RemoteFile, start: int, end: int) -> bytes:
    """The bytes of one request, of the version that was listed."""
    if _scheme(file.place) in _WEB:
        body, size, version = _from_the_web(file.place, file.secrets, start, end)
        if (size, version) != (file.size, file.version):
            raise _ChangedError
        return body
    return _handle(file)._fetch_range(start, end)


def _handle(file: RemoteFile) -> Any:
    """The file as fsspec opens it, once in a while: to open it is to ask for its version. S3 takes the version as the
    condition of every request.
    """
    key, now = (os.getpid(), file), time.monotonic()
    opened, handle = _handles.get(key, (0.0, None))
    if handle is None or (now - opened > _RENEWED and _scheme(file.place) != "s3"):
        system = _system(_scheme(file.place), file.secrets)
        if now - _renewed.get(system, 0.0) > _RENEWED:
            system.invalidate_cache()  # huggingface_hub keeps listings in any case
            _renewed[system] = now
        handle = system.open(system._strip_protocol(file.place), "rb", cache_type="none")
        if _listed_file(file.place, handle.details, file.secrets) != file:
            raise _ChangedError
        _handles[key] = now, handle
    return handle


def _from_the_web(place: str, secrets: Secrets, start: int, end: int) -> tuple[bytes, int, str]:
    """A part of a web server's file, the length of the whole, and its version."""
    system = _system(_scheme(place), secrets)
    url = system.encode_url(place)
    if secrets.query:  # as it was signed
        url = importlib.import_module("yarl").URL(str(url).partition("?")[0] + secrets.query, encoded=True)

    async def ask() -> tuple[bytes, int, str]:
        session = await system.set_session()
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        if secrets.login:
            words = base64.b64encode(":".join(_login(secrets)).encode()).decode()
            headers["Authorization"] = f"Basic {words}"
        async with session.get(url, headers=headers, **system.kwargs) as answer:
            if answer.status == 404:
                raise FileNotFoundError(place)
            if answer.status in (401, 403):
                raise PermissionError(f"{answer.status} {answer.reason}")
            sent = answer.headers.get("Content-Range", "")
            if answer.status == 416:
                return b"", int(sent.rpartition("/")[2] or 0), _version(answer.headers)
            answer.raise_for_status()
            part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", sent.strip())
            if answer.status != 206 or part is None:
                raise _WholeOnlyError
            if int(part[1]) != start:
                raise ValueError(f"bytes from {part[1]} on came, and those from {start} on were asked for")
            return await answer.read(), int(part[2]), _version(answer.headers)

    return importlib.import_module("fsspec.asyn").sync(system.loop, ask)


def _patiently(place: str, ask: Callable[[], T]) -> T:
    """What a store answers, asked again after a while where it does not.

    Raises: RemoteError in words; FileNotFoundError, PermissionError and _WholeOnlyError as they are.
    """
    begun, waits = time.monotonic(), iter(_WAITS)
    while True:
        try:
            return ask()
        except (FileNotFoundError, PermissionError, _WholeOnlyError):
            raise
        except Exception as error:
            if isinstance(error, _ChangedError) or type(error).__name__ == "FileExpired":  # that of s3fs
                raise RemoteError(
                    f"{place} has changed since it was listed. Begin again with the files as they are now."
                ) from None
            if type(error).__name__ == "NoCredentialsError":  # that of botocore
                raise PermissionError("no credentials were found") from None
            wait = None if _is_final(error) else next(waits, None)
            if wait is None:
                tried = f" (tried for {time.monotonic() - begun:.0f} s)" * (not _is_final(error))
                raise RemoteError(f"{place} cannot be read: {_reason(error)}{tried}.") from None
            if wait == _WAITS[0]:
                warnings.warn(f"{place}: {_reason(error)}. Asked again, a few times ...", stacklevel=1)
        time.sleep(wait)


def _is_final(error: Exception) -> bool:
    """Whether a web server would say the same again."""
    status = getattr(error, "status", 0)
    return isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)


def _reason(error: Exception) -> str:
    """An exception of somebody else in a few words, on one line, without secrets."""
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "it does not answer"
    if type(error).__name__ == "TooManyRedirects":  # that of aiohttp
        return "it is redirected without end"
    if isinstance(status := getattr(error, "status", None), int):
        return f"{status} {getattr(error, 'message', '')}".strip()
    lines = without_secrets(str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _refusal(place: str, error: PermissionError) -> RemoteError:
    """The error where access is refused, with what to do."""
    scheme = _scheme(place)
    if scheme in _WEB:
        hint = (
            "Type the whole address, in quotes: it is kept without its password or signature. A password may stand in "
            "~/.netrc instead."
        )
    else:
        hint = f"The credentials are those that {PACKAGES[scheme]} finds (environment, configuration)."
    if scheme == "s3":
        hint += " For a public bucket set FSSPEC_S3_ANON=true."
    return RemoteError(f"{place}: access is refused ({_reason(error).lower()}). {hint}")
