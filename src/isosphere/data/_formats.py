"""The formats that are read, in one table: opening, messages, help and documentation go by it.

To add one: its module, a record here, its test.
"""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from isosphere.addresses import is_address

from ._address import open_address
from ._builtin import TORCHVISION, open_digits, open_torchvision
from ._files import LocalFile
from ._folder import FolderSource, FolderWalk, is_image_file, walk_folder
from ._hdf5 import HDF5_SUFFIXES, Hdf5Source, is_hdf5, open_galaxy10
from ._home import expanded
from ._listed import LISTS, FileSource, open_list, open_pattern
from ._npz import open_array_file
from ._parquet import ParquetSource
from ._shards import ShardSource, files_of, is_shard_pattern, open_shards
from ._source import Source, Split
from ._texture_source import open_textures
from ._textures import FAMILIES
from ._zipped import ZipSource


@dataclass(frozen=True)
class Asked:
    """What was typed for images, the part that is wanted, and what lies there."""

    text: str
    split: Split = None

    @cached_property
    def path(self) -> Path:
        return expanded(self.text)

    @cached_property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    @cached_property
    def is_pattern(self) -> bool:
        """Whether it stands for several files by braces or wildcards, and is not the name of one."""
        return any(c in self.text for c in "{}*?[]") and not self.path.exists()

    @cached_property
    def walk(self) -> FolderWalk | None:
        """The files of a folder; None for anything else."""
        return walk_folder(self.path) if self.path.is_dir() else None


@dataclass(frozen=True)
class Format:
    """One format: the word that documentation has for it, how it reads in a list of what may be given, and how it is
    recognised and opened. ``names`` are those of built-in images, each with a line on what it is."""

    name: str
    about: str
    recognises: Callable[[Asked], bool]
    open: Callable[[Asked], Source]
    names: Mapping[str, str] = field(default_factory=dict)

    def recognises_name(self, asked: Asked) -> bool:
        """Whether what was typed is the name of built-in images of this format."""
        return bool(self.names) and self.recognises(asked)


def _is_folder(asked: Asked) -> bool:
    return asked.walk is not None and not _is_shards(asked) and not _is_parquet(asked)


def _open_folder(asked: Asked) -> Source:
    return FolderSource(asked.path, split=asked.split, found=asked.walk)


def _is_shards(asked: Asked) -> bool:
    in_folder = asked.walk is not None and bool(asked.walk.tars) and not asked.walk.members
    return _is_shard_pattern(asked) or in_folder or (asked.walk is None and asked.suffix == ".tar")


def _is_shard_pattern(asked: Asked) -> bool:
    return asked.is_pattern and is_shard_pattern(asked.text)


def _is_parquet(asked: Asked) -> bool:
    in_folder = (
        asked.walk is not None and bool(asked.walk.tables) and not asked.walk.members and not asked.walk.tars
    )
    return in_folder or (asked.walk is None and asked.suffix == ".parquet")


def _open_parquet(asked: Asked) -> Source:
    path, walk = asked.path, asked.walk
    if asked.is_pattern:
        files = files_of(asked.text)
    else:
        files = [path] if walk is None else [path / name for name in sorted(walk.tables)]
    name = path.stem.partition("*")[0].strip("-_.") or path.resolve().parent.name
    return ParquetSource(_local(files), name=name, typed=asked.text, split=asked.split)


def _open_image(asked: Asked) -> Source:
    return FileSource(
        [str(asked.path)], name=asked.path.name, names=[asked.path.name], folders=asked.split == "test"
    )


def _open_shards(asked: Asked) -> Source:
    if _is_shard_pattern(asked):
        return open_shards(asked.text, split=asked.split)
    path, walk = asked.path.absolute(), asked.walk
    if walk is None:
        return ShardSource(_local([path]), path.parent, name=path.stem, typed=asked.text, split=asked.split)
    files = _local([path / name for name in sorted(walk.tars)])
    return ShardSource(files, path, name=path.resolve().name, typed=asked.text, split=asked.split)


def _local(paths: list[Path]) -> list[LocalFile]:
    return [LocalFile(path.absolute()) for path in paths]


def _starts_with(name: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.text.partition(":")[0] == name


def _rest(open_rest: Callable[..., Source]) -> Callable[[Asked], Source]:
    return lambda asked: open_rest(asked.text.partition(":")[2], split=asked.split)


FORMATS: tuple[Format, ...] = (
    Format("folder", "a folder of images", _is_folder, _open_folder),
    Format("WebDataset", "WebDataset shards (.tar)", _is_shards, _open_shards),
    Format(
        "npz",
        "an .npz or .npy of arrays",
        lambda asked: asked.suffix in (".npz", ".npy"),
        lambda asked: open_array_file(asked.path, split=asked.split),
    ),
    Format(
        "HDF5",
        "an .h5 of arrays (HDF5)",
        lambda asked: asked.suffix in HDF5_SUFFIXES or is_hdf5(asked.path),
        lambda asked: Hdf5Source(asked.path, split=asked.split),
    ),
    Format(
        "zip",
        "a zip of a folder",
        lambda asked: asked.suffix == ".zip" or zipfile.is_zipfile(asked.path),
        lambda asked: ZipSource(asked.path, split=asked.split),
    ),
    Format("Parquet", "Parquet of encoded images", _is_parquet, _open_parquet),
    Format(
        "pattern",
        "a pattern of image files ('pictures/*.jpg')",
        lambda asked: asked.is_pattern,
        lambda asked: open_pattern(asked.text, split=asked.split),
    ),
    Format(
        "list",
        "a list of files (.txt, .csv)",
        lambda asked: asked.suffix in LISTS,
        lambda asked: open_list(asked.path, split=asked.split),
    ),
    Format(
        "address",
        "an address of shards, Parquet or images (s3://, gs://, hf://, https://)",
        lambda asked: is_address(asked.text),
        lambda asked: open_address(asked.text, split=asked.split),
    ),
    Format("image", "an image file", lambda asked: is_image_file(asked.path), _open_image),
    Format(
        "textures",
        f"textures:{'|'.join(FAMILIES)}",
        _starts_with("textures"),
        _rest(open_textures),
        {f"textures:{f}": "procedural textures, generated on first use" for f in FAMILIES}
        | {"textures:all": "the four families together, labelled by family"},
    ),
    Format(
        "digits",
        "digits",
        lambda asked: asked.text == "digits",
        lambda asked: open_digits(split=asked.split),
        {"digits": "1,797 handwritten digits of 8 x 8 pixels (needs scikit-learn)"},
    ),
    Format(
        "galaxy10",
        "galaxy10:PATH",
        _starts_with("galaxy10"),
        _rest(open_galaxy10),
        {"galaxy10:PATH": "Galaxy10, its HDF5 file already on disk (needs h5py)"},
    ),
    Format(
        "torchvision",
        "torchvision:NAME:PATH",
        _starts_with("torchvision"),
        _rest(open_torchvision),
        {f"torchvision:{n}:PATH": f"torchvision's {n}, already on disk" for n in TORCHVISION},
    ),
)
"""Every format; of several that recognise something the first opens it, and a built-in name before any file."""

BUILTIN: dict[str, str] = {name: line for each in FORMATS for name, line in each.names.items()}
"""Sources that are known by name, each with a line on what it is."""


def describe_formats() -> str:
    """What may be given for images, in words: the kinds of files, then the built-in names."""
    files = [each.about for each in FORMATS if not each.names]
    names = [each.about for each in FORMATS if each.names]
    return f"{', '.join(files)}, or a built-in: {', '.join(names)}"
