"""Images in an .npz or .npy file of numpy."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from isosphere.errors import UsageError

from ._arrays import ArraySource
from ._layout import no_test_part
from ._named_arrays import name_arrays
from ._source import Split


def open_array_file(file: Path, *, split: Split = None) -> ArraySource:
    """Open the images of an .npz, or of an .npy that holds one array of them; pickles are never loaded.

    Names that are understood: those of `name_arrays`. Labels are integers or text, negative or absent for none.

    Raises: UsageError if the file, its names, shapes or numbers are something else.
    """
    try:
        if file.suffix.lower() != ".npy":
            return _open_npz(file, split)
        if split == "test":
            raise no_test_part(str(file))
        images = np.load(file, allow_pickle=False)
        if not isinstance(images, np.ndarray):
            raise ValueError("it is an .npz by its content: rename it")
        return ArraySource(images, name=file.stem)
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        what = "it holds pickled objects, which can run code" if "ickle" in str(error) else str(error)
        raise UsageError(
            f"{file} cannot be used: {what}. Write it with numpy.savez(FILE, x_train=IMAGES)."
        ) from error


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every array of an .npz, without reading the numbers."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                if np.lib.format.read_magic(stream) == (1, 0):
                    shape, _, _ = np.lib.format.read_array_header_1_0(stream)
                else:
                    shape, _, _ = np.lib.format.read_array_header_2_0(stream)
            found[member.removesuffix(".npy")] = shape
    return found


def _open_npz(file: Path, split: Split) -> ArraySource:
    shapes = _shapes(file)
    with np.load(file, allow_pickle=False) as arrays:
        try:
            found = name_arrays(shapes, arrays.__getitem__, split, str(file))
        except ValueError as error:
            hint = ". Decode its JPEG bodies to plain arrays first" if "jpeg_header" in shapes else ""
            raise ValueError(f"{error}{hint}") from error
        images = [arrays[name] for name in found.counts]
    pixels = images[0] if len(images) == 1 else np.concatenate(images)
    return ArraySource(pixels, name=file.stem, **found.facts())
