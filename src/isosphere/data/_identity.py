"""Whether images are those of an earlier time: by their files, without decoding any."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import plural

from ._limits import UnreadableImageError
from ._sample import spread
from ._source import DIGEST_BYTES, Origin, Source

_LENGTHS, _CONTENTS, _ITEMS = 10_000, 256, 16
"""Images whose lengths and contents take part in a fingerprint, and items of a data set of torch, spread over the
source: a look at each of millions would take minutes on a network's disk."""


def stamps(source: Source) -> NDArray[np.int64]:
    """What changes for each image as soon as it may be another: place, number (inode), length and times of the file
    that it lies in, links followed, and where in it; behind an address what the store says of the version; of images
    in memory a digest of the numbers. Zeros where nothing can be said.

    The time of the change (ctime) and the number tell apart files of equal length and date that were renamed or linked
    into each other's place. Shape: int64 (n, 2). Nothing is read but the files' entries in their folders.
    """
    found = np.zeros((len(source), DIGEST_BYTES // 8), np.int64)
    for i, (origin, state) in enumerate(_states(source)):
        if origin is not None and origin.version != "":
            # A link to nothing is known again too: it is not tried anew until something is there.
            now = () if state is None else (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
            place = origin if origin.version is not None else origin[:3]
            facts = "\0".join(map(str, (*place, *now)))
            digest = hashlib.blake2b(
                facts.encode("utf-8", "surrogateescape"), digest_size=DIGEST_BYTES
            ).digest()
            found[i] = np.frombuffer(digest, np.int64)
        elif source.holds(i):
            with suppress(UnreadableImageError):
                found[i] = np.frombuffer(source.digest(i), np.int64)
    return found


def first_of_each(source: Source, sets: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Positions of the images without those that are the same file as an earlier one, by another name or a link; with
    `sets`, the number of the set of each image ``(n,)``, as an earlier one of the same set.

    Shape: (m,), ascending.
    """
    first = _same_file(source, sets)
    return np.flatnonzero(first == np.arange(len(first)))


def same_place(source: Source) -> NDArray[np.int64]:
    """For each image the position of the first that lies at the same path: in the same entry of the same folder, links
    to folders followed, and of an archive in the same part. A link to a file is a path of its own.

    Shape: (n,).
    """
    folders: dict[str, str] = {}
    seen: dict[tuple[str, str, int], int] = {}
    first = np.arange(len(source))
    for i in range(len(source)):
        if (origin := source.origin(i)) is None:
            continue
        folder, name = os.path.split(origin.file)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder) if origin.version is None else folder
        first[i] = seen.setdefault((folders[folder], name, origin.start), i)
    return first


def _same_file(source: Source, sets: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """For each image the position of the first of its set that is the same file."""
    of = np.zeros(len(source), np.int64) if sets is None else sets
    seen: dict[tuple[int, int, int, int], int] = {}
    first = np.arange(len(source))
    for i, (origin, state) in enumerate(_states(source)):
        if (
            origin is not None and state is not None and state.st_ino
        ):  # 0 where the system has no such numbers
            first[i] = seen.setdefault((int(of[i]), state.st_dev, state.st_ino, origin.start), i)
    return first


def linked(source: Source) -> str | None:
    """A sentence on files that are listed under several names, each of which counts; None where there are none."""
    first = _same_file(source)
    again = np.flatnonzero(first != np.arange(len(first)))
    if not len(again):
        return None
    one, i = len(again) == 1, again[0]
    other = int((source.labels[again] != source.labels[first[again]]).sum())
    classes = f", {other} of them in another class" if other else ""
    return (
        f"{plural(len(again), 'file')} of {source.name} {'is' if one else 'are'} listed under another name too, by "
        f"links{classes} ({source.paths[i]} is {source.paths[first[i]]}): {'it counts' if one else 'they count'} twice."
    )


def copied(
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    names: tuple[list[str], list[str]],
) -> list[str]:
    """Sentences on test images whose content is that of training images, and on copies with different labels.

    Args:
        train, test: :func:`isosphere.data.digests`, of which zeros stand for nothing known.
        labels, names: of the training and of the test images.
    """
    whole, both = np.concatenate([train, test]), np.concatenate(labels)
    paths = [*names[0], *names[1]]
    seen: dict[bytes, int] = {}
    first = np.array(
        [seen.setdefault(row.tobytes(), i) if row.any() else i for i, row in enumerate(whole)], np.int64
    )
    again = np.flatnonzero(first != np.arange(len(first)))
    said, leaked = [], [i for i in again if i >= len(train) > first[i]]
    if leaked:
        i = leaked[0]
        said.append(
            f"{plural(len(leaked), 'test image')} {'is a copy' if len(leaked) == 1 else 'are copies'} of training "
            f"images ({paths[i]} of {paths[first[i]]}): the figures rest on them too. isosphere dedup finds copies."
        )
    apart = [i for i in again if both[i] != both[first[i]] and min(both[i], both[first[i]]) >= 0]
    if apart:
        i = apart[0]
        said.append(
            f"{plural(len(apart), 'image')} {'has' if len(apart) == 1 else 'have'} copies with another label "
            f"({paths[i]} and {paths[first[i]]})."
        )
    return said


def fingerprint(source: Source) -> str:
    """A digest of the images wherever they lie: of all names, and of the lengths and contents of some.

    The same after the folder was moved or copied, another once images are added, removed, renamed or changed. Images in
    memory are looked at all. (Of more than 10,000 files lengths are compared of so many, spread evenly, and contents of
    256; of a data set of torch 16 items, each read twice, which count where they can be read and are the same again.)

    Shape: 32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for name in source.paths:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    for origin, state in _states(source.subset(spread(len(source), _LENGTHS))):
        if origin is not None and (state is not None or origin.version is not None):
            size = state.st_size if origin.size is None and state is not None else origin.size
            digest.update(f"{size}\0".encode())
    looked = spread(len(source), _CONTENTS)
    within = set(looked)
    with source.ahead(looked):
        for i in range(len(source)):
            if source.holds(i) or (i in within and source.origin(i) is not None):
                with suppress(UnreadableImageError):
                    digest.update(source.digest(i))
    items = [i for i in looked if not source.holds(i) and source.origin(i) is None]
    for k in spread(len(items), _ITEMS):
        digest.update(_settled(source, items[k]))
    return digest.hexdigest()


def _settled(source: Source, i: int) -> bytes:
    """The digest of an item that only reading can tell; empty where it fails, or is another one each time."""
    try:
        first, second = source.digest(i), source.digest(i)
    except Exception:  # anybody's code: what it raises surfaces where the images are needed
        return b""
    return first if first == second else b""


def _states(source: Source) -> Iterator[tuple[Origin | None, os.stat_result | None]]:
    """Where each image lies, and what the system says of the file; that of an archive is asked for once."""
    file, state = "", None
    for i in range(len(source)):
        origin = source.origin(i)
        if origin is not None and origin.file != file:
            file, state = origin.file, None
            if origin.version is None:
                with suppress(OSError, ValueError):
                    state = Path(file).stat()
        yield origin, state
