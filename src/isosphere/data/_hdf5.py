"""Images in an HDF5 file, read as they are needed: Galaxy10 and others of its form."""

import math
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError, option

from ._arrays import as_bytes, channels_last, require_channels, require_images
from ._home import expanded
from ._limits import MAX_FILE_BYTES, UnreadableImageError, reason_of, require_stored
from ._named_arrays import name_arrays
from ._numbers import Numbers
from ._picture import taken
from ._pixels import Picture, Reading
from ._source import Origin, Source, Split, array_digest

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BLOCK_BYTES, _KEPT_BYTES = 128 * 2**20, 3 * 128 * 2**20

GALAXY10: dict[int, tuple[str, ...]] = {
    256: (
        "disturbed",
        "merging",
        "round smooth",
        "in-between round smooth",
        "cigar shaped smooth",
        "barred spiral",
        "unbarred tight spiral",
        "unbarred loose spiral",
        "edge-on without bulge",
        "edge-on with bulge",
    ),
    69: (
        "disk, face-on, no spiral",
        "smooth, completely round",
        "smooth, in-between round",
        "smooth, cigar shaped",
        "disk, edge-on, rounded bulge",
        "disk, edge-on, boxy bulge",
        "disk, edge-on, no bulge",
        "disk, face-on, tight spiral",
        "disk, face-on, medium spiral",
        "disk, face-on, loose spiral",
    ),
}
"""Classes of Galaxy10 by the side of its images: 256 pixels in DECaLS, 69 in SDSS."""


