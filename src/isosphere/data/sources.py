"""Open a source of images by what a person types."""

import contextlib
import difflib
import zipfile
from pathlib import Path

from isosphere.errors import UsageError

from .builtin import TORCHVISION, open_digits, open_torchvision
from .class_list import CLASS_LIST, only_classes
from .folder import FolderSource, walk_folder
from .hdf5 import HDF5_SUFFIXES, Hdf5Source, is_hdf5, open_galaxy10
from .layout import is_ignored, is_image_name
from .npz import open_array_file
from .shards import ShardSource, is_shard_pattern, open_shards, refuse_url
from .source import Source, Split
from .texture_source import open_textures
from .textures import FAMILIES
from .zipped import ZipSource

__all__ = ["BUILTIN", "open_source"]

BUILTIN: dict[str, str] = {
    **{f"textures:{f}": "procedural textures, generated on first use" for f in FAMILIES},
    "textures:all": "the four families together, labelled by family",
    "digits": "1,797 handwritten digits of 8 x 8 pixels (needs scikit-learn)",
    "galaxy10:PATH": "Galaxy10, its HDF5 file already on disk (needs h5py)",
    **{f"torchvision:{n}:PATH": f"torchvision's {n}, already on disk" for n in TORCHVISION},
}
"""Sources that are known by name, each with a line on what it is."""

_KINDS = "a folder of images, a zip of one, an .npz or .h5 of arrays, WebDataset shards (.tar)"


def open_source(spec: str | Path, *, split: Split = None) -> Source:
    """Open images for reading: a folder, a zip of one, an .npz, .npy or .h5 of arrays, shards, or a built-in by name.

    Built-in: ``textures:cloud|disk|flake|wood|all[?count=2000&test=1000&size=72&seed=0]``, ``digits``,
    ``torchvision:NAME:PATH``, ``galaxy10:PATH``. WebDataset shards: a .tar file, a folder of them, or a pattern such as
    ``train-{000..003}.tar``. ``DATA?classes=FILE`` takes those classes alone that a file lists, one a line. A
    built-in name wins over a file of that name (type ``./digits`` for the file).
    ``split="train"`` opens the training part of a source that is split, else everything; ``"test"`` the test
    part; None everything.

    Raises: UsageError saying what was found and what to type instead.
    """
    text = str(spec)
    if split not in ("train", "test", None):
        raise ValueError(f"split is {split!r}; expected 'train', 'test' or None.")
    whole, listed, classes = text.rpartition(CLASS_LIST)
    if listed:
        return only_classes(open_source(whole, split=split), classes)
    kind, _, rest = text.partition(":")
    if kind == "textures":
        return open_textures(rest, split=split)
    if kind == "torchvision":
        return open_torchvision(rest, split=split)
    if kind == "galaxy10":
        return open_galaxy10(rest, split=split)
    if text == "digits":
        return open_digits(split=split)
    return _open_path(text, split)


def _open_path(text: str, split: Split) -> Source:
    if not text.strip() or "\0" in text:
        raise UsageError(f"No data were named; expected {_KINDS}, or a built-in such as textures:wood.")
    refuse_url(text)
    path = Path(text).expanduser()
    try:
        exists, is_folder = path.exists(), path.is_dir()
        if not exists and is_shard_pattern(text):
            return open_shards(text, split=split)
    except OSError as error:  # a name that is too long, or a folder above that may not be entered
        raise UsageError(f"{text} cannot be opened ({(error.strerror or str(error)).lower()}).") from error
    if not exists:
        raise UsageError(_absent(text, path))
    if is_folder:
        found = walk_folder(path)
        if found.tars and not found.members:
            files = [path / name for name in sorted(found.tars)]
            return ShardSource(files, path, name=path.resolve().name, typed=text, split=split)
        return FolderSource(path, split=split, found=found)
    if path.suffix.lower() in (".npz", ".npy"):
        return open_array_file(path, split=split)
    if path.suffix.lower() in HDF5_SUFFIXES or is_hdf5(path):
        return Hdf5Source(path, split=split)
    if path.suffix.lower() == ".tar":
        return ShardSource([path], path.parent, name=path.stem, typed=text, split=split)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return ZipSource(path, split=split)
    if is_image_name(path.name):
        raise UsageError(f"{text} is one image; expected {_KINDS}. Its folder is {path.parent}.")
    raise UsageError(
        f"{text} is not a kind of file that is read here; expected {_KINDS}. Unpack other archives "
        "(tar -xf FILE) and give the folder, or make a plain .tar of a compressed one."
    )


def _absent(text: str, path: Path) -> str:
    """What to say of a name that leads nowhere: the nearest name to type, and the choices."""
    candidates: dict[str, str] = {}  # what may have been meant -> what to type
    with contextlib.suppress(OSError):
        candidates = {p.name: str(p) for p in path.parent.iterdir() if not is_ignored(p.name)}
    if text == path.name:
        for full in BUILTIN:
            typed = full.removesuffix(":PATH")
            candidates |= {typed: full, typed.partition(":")[2] or typed: full}
        candidates["textures"] = "textures:wood"
    close = difflib.get_close_matches(path.name, candidates, n=1, cutoff=0.5)
    guess = f" Did you mean '{candidates[close[0]]}'?" if close else ""
    where = "" if path.is_absolute() else f" in {Path.cwd()}"
    return (
        f"There is no file or folder {text}{where}, and no built-in of that name.{guess} Give {_KINDS}, or a "
        f"built-in: textures:{'|'.join(FAMILIES)}, digits, galaxy10:PATH, torchvision:NAME:PATH."
    )
