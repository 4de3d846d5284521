"""WebDataset shards: tar files whose members share a key, read in place."""

import itertools
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError, plural

from ._braces import expand_braces
from ._encoded import EncodedSource
from ._files import File, LocalFile
from ._home import expanded
from ._labels import labels_of_texts
from ._layout import TEST_NAMES, TRAIN_NAMES, Layout, arrange, foreign_format, no_test_part, part_of
from ._limits import MAX_FILE_BYTES, require_fitting
from ._remote import RemoteFile, in_parallel
from ._source import Origin, Split
from ._tar_index import TarIndex, index_tar

_NEAR, _MOST = 1 << 16, 1 << 23
"""Bytes between images that are rather read than asked for apart, and bytes of one request at the most."""


def refuse_pipe(text: str) -> None:
    """Raise UsageError for ``pipe:``, which other readers of shards hand to a shell."""
    if text.startswith("pipe:"):
        raise UsageError(
            f"{text} would run a shell command, and data never do here: write the shards to a disk and give their "
            "names, for example shards/train-{000..003}.tar."
        )


def is_shard_pattern(text: str) -> bool:
    """Whether a text stands for several tar files: braces or wildcards, and .tar at its end."""
    return text.casefold().endswith((".tar", ".tar}")) and any(c in text for c in "{}*?[]")


def open_shards(pattern: str, *, split: Split = None) -> "ShardSource":
    """Open the tar files that a pattern with braces or wildcards stands for.

    Raises: UsageError if one of them is absent, or for a pattern that matches nothing.
    """
    files = [LocalFile(path.absolute()) for path in files_of(pattern)]
    return open_tars(files, name=stem_of(pattern), typed=pattern, split=split)


def stem_of(pattern: str) -> str:
    """What the names of a pattern begin with, which names the source."""
    return PurePath(pattern).name.partition("{")[0].partition("*")[0].strip("-_.")


def open_tars(files: Sequence[File], *, name: str, typed: str, split: Split = None) -> "ShardSource":
    """Open tar files as one source, called as their folder where `name` is empty."""
    common = common_folder([file.path for file in files])
    own = common.resolve().name if isinstance(common, Path) else common.name
    return ShardSource(files, common, name=name or own, typed=typed, split=split)


def files_of(pattern: str) -> list[Path]:
    """The files that a pattern with braces or wildcards stands for.

    Raises: UsageError if one of them is absent, or for a pattern that matches nothing.
    """
    files: list[Path] = []
    absent: list[str] = []
    for name in expand_braces(pattern):
        path = expanded(name)
        if any(c in name for c in "*?["):
            found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        else:
            found = [path] if path.exists() else []
        files += found
        absent += [] if found else [name]
    if absent:
        total = len(absent) + len(files)
        some = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        where = "" if Path(absent[0]).is_absolute() else f" in {Path.cwd()}"
        raise UsageError(
            f"{pattern}: {len(absent)} of {total} {'names lead' if total > 1 else 'name leads'} to no file{where} "
            f"({some}). Correct the pattern, or fetch what is missing."
        )
    return list(dict.fromkeys(files))