def is_hdf5(file: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False


def open_galaxy10(path: str, *, split: Split = None) -> "Hdf5Source":
    """Open Galaxy10 (DECaLS or SDSS), the HDF5 file itself or the folder that holds it, with its class names.

    Raises: UsageError if there is no such file, or it holds something else.
    """
    file = expanded(path)
    if path and file.is_dir():
        found = sorted(
            f for f in file.iterdir() if f.suffix.lower() in HDF5_SUFFIXES and "galaxy10" in f.name.lower()
        )
        file = found[0] if found else file
    if not path or not file.is_file():
        raise UsageError(
            f"galaxy10:{path} names no file; expected galaxy10:PATH with the path of Galaxy10_DECals.h5, which is "
            "fetched from https://github.com/henrysky/Galaxy10."
        )
    return Hdf5Source(file, split=split, galaxy10=True)


class Hdf5Source(Source):
    """Images of one or two data sets of an HDF5 file; none is read before it is asked for.

    Names that are understood: those of `name_arrays`, at any depth.
    Images are (n, h, w), (n, h, w, c) or (n, c, h, w), any number of channels, of uint8, bool, uint16 (divided by 257),
    or by `Reading.white`.

    Numerics: a chunk that holds many images is unpacked as a whole, and the last few are kept, so reading in order
    unpacks each once; reading such a file in random order unpacks a chunk for nearly every image.

    What lies in other files (external storage, virtual data sets) is not read: any file could be shown as an image.

    Raises: UsageError if h5py is not installed, or the file holds something else, with what it holds.
    """

    def __init__(self, file: Path, *, split: Split = None, galaxy10: bool = False) -> None:
        self.file = file
        self._forget()
        h5py = _h5py(file)
        try:
            with h5py.File(file, "r", locking=False) as archive:
                held = _data_sets(archive, h5py)
                found = name_arrays(
                    {name: data.shape for name, data in held.items()},
                    lambda name: _read(name, held[name]),
                    split,
                    str(file),
                    known_classes=GALAXY10 if galaxy10 else None,
                )
                for name in found.counts:
                    _check(name, held[name])
                self._bands = channels_last(np.empty((0, *held[next(iter(found.counts))].shape[1:]))).shape[
                    -1
                ]
                self._rows = {name: _rows(held[name]) for name in found.counts}
        except UsageError:
            raise
        except Exception as error:  # HDF5 raises nearly anything on a damaged file
            raise UsageError(f"{file} cannot be used: {reason_of(error)}.") from error
        super().__init__(file.stem, **found.facts())
        self._names = list(found.counts)
        self._starts = np.cumsum([0, *found.counts.values()])

    def read_as(self, reading: Reading) -> Self:
        if len(self):
            require_channels(self.name, self._bands, reading)
        return super().read_as(reading)

    def image(self, i: int, *, at_least: int | None = None) -> Picture:
        try:
            row = self._row(i)
            if row.dtype.kind == "f" and self.reading.white is None:
                raise ValueError(f"floats have no scale of their own: give {option('data.white', ...)}")
            values = as_bytes(row[None], white=self.reading.white)[0]
            return taken(values, self.reading.channels, self.reading.opening.ground)
        except ValueError as error:
            raise UnreadableImageError(reason_of(error)) from error

    def numbers(self, i: int) -> Numbers:
        return Numbers.of(channels_last(self._row(i)[None])[0])

    def digest(self, i: int) -> bytes:
        return array_digest(self._row(i))

    def origin(self, i: int) -> Origin:
        return Origin(str(self.file.absolute()), i, 0)

    def _row(self, i: int) -> NDArray:
        """The numbers of an image as they are stored."""
        part = int(np.searchsorted(self._starts, i, side="right")) - 1
        name, k = self._names[part], int(i - self._starts[part])
        try:
            with self._lock:
                return self._block(name, k // self._rows[name])[k % self._rows[name]]
        except Exception as error:  # HDF5 raises nearly anything on a damaged file
            raise UnreadableImageError(reason_of(error)) from error

    def _block(self, name: str, number: int) -> NDArray:
        """Images that are unpacked together, from memory if they were asked for a moment ago."""
        if self._owner != os.getpid():
            # Closed before the file is opened anew: HDF5 would else hand out the handle that a fork has copied.
            self._forget()
            self._archive, self._owner = _h5py(self.file).File(self.file, "r", locking=False), os.getpid()
        key = (name, number)
        if key not in self._kept:
            rows = self._rows[name]
            assert self._archive is not None
            self._kept[key] = self._archive[name][number * rows : (number + 1) * rows]
            while len(self._kept) > 1 and sum(x.nbytes for x in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _forget(self) -> None:
        self._archive: Any = None
        self._owner = -1
        self._kept: OrderedDict[tuple[str, int], NDArray] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_archive", "_owner", "_kept", "_lock")
        return {key: value for key, value in self.__dict__.items() if key not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self, key, value)
        self._forget()


def _check(name: str, data: Any) -> None:
    """Refuse a data set, before it is read, that holds no images, or none that lie in this file."""
    require_images(f"{name} has", data.shape, data.dtype)
    _require_own(name, data)
    require_stored(len(data), data.size * data.dtype.itemsize, data.id.get_storage_size())
    if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > MAX_FILE_BYTES:
        raise ValueError(f"{name} has chunks of shape {data.chunks}, more than {MAX_FILE_BYTES:,} bytes each")


def _require_own(name: str, data: Any) -> None:
    if data.is_virtual or data.external:
        raise ValueError(
            f"the numbers of {name} lie in other files, which are not read: write them into this one"
        )


def _data_sets(archive: Any, h5py: Any) -> dict[str, Any]:
    held: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            held[name] = item

    archive.visititems(note)
    return held


def _read(name: str, data: Any) -> NDArray:
    """The numbers of a data set, or its words."""
    _require_own(name, data)
    if data.size * data.dtype.itemsize > MAX_FILE_BYTES:
        raise ValueError(f"{name} has shape {data.shape}; expected one label for each image")
    return data.asstr()[()].astype(str) if data.dtype.kind in "OS" else data[()]


def _rows(data: Any) -> int:
    """Images that lie in one chunk, as far as a block of them stays within memory."""
    if data.chunks is None:
        return 1
    each = max(1, int(np.prod(data.shape[1:])) * data.dtype.itemsize)
    return max(1, min(data.chunks[0], data.shape[0], _BLOCK_BYTES // each))


def _h5py(file: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            f"{file} is an HDF5 file, and h5py, which reads them, is not installed. Type: pip install h5py."
        ) from error
    return h5py
