"""A folder of image files, at any depth."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from isosphere.errors import UsageError

from ._encoded import EncodedSource
from ._home import expanded
from ._label_map import LABEL_MAPS, by_label, read_label_map
from ._layout import (
    arrange,
    begins_as_image,
    foreign_format,
    is_ignored,
    is_image_name,
    must_be_opened,
)
from ._limits import read_file
from ._source import Origin, Split

_Place = tuple[int, int]
_MOST_WAYS = 100
"""So often one folder is entered, by as many links: links that lead to each other would else never end."""
_RUN = {"config.yaml", "encoder.json"}
"""Files that a folder holds which is that of a run."""

_NEARER = {
    **dict.fromkeys(
        (".npz", ".npy", ".zip", ".h5", ".hdf5"), " To read one of its files, give that file's own name."
    ),
    **dict.fromkeys((".gz", ".tgz", ".xz", ".zst", ".bz2"), " Unpack what is compressed."),
}
"""What to do about other kinds of files that may hold images."""


def no_images(name: str, other: Counter[str]) -> UsageError:
    """The error for a folder or archive in which no file is named like an image."""
    ranked = sorted(other.items(), key=lambda item: (-item[1], item[0]))
    if not other:
        found = "it holds no files"
    else:
        kinds = ", ".join(f"{count} x {suffix or 'no suffix'}" for suffix, count in ranked[:4])
        found = f"it holds {sum(other.values())} files of other kinds ({kinds})"
    nearer = next((hint for suffix, hint in _NEARER.items() if suffix in other), "")
    return UsageError(
        f"{name} holds no images: {found}.{nearer} Give a folder with .jpg, .png, .webp, .tif, .bmp or .gif files, "
        "at any depth, with or without class folders; or try the built-in textures:wood."
    )


class FolderSource(EncodedSource):
    """Images of a folder. Hidden files are ignored, links are followed, but not back up. Files whose names end in
    nothing that says what they are, are images by their content.

    Where validation images lie in one folder (ImageNet, Tiny ImageNet), ``LOC_val_solution.csv``,
    ``val_annotations.txt`` or ``val.txt`` within says their classes, a line ``NAME CLASS`` each.

    ``found`` is what `walk_folder` found there, where it has been walked already.
    """

    def __init__(self, folder: Path, *, split: Split = None, found: "FolderWalk | None" = None) -> None:
        found = found or walk_folder(folder)
        if not found.members:
            blocked = next(((p, r) for p, r in found.unreadable if p.endswith("/")), None)
            if blocked:
                place = "it" if blocked[0] == "/" else blocked[0]
                raise UsageError(
                    f"{folder} holds no images that can be reached: {place} cannot be listed "
                    f"({blocked[1]}). Make it readable (chmod -R u+rX FOLDER) or give another folder."
                )
            raise no_images(str(folder), found.other)
        members = sorted(found.members)
        layout = arrange(_by_lists(folder, members, found.lists), split, str(folder))
        files = [members[i] for i in layout.positions]
        super().__init__(
            folder.resolve().name or str(folder),
            files,
            labels=layout.labels,
            class_names=layout.class_names,
            has_test_split=layout.has_test_split,
            unreadable=found.unreadable,
            left_out=[*layout.left_out, *((name, "a run") for name in sorted(found.runs))],
        )
        self._folder, self._files = folder.absolute(), files

    def body(self, i: int) -> bytes:
        return read_file(self._folder / self._files[i])

    def origin(self, i: int) -> Origin:
        return Origin(f"{self._folder}/{self._files[i]}")


def _by_lists(folder: Path, members: list[str], lists: list[str]) -> list[str]:
    """The names of images as if those of the validation part lay in folders of the classes that a list says."""
    folders = {part for name in members for part in name.split("/")[:-1]} if lists else set()
    classes = {
        stem: label
        for file in lists
        for stem, label in read_label_map(folder / file).items()
        if label in folders
    }
    for part in ("val", "valid", "validation") if classes else ():
        members = by_label(members, part, classes)
    return members


@dataclass
class FolderWalk:
    """Images (relative, with /), tar and Parquet files, lists of labels, runs, which are passed over with the pictures
    within them, a count of other files by suffix, and what could not be listed."""

    members: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def enter(self, entry: os.DirEntry[str], name: str) -> None:
        """Note a file under its relative name."""
        if is_image_name(entry.name) or (must_be_opened(entry.name) and is_image_file(Path(entry.path))):
            self.members.append(name)  # a link to nothing too, so that reading it names it
            return
        suffix = Path(entry.name).suffix.lower()
        self.other[suffix] += 1
        if suffix == ".tar":
            self.tars.append(name)
        elif suffix == ".parquet":
            self.tables.append(name)
        elif entry.name in LABEL_MAPS:
            self.lists.append(name)
        if reason := foreign_format(entry.name):
            self.unreadable.append((name, reason))


def holds_a_run(path: Path) -> bool:
    """Whether a folder is that of a run, whose pictures are drawn of it."""
    return all((path / name).is_file() for name in _RUN)


def is_image_file(path: Path) -> bool:
    """Whether it is a file that is called like an image, or begins as one where its name says nothing."""
    try:
        path = expanded(path)
        if not path.is_file():
            return False
        if not must_be_opened(path.name):
            return is_image_name(path.name)
        with path.open("rb") as stream:
            return begins_as_image(stream.read(16), path.name)
    except (OSError, ValueError):
        return False


def walk_folder(folder: Path) -> FolderWalk:
    """List a folder at any depth; only files without an ending are looked into."""
    found = FolderWalk()
    ways: Counter[_Place] = Counter()
    pending: list[tuple[str, frozenset[_Place]]] = [("", frozenset())]  # a folder, and those that it lies in
    while pending:
        relative, above = pending.pop()
        try:
            state = (folder / relative).stat()
            place = state.st_dev, state.st_ino
            if place in above:  # a link back up
                continue
            ways[place] += 1
            if ways[place] > _MOST_WAYS:
                found.unreadable.append((relative + "/", f"{_MOST_WAYS} links lead there already"))
                continue
            with os.scandir(folder / relative) as scan:
                entries = sorted(scan, key=lambda e: e.name, reverse=True)
        except OSError as error:
            found.unreadable.append((relative + "/", (error.strerror or str(error)).lower()))
            continue
        if relative and {entry.name for entry in entries} >= _RUN:
            found.runs.append(f"{relative}/")
            continue
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            if is_ignored(entry.name):
                continue
            mode = _mode(entry)
            if stat.S_ISDIR(mode):
                pending.append((name, above | {place}))
            elif not mode or stat.S_ISREG(mode):  # sockets and pipes: opening one could wait for ever
                found.enter(entry, name)
    found.unreadable.sort()
    return found


def _mode(entry: os.DirEntry[str]) -> int:
    """What a name leads to; 0 where it leads nowhere, as a link to nothing or to itself does."""
    try:
        if entry.is_file():  # known from the listing; a further call for each of a million files is not
            return stat.S_IFREG
        return stat.S_IFDIR if entry.is_dir() else entry.stat().st_mode
    except OSError:
        return 0