class ShardSource(EncodedSource):
    """Samples of tar shards, each image of which can be read on its own: no order is imposed by the files.

    The members of a sample agree in their names up to the first dot (``000.jpg``, ``000.cls``; see `index_tar`). Its
    label is the ``.cls`` text or number, or ``label``, ``cls`` or ``class`` of its ``.json``; where no sample has one,
    the folders in the members' names are, as in a folder of images. Words ``train``, ``test`` or ``val`` in the names
    of shards split the source. ``classnames.txt`` beside the shards names numbered classes, one a line.

    A shard that ends too early gives what lies before its end and is named in ``unreadable``. Nothing is unpacked, no
    command is run, and shards with pickled entries are refused.

    Args:
        files: the shards. folder: that their names are shown relative to. typed: what a person typed, for messages.

    Raises: UsageError if there is no image, or a pickled entry.
    """

    def __init__(
        self, files: Sequence[File], folder: PurePath, *, name: str, typed: str, split: Split = None
    ) -> None:
        shards = [_Shard(file, file.path.relative_to(folder).as_posix()) for file in files]
        unreadable = _read_indexes(shards)
        shards = [shard for shard in shards if shard.index.members]
        if not shards:
            reasons = "; ".join(f"{place}: {reason}" for place, reason in unreadable[:3])
            raise UsageError(
                f"{typed} holds no images{f' ({reasons})' if reasons else ''}. Expected tar files with members such as "
                "000.jpg and 000.cls."
            )
        indexes = [shard.index for shard in shards]
        layout = _arrange(shards, split, typed)
        chosen = np.array(layout.positions, dtype=np.int64)
        texts = [text for index in indexes for text in index.labels]
        labels, class_names = labels_of_texts(texts, _class_names(shards[0]))
        labelled = bool((labels >= 0).any())
        super().__init__(
            name,
            [shards[s].place + "/" + shards[s].index.members[k] for s, k in _numbered(indexes, chosen)],
            labels=labels[chosen] if labelled else layout.labels,
            class_names=class_names if labelled else layout.class_names,
            has_test_split=layout.has_test_split,
            unreadable=unreadable,
            left_out=[*layout.left_out, *_aside(shards)],
        )
        self._files = [shard.file for shard in shards]
        self.shard = np.repeat(np.arange(len(shards)), [len(x.members) for x in indexes])[chosen]
        self._offset = np.concatenate([np.array(x.offsets, dtype=np.int64) for x in indexes])[chosen]
        self._bytes = np.concatenate([np.array(x.sizes, dtype=np.int64) for x in indexes])[chosen]
        self._ahead: dict[int, bytes] = {}

    def origin(self, i: int) -> Origin:
        file = self._files[self.shard[i]]
        return Origin(file.place, int(self._offset[i]), int(self._bytes[i]), file.version)

    def body(self, i: int) -> bytes:
        size = int(self._bytes[i])
        require_fitting(size)
        body = self._ahead.get(i)
        return self._files[self.shard[i]].read(int(self._offset[i]), size) if body is None else body

    @contextmanager
    def ahead(self, positions: Sequence[int]) -> Iterator[None]:
        behind = [i for i in positions if isinstance(self._files[self.shard[i]], RemoteFile)]
        in_parallel(self._fetch, list(self._neighbours(behind)))
        try:
            yield
        finally:
            for i in behind:
                self._ahead.pop(i, None)

    def _neighbours(self, positions: Sequence[int]) -> Iterator[list[int]]:
        """The images in runs that lie close together in one shard, and are read by one request."""
        run: list[int] = []
        for i in sorted(positions, key=lambda i: (self.shard[i], self._offset[i])):
            end = int(self._offset[i] + self._bytes[i])
            if self._bytes[i] > MAX_FILE_BYTES:
                continue
            close = run and self.shard[i] == self.shard[run[0]] and end - self._offset[run[0]] <= _MOST
            if close and self._offset[i] - self._offset[run[-1]] - self._bytes[run[-1]] <= _NEAR:
                run.append(i)
                continue
            if run:
                yield run
            run = [i]
        if run:
            yield run

    def _fetch(self, run: list[int]) -> None:
        first, last = int(self._offset[run[0]]), run[-1]
        whole = self._files[self.shard[last]].read(first, int(self._offset[last] + self._bytes[last]) - first)
        for i in run:
            start = int(self._offset[i]) - first
            self._ahead[i] = whole[start : start + int(self._bytes[i])]


@dataclass
class _Shard:
    """A tar file, its name as shown, and what it holds."""

    file: File
    place: str
    index: TarIndex = None  # type: ignore[assignment]  (filled in by `_read_indexes`)

    @property
    def part(self) -> str | None:
        """The word of its name that says which part of a split it belongs to."""
        return part_of(self.place)


