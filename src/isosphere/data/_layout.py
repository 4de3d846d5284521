"""What the names of folders mean: which part of a split an image belongs to, and its label."""

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from isosphere.errors import UsageError, option

from ._decode import IMAGE_SUFFIXES
from ._source import Split
from ._unknown import HEIF_HINT, HEIF_IS_READ, HEIF_SUFFIXES

TRAIN_NAMES = ("train", "training")
TEST_NAMES = (
    "test",
    "testing",
    "val",
    "valid",
    "validation",
)  # of several, the first with labels is the test part
_FOREIGN = frozenset(
    f".{suffix}"
    for kinds in ("jxl svg psd tga exr hdr dcm fits", "raw dng cr2 cr3 nef arw orf rw2 eps ico")
    for suffix in kinds.split()
)
_TIFF = (b"II*\0", b"MM\0*")
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(*_TIFF, b"\0\0\0\x0cjP  "),
)
_IGNORED = ("__macosx", "@eadir", "$recycle.bin")


@dataclass(frozen=True)
class Layout:
    """Images of one part, or all, with their labels, and a remark on each place whose images are in no part.

    ``positions`` are those of ``members`` in the list that was arranged.
    """

    members: list[str]
    positions: list[int]
    labels: NDArray[np.int64]
    class_names: list[str]
    has_test_split: bool
    left_out: list[tuple[str, str]]


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or one of those that operating systems leave behind."""
    return name.startswith(".") or name.casefold() in _IGNORED


def normal_name(name: str) -> str:
    """The name of a member of an archive with / between its folders, whatever system it was packed on, and no ./"""
    return str(PurePosixPath(name.replace("\\", "/")))


def leads_out(name: str) -> bool:
    """Whether the name of a member of an archive would lead out of the folder into which it is unpacked."""
    path = PurePosixPath(normal_name(name))
    return path.is_absolute() or ".." in path.parts or bool(PureWindowsPath(name).drive)


def link_target(name: str, target: str) -> str:
    """The member of an archive that a symbolic link of this name leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), normal_name(target)))


def is_image_name(name: str) -> bool:
    """Whether a file name ends like that of an image."""
    return PurePosixPath(name).suffix.casefold() in IMAGE_SUFFIXES


def is_bare_name(name: str) -> bool:
    """Whether a file name has no ending that says what it is, so that only its content can: ``IMG``, ``scan.001``."""
    suffix = PurePosixPath(name).suffix[1:]
    return not suffix or suffix.isdecimal()


def must_be_opened(name: str) -> bool:
    """Whether only the content of a file says if it is an image that is read: its name has no ending that says so, or
    that of a picture of another format (a JPEG that a phone calls ``IMG.HEIC``).
    """
    return is_bare_name(name) or foreign_format(name) is not None


def begins_as_image(start: bytes, name: str) -> bool:
    """Whether the first 16 bytes of a file of this name are those of an image that is read here."""
    if foreign_format(name) and start.startswith(_TIFF):  # the raw data of a camera begin as a TIFF
        return False
    if start[:2] == b"BM":
        return start[6:10] == bytes(4)
    if start[:1] == b"P":
        return bool(re.match(rb"P[4-6]\s+[#0-9]", start))
    return start.startswith(_SIGNATURES) or start[8:12] == b"WEBP" or start[4:12] == b"ftypavif"


def foreign_format(name: str) -> str | None:
    """Why a file that is an image all the same is not read; None for anything else."""
    suffix = PurePosixPath(name).suffix.casefold()
    if suffix in HEIF_SUFFIXES and not HEIF_IS_READ:
        return f"{suffix} {HEIF_HINT}"
    return f"{suffix} is not read here: convert it to .png or .jpg" if suffix in _FOREIGN else None


def part_of(name: str) -> str | None:
    """The word in the name of a file of many images that says to which part of a split it belongs."""
    words = re.findall("[a-z]+", name.casefold())
    return next((w for w in words if w in (*TRAIN_NAMES, *TEST_NAMES)), None)


