"""WebDataset shards: tar files whose members share a key, read in place."""

import itertools
import math
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError, plural

from ._encoded import EncodedSource
from ._home import expanded
from ._labels import labels_of_texts
from ._layout import TEST_NAMES, TRAIN_NAMES, Layout, arrange, foreign_format, no_test_part, part_of
from ._limits import UnreadableImageError, read_text, require_fitting
from ._source import Origin, Split
from ._tar_index import TarIndex, index_tar

_MOST = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
_URL = re.compile(r"(pipe|[a-z][a-z0-9+.-]*(?=://)):")


def refuse_url(text: str) -> None:
    """Raise UsageError for ``pipe:`` and for addresses on the network; data are read from disks alone."""
    found = _URL.match(text)
    if found is None:
        return
    if found[1] == "pipe":
        raise UsageError(
            f"{text} would run a shell command, and data never do here: write the shards to a disk and give their "
            "names, for example shards/train-{000..003}.tar."
        )
    raise UsageError(
        f"{text} is an address, and images are read from disks alone: fetch the files first (curl -O, aws s3 cp, "
        "gsutil cp) and give the folder that holds them."
    )


def is_shard_pattern(text: str) -> bool:
    """Whether a text stands for several tar files: braces or wildcards, and .tar at its end."""
    return text.casefold().endswith((".tar", ".tar}")) and any(c in text for c in "{}*?[]")


def expand_braces(pattern: str) -> list[str]:
    """The names that braces stand for, as a shell has it: ``{000..003}`` counts, ``{a,b}`` lists.

    Raises: UsageError for braces that do not close, or more than 100,000 names, which are counted before they are made.
    """
    pieces, fields = _BRACES.split(pattern)[::2], _BRACES.findall(pattern)
    if any(c in piece for piece in pieces for c in "{}"):
        raise UsageError(f"{pattern} has a brace without its partner: type it as in train-{{000..003}}.tar.")
    if math.prod(map(_count, fields)) > _MOST:
        raise UsageError(f"{pattern} stands for more than {_MOST:,} files.")
    chosen = itertools.product(*map(_choices, fields))
    return ["".join(itertools.chain(*zip(pieces, (*words, ""), strict=True))) for words in chosen]


def _count(field: str) -> int:
    """How many names the inside of braces stands for."""
    between = _RANGE.fullmatch(field)
    return abs(int(between[2]) - int(between[1])) + 1 if between else field.count(",") + 1


def _choices(field: str) -> list[str]:
    between = _RANGE.fullmatch(field)
    if not between:
        return field.split(",")
    low, high = int(between[1]), int(between[2])
    step = 1 if low <= high else -1
    return [f"{k:0{len(between[1])}d}" for k in range(low, high + step, step)]


def open_shards(pattern: str, *, split: Split = None) -> "ShardSource":
    """Open the tar files that a pattern with braces or wildcards stands for.

    Raises: UsageError if one of them is absent, or for a pattern that matches nothing.
    """
    stem = PurePath(pattern).name.partition("{")[0].partition("*")[0].strip("-_.")
    return open_tars(files_of(pattern), name=stem, typed=pattern, split=split)


def open_tars(files: Sequence[Path], *, name: str, typed: str, split: Split = None) -> "ShardSource":
    """Open tar files as one source, called as their folder where `name` is empty."""
    common = Path(*_common([f.parent.parts for f in files]))
    return ShardSource(files, common, name=name or common.resolve().name, typed=typed, split=split)


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
        self, files: Sequence[Path], folder: Path, *, name: str, typed: str, split: Split = None
    ) -> None:
        shards = [_Shard(file, file.relative_to(folder).as_posix()) for file in files]
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
        labels, class_names = labels_of_texts(texts, _class_names(folder))
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
        self._files = [str(shard.file.absolute()) for shard in shards]
        self.shard = np.repeat(np.arange(len(shards)), [len(x.members) for x in indexes])[chosen]
        self._offset = np.concatenate([np.array(x.offsets, dtype=np.int64) for x in indexes])[chosen]
        self._bytes = np.concatenate([np.array(x.sizes, dtype=np.int64) for x in indexes])[chosen]

    def origin(self, i: int) -> Origin:
        return Origin(self._files[self.shard[i]], int(self._offset[i]), int(self._bytes[i]))

    def body(self, i: int) -> bytes:
        size = int(self._bytes[i])
        require_fitting(size)
        try:
            # Opened for each image: thousands of shards would outnumber the files that a process may hold open,
            # and threads and forked workers share no position.
            with Path(self._files[self.shard[i]]).open("rb", buffering=0) as stream:
                stream.seek(int(self._offset[i]))
                body = stream.read(size)
        except OSError as error:
            raise UnreadableImageError((error.strerror or str(error)).lower()) from error
        if len(body) < size:
            raise UnreadableImageError("its shard has become shorter since it was indexed")
        return body


@dataclass
class _Shard:
    """A tar file, its name as shown, and what it holds."""

    file: Path
    place: str
    index: TarIndex = None  # type: ignore[assignment]  (filled in by `_read_indexes`)

    @property
    def part(self) -> str | None:
        """The word of its name that says which part of a split it belongs to."""
        return part_of(self.place)


def _read_indexes(shards: list[_Shard]) -> list[tuple[str, str]]:
    """Index every shard; what cannot be read of them, with reasons."""
    unreadable: list[tuple[str, str]] = []
    for shard in shards:
        try:
            shard.index = index_tar(shard.file)
        except (OSError, tarfile.TarError) as error:
            shard.index = TarIndex()
            unreadable.append((shard.place, _why_not(shard.file, error)))
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


def _why_not(file: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    try:
        with file.open("rb") as stream:
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


def _class_names(folder: Path) -> NDArray | None:
    try:
        lines = read_text(folder / "classnames.txt").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return np.array([line.strip() for line in lines if line.strip()])


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


def _common(paths: Sequence[tuple[str, ...]]) -> list[str]:
    return [p[0] for p in itertools.takewhile(lambda p: len(set(p)) == 1, zip(*paths, strict=False))]