def _read_indexes(shards: list[_Shard]) -> list[tuple[str, str]]:
    """Index every shard; what cannot be read of them, with reasons."""
    unreadable: list[tuple[str, str]] = []
    found = (in_parallel if _are_remote(shards) else map)(lambda shard: _indexed(shard.file), shards)
    for shard, (index, why_not) in zip(shards, found, strict=True):
        shard.index = index
        if why_not:
            unreadable.append((shard.place, why_not))
            continue
        if shard.index.pickled:
            raise UsageError(
                f"{shard.file} holds a pickled entry ({shard.index.pickled}), and reading one can run code: leave "
                "those entries out, and write labels as .cls or .json."
            )
        unreadable += [
            (f"{shard.place}/{name}", foreign_format(name) or "its name leads out of the archive")
            for name in shard.index.foreign
        ]
        unreadable += [
            (f"{shard.place}/{name}", "a link to what is no image of the archive")
            for name in shard.index.astray
        ]
        if shard.index.fault:
            kept = len(shard.index.members)
            unreadable.append((shard.place, f"{shard.index.fault}; the {kept} images before are used"))
    return unreadable


def _are_remote(shards: list[_Shard]) -> bool:
    return any(isinstance(shard.file, RemoteFile) for shard in shards)


def _indexed(file: File) -> tuple[TarIndex, str]:
    """What a shard holds, and why it cannot be read where it cannot."""
    try:
        return index_tar(file), ""
    except (OSError, tarfile.TarError) as error:
        return TarIndex(), _why_not(file, error)


def _why_not(file: File, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    try:
        with file.open() as stream:
            start = stream.read(6)
    except OSError:
        start = b""
    if not start:
        return "the file is empty"
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return (
            "it is compressed, and shards are read in place: unpack it to a plain .tar (gunzip, unxz, unzstd)"
        )
    return "it is no tar file, or damaged at its start"


def _arrange(shards: list[_Shard], split: Split, typed: str) -> Layout:
    """The part that is asked for: by the words in the names of the shards, else by the folders within."""
    members = [name for shard in shards for name in shard.index.members]
    present = {shard.part for shard in shards}
    train = next((w for w in TRAIN_NAMES if w in present), None)
    test = next((w for w in TEST_NAMES if w in present), None)
    if train is None or (test is None and present != {train}):
        return arrange(members, split, typed)
    if split == "test" and test is None:
        raise no_test_part(typed)
    everything = arrange(members, None, typed)  # for the labels, which both parts share
    wanted = {"train": (train,), "test": (test,), None: present}[split]
    of_shard = np.repeat([shard.part in wanted for shard in shards], [len(x.index.members) for x in shards])
    taken = np.flatnonzero(of_shard)
    outside = [] if split is None else [shard for shard in shards if shard.part not in (train, test)]
    return Layout(
        [members[k] for k in taken],
        taken.tolist(),
        everything.labels[taken],
        everything.class_names,
        test is not None,
        [(x.place, f"{len(x.index.members)} images in neither part") for x in outside],
    )


def _class_names(shard: _Shard) -> NDArray | None:
    body = shard.file.beside(shard.place, "classnames.txt")
    try:
        lines = [] if body is None else body.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return None
    return None if body is None else np.array([line.strip() for line in lines if line.strip()])


def _numbered(indexes: list[TarIndex], chosen: NDArray[np.int64]) -> list[tuple[int, int]]:
    pairs = [(s, k) for s, index in enumerate(indexes) for k in range(len(index.members))]
    return [pairs[i] for i in chosen]


def _aside(shards: list[_Shard]) -> list[tuple[str, str]]:
    found = {
        shard.place: {
            ("further image", "of samples with several"): shard.index.second,
            ("link", "to folders, not followed"): shard.index.aside,
        }
        for shard in shards
    }
    return [
        (place, f"{plural(n, one)} {rest}")
        for place, each in found.items()
        for (one, rest), n in each.items()
        if n
    ]


def common_folder(paths: Sequence[PurePath]) -> PurePath:
    """The deepest folder that all of these files lie in."""
    parts = zip(*(path.parent.parts for path in paths), strict=False)
    common = itertools.takewhile(lambda part: len(set(part)) == 1, parts)
    return type(paths[0])(*(part[0] for part in common))