def no_test_part(name: str) -> UsageError:
    """The error for a test part that is asked of a source without one."""
    return UsageError(
        f"{name} is not split: its images are one part, without test images of their own. Name a second "
        f"source for the test ({option('test', ...)}), or put the images into train/ and test/."
    )


def _without_wrappers(parts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Drop leading folders that hold everything, down to a folder of training images."""
    while parts and len(parts[0]) > 1:
        first = parts[0][0]
        if first.casefold() in TRAIN_NAMES or any(len(p) == 1 or p[0] != first for p in parts):
            break
        parts = [p[1:] for p in parts]
    return parts


def arrange(members: Sequence[str], split: Split, name: str) -> Layout:
    """Read splits and labels off the relative paths of images.

    A source is split when ``train/`` and one of ``test/``, ``val/`` stand side by side at its top (or
    ``train/`` stands there alone). Without `split` all images are taken. The label of an image is the folder below
    the split, and folders that hold everything mean nothing. Fewer than two classes are none. Of ``test/`` and
    ``val/`` the first is taken whose images lie in folders of training classes, if any is: the test images of ImageNet
    have no labels.

    Raises: UsageError if the test part is asked of a source without one.
    """
    parts = _without_wrappers([PurePosixPath(m).parts for m in members])
    tops = {p[0].casefold() for p in parts if len(p) > 1}
    train = next((t for t in TRAIN_NAMES if t in tops), None)
    test = _test_part(parts, train)
    is_split = train is not None and (test is not None or len(tops) == 1)
    if split == "test" and not (is_split and test):
        raise no_test_part(name)
    if not is_split:
        labels, class_names = _labels(parts)
        return Layout(list(members), list(range(len(members))), labels, class_names, False, [])

    within = [k for k, p in enumerate(parts) if len(p) > 1 and p[0].casefold() in (train, test)]
    below = _without_wrappers([parts[k][1:] for k in within])
    of_within, class_names = _labels(below)
    labels = np.full(len(parts), -1, np.int64)
    labels[within] = of_within
    if split is None:
        # Further parts (val/ beside train/ and test/) have the classes of the two.
        wrappers = len(parts[within[0]]) - 1 - len(below[0])
        for k in set(range(len(parts))) - set(within):
            inside = parts[k][1 + wrappers :]
            if (
                parts[k][0].casefold() in (*TRAIN_NAMES, *TEST_NAMES)
                and len(inside) > 1
                and inside[0] in class_names
            ):
                labels[k] = class_names.index(inside[0])
        return Layout(list(members), list(range(len(members))), labels, class_names, test is not None, [])

    wanted = train if split == "train" else test
    kept = [k for k in within if parts[k][0].casefold() == wanted]
    outside = Counter(
        parts[k][0] + "/" if len(parts[k]) > 1 else "./" for k in set(range(len(parts))) - set(within)
    )
    reason = f"outside {train}/" + (f" and {test}/" if test else "")
    return Layout(
        [members[k] for k in kept],
        kept,
        labels[kept],
        class_names,
        test is not None,
        [(place, f"{n} images {reason}") for place, n in sorted(outside.items())],
    )


def _test_part(parts: list[tuple[str, ...]], train: str | None) -> str | None:
    present = [t for t in TEST_NAMES if any(len(p) > 1 and p[0].casefold() == t for p in parts)]
    classes = {p[1] for p in parts if len(p) > 2 and p[0].casefold() == train}
    labelled = (
        t for t in present if any(len(p) > 2 and p[0].casefold() == t and p[1] in classes for p in parts)
    )
    return next(labelled, present[0] if present else None)


def _labels(parts: list[tuple[str, ...]]) -> tuple[NDArray[np.int64], list[str]]:
    class_names = sorted({p[0] for p in parts if len(p) > 1})
    if len(class_names) < 2:
        return np.full(len(parts), -1, np.int64), []
    position = {c: k for k, c in enumerate(class_names)}
    return np.array([position[p[0]] if len(p) > 1 else -1 for p in parts], dtype=np.int64), class_names
