"""Decoded pictures on the disk, where memory does not hold them: each is decoded once, not once an epoch."""

import hashlib
import json
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._cache import cache_folder
from ._identity import stamps
from ._pixels import PIXELS
from ._source import Source

if TYPE_CHECKING:
    import lmdb

_HEAD = struct.Struct("<4I")  # CRC-32 of the pixels; channels, height, width
_PAGE = 2**16
_LEAST = 2**20


class DecodedCache:
    """Pictures of a source as uint8 tensors in an LMDB environment, up to ``limit`` bytes in all.

    A picture is known by what its file was when the cache was opened (:func:`~isosphere.data.stamps`); of what nothing
    is known, nothing is kept. Any number of processes read and write at once. A process that is killed leaves what was
    written before; a picture whose checksum is another is decoded again. A second one of the same folder in one process
    keeps nothing while the first is open. When the limit is reached nothing more is written: an epoch asks for each
    picture once, so that none is worth more than another.

    Args:
        folder: the environment, made where it is not there.
        keys: int64 (n, 2), of the pictures by position; zeros for one that is not kept.
        limit: in bytes.
    """

    def __init__(self, folder: Path, keys: NDArray[np.int64], limit: int) -> None:
        self.folder, self.keys = folder, keys
        self.limit = max(_LEAST, limit - limit % _PAGE)
        self._opened: tuple[int, lmdb.Environment | None] | None = None
        self._writes = True

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def close(self) -> None:
        """Give this process's hold on the environment back; the next use opens it again."""
        if self._opened is not None and self._opened[0] == os.getpid() and self._opened[1] is not None:
            self._opened[1].close()
        self._opened = None

    def read(self, positions: Iterable[int]) -> dict[int, Tensor]:
        """Those of the pictures at these positions that are there."""
        import lmdb

        found = {}
        with suppress(lmdb.Error, OSError):
            if (environment := self._environment()) is not None:
                with environment.begin(buffers=True) as transaction:
                    for i in positions:
                        value = transaction.get(self.keys[i].tobytes())
                        if value is not None and (picture := _unpacked(value)) is not None:
                            found[i] = picture
        return found

    def add(self, pictures: Mapping[int, Tensor]) -> None:
        """Keep the pictures at these positions, all or, where there is no room for them, none."""
        import lmdb

        rows = [(self.keys[i].tobytes(), x) for i, x in pictures.items() if self.keys[i].any()]
        if not rows or not self._writes:
            return
        try:
            if (environment := self._environment()) is not None:
                with environment.begin(write=True) as transaction:
                    for key, picture in rows:
                        transaction.put(key, _packed(picture))
        except (lmdb.Error, OSError):  # it is full, or the disk is
            self._writes = False

    def _environment(self) -> "lmdb.Environment | None":
        """This process's own: one that was opened before a fork must not be used after it."""
        import lmdb

        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                # A lost last transaction is only decoded again; all others are on the disk once they are ended.
                made = lmdb.open(str(self.folder), map_size=self.limit, metasync=False, readahead=False)
                made.reader_check()  # places of processes that were killed
            except (lmdb.Error, OSError):
                made = None
            self._opened = os.getpid(), made
        return self._opened[1]


def _packed(picture: Tensor) -> bytes:
    pixels = picture.contiguous().numpy().tobytes()
    return _HEAD.pack(zlib.crc32(pixels), *picture.shape) + pixels


def _unpacked(value: memoryview) -> Tensor | None:
    checksum, *shape = _HEAD.unpack_from(value)
    pixels = bytearray(value[_HEAD.size :])
    if zlib.crc32(pixels) != checksum:
        return None
    return torch.frombuffer(pixels, dtype=torch.uint8).reshape(shape)


def decoded_folder(source: Source, size: int, *, whole: bool) -> Path:
    """Where the pictures of a source are kept that become so large, as this version decodes them, on this host."""
    reading = source.reading
    made = {
        "source": source.location or source.name,
        "size": size,
        "whole": whole,
        "pixels": PIXELS,
        "reading": repr(reading),
        "host": socket.gethostname(),  # processes of two hosts must not share one over a network's disk
    }
    name = hashlib.blake2b(json.dumps(made).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return cache_folder() / "decoded" / name


def disk_room(most: int) -> int:
    """Bytes that all caches together may take by default: a quarter of what the disk has free besides, at most so
    many.
    """
    place = cache_folder() / "decoded"
    there = next(path for path in (place, *place.parents) if path.exists())
    try:
        return min(most, (shutil.disk_usage(there).free + sum(_sizes(place).values())) // 4)
    except OSError:
        return 0


def open_decoded(source: Source, size: int, *, whole: bool, limit: int, needed: int) -> DecodedCache:
    """The cache of a source whose pictures take ``needed`` bytes. It and those of other sources take ``limit`` bytes at
    the most: of those the ones that were not used for longest are removed.
    """
    folder = decoded_folder(source, size, whole=whole)
    others = {path: held for path, held in _sizes(folder.parent).items() if path != folder}
    for path in sorted(others, key=_used):
        if sum(others.values()) + needed <= limit:
            break
        shutil.rmtree(path, ignore_errors=True)
        del others[path]
    with suppress(OSError):
        if not _is_sound(folder):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
    return DecodedCache(folder, stamps(source), limit - sum(others.values()))


def _is_sound(folder: Path) -> bool:
    """Whether an environment can be opened and has all its pages: what was cut short would end a process."""
    import lmdb

    file = folder / "data.mdb"
    if not file.exists():
        return True
    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as environment:
            pages = environment.info()["last_pgno"] + 1
            return pages * environment.stat()["psize"] <= file.stat().st_size
    except lmdb.Error as error:
        return "already open" in str(error)  # by another loader of this process
    except OSError:
        return False


def _sizes(place: Path) -> dict[Path, int]:
    """Bytes of each cache that is there."""
    found = {}
    with suppress(OSError):
        for folder in place.iterdir():
            with suppress(OSError):
                found[folder] = sum(file.stat().st_size for file in folder.iterdir())
    return found


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
