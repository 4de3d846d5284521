"""Open a source of images by what a person types."""

import contextlib
import difflib
import os
from pathlib import Path

from isosphere.addresses import is_address, public
from isosphere.errors import UsageError
from isosphere.reading import UnreadableError, read_json

from ._address import open_address
from ._class_list import CLASS_LIST, class_list_of, only_classes
from ._files import LocalFile
from ._folder import holds_a_run, is_image_file
from ._formats import BUILTIN, FORMATS, Asked, describe_formats
from ._home import expanded
from ._joined import JoinedSource, distinct_ends, joined, parts_of
from ._layout import foreign_format, is_ignored, no_test_part
from ._listed import FileSource
from ._remote import listed, require_known
from ._shards import open_tars, refuse_pipe
from ._source import Source, Split

_PACKED = frozenset({".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar", ".lz4"})


def open_source(spec: str | Path, *, split: Split = None) -> Source:
    """Open images for reading: any of the `FORMATS`.

    Built-in: ``textures:cloud|disk|flake|wood|all[?count=2000&test=1000&size=72&seed=0]`` (``val=500`` for ``test``:
    validation images), ``digits``, ``torchvision:NAME:PATH``, ``galaxy10:PATH``. WebDataset shards: a .tar file, a
    folder of them, or a pattern such as ``train-{000..003}.tar``. ``A + B`` are several together. ``DATA?classes=FILE``
    takes those classes alone that a file lists, one a line. A built-in name wins over a file of that name (type
    ``./digits`` for the file). A path object is never a built-in name. ``split="train"`` opens the training part of a
    source that is split, else everything; ``"test"`` the test part; None everything.

    Raises: UsageError saying what was found and what to type instead.
    """
    if split not in ("train", "test", None):
        raise ValueError(f"split is {split!r}; expected 'train', 'test' or None.")
    source = _open(as_text(spec), split)
    source.location = located(spec) + (f" ({split})" if split else "")
    return source


def located(spec: str | Path) -> str:
    """What names the same images from any folder: the absolute path in place of a relative one, links followed.

    Nothing is opened, and a name that leads nowhere is as good as any.
    """
    text = as_text(spec)
    if len(parts := parts_of(text)) > 1:
        return joined([located(part) for part in parts])
    whole, classes = class_list_of(text)
    if is_address(whole):
        return whole + (classes and CLASS_LIST + _absolute(classes))
    if classes:
        return located(whole) + CLASS_LIST + _absolute(classes)
    asked = Asked(text)
    builtin = next((name for each in FORMATS if each.recognises_name(asked) for name in each.names), None)
    if builtin is None:
        return _absolute(asked.text)
    if not builtin.endswith(":PATH"):
        return asked.text
    *words, path = asked.text.split(":", builtin.count(":"))
    return ":".join([*words, _absolute(path)])


def as_text(spec: "str | os.PathLike[str]") -> str:
    """What names the same images as a text: of a path that is spelt like a built-in name, ``./digits``; of an address
    without its password or signature, which this process remembers.
    """
    text = os.fspath(spec)
    return public(text) if isinstance(spec, str) or not is_builtin(text) else f"./{text}"


def _absolute(text: str) -> str:
    try:
        return str(expanded(text).resolve())
    except (OSError, RuntimeError, ValueError):  # no such user, links in a circle, a null byte
        return text


def _open(text: str, split: Split) -> Source:
    if len(parts := parts_of(text)) > 1:
        return _open_several(parts, text, split)
    whole, classes = class_list_of(text)
    if classes:
        return only_classes(open_source(whole, split=split), classes)
    if is_address(text):
        return open_address(text, split=split)
    asked = Asked(text, split)
    for each in FORMATS:
        if each.recognises_name(asked):
            return each.open(asked)
    _require_there(asked)
    if holds_a_run(asked.path):
        raise UsageError(f"{text} is a run, not images.{_images_of_run(asked.path)}")
    for each in FORMATS:
        if not each.names and each.recognises(asked):
            return each.open(asked)
    if (reason := foreign_format(asked.path.name)) is not None:
        raise UsageError(f"{text} is an image of another format: {reason}.")
    archive = " Unpack it (tar -xf FILE) and give the folder, or make a plain .tar of it."
    raise UsageError(
        f"{text} is not a kind of file that is read here; expected {describe_formats()}."
        + archive * (asked.suffix in _PACKED)
    )


def _images_of_run(path: Path) -> str:
    """Which images a run was trained on, where it says so."""
    try:
        known = read_json(path / "images.json")
        place = known.get("location") or known.get("source")
    except (UnreadableError, AttributeError):
        place = None
    return f" Its images were {place}: give these, or others." if place else " Give images."


def _open_several(names: list[str], text: str, split: Split) -> Source:
    """The sources as one: of those that are split the part that is asked for, the others as parts to train on."""
    if all(is_image_file(expanded(name)) for name in names):
        return FileSource(names, split=split)
    if all(map(is_address, names)) and all(name.casefold().endswith(".tar") for name in names):
        remote = [file for name in names for file in listed(name)]
        return open_tars(remote, name="", typed=text, split=split)
    if all(name.casefold().endswith(".tar") and expanded(name).is_file() for name in names):
        files = [LocalFile(expanded(name).absolute()) for name in names]
        return open_tars(files, name="", typed=text, split=split)
    parts = [_open(name, "train" if split else None) for name in names]
    chosen = [i for i, part in enumerate(parts) if split != "test" or part.has_test_split]
    if not chosen:
        raise no_test_part(text)
    if split == "test":
        parts = [_open(name, "test") if i in chosen else parts[i] for i, name in enumerate(names)]
    if split is None:
        for name, part in zip(names, parts, strict=True):
            part.location = located(name)
    ends = distinct_ends(names)
    return JoinedSource([parts[i] for i in chosen], [ends[i] for i in chosen])


def require_there(spec: str | Path) -> None:
    """Refuse a text that is no built-in name and leads to no place; nothing is read.

    Raises: UsageError with the nearest name to type.
    """
    text = as_text(spec)
    if len(parts := parts_of(text)) > 1:
        for part in parts:
            require_there(part)
        return
    asked = Asked(class_list_of(text)[0])
    if not is_builtin(asked.text):
        _require_there(asked)


def is_builtin(text: str) -> bool:
    """Whether a text is a built-in name, such as ``textures:wood``."""
    return any(each.recognises_name(Asked(text)) for each in FORMATS)


def _require_there(asked: Asked) -> None:
    """Refuse what names nothing, an address, and a place where nothing is."""
    if not asked.text.strip() or "\0" in asked.text:
        raise UsageError(f"No data were named; expected {describe_formats()}.")
    refuse_pipe(asked.text)
    if is_address(asked.text):  # whether it is there is asked for once, when it is opened
        require_known(asked.text)
        return
    try:
        there = asked.is_pattern or asked.path.exists()
    except OSError as error:  # a name that is too long, or a folder above that may not be entered
        raise UsageError(
            f"{asked.text} cannot be opened ({(error.strerror or str(error)).lower()})."
        ) from error
    if not there:
        raise UsageError(_absent(asked.text, asked.path))
    if not asked.is_pattern and not (asked.path.is_file() or asked.path.is_dir()):
        raise UsageError(
            f"{asked.text} is a pipe or a device, which could go on for ever; expected {describe_formats()}. Write "
            "what it gives to a file first."
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
    return f"There is no file or folder {text}{where}, and no built-in of that name.{guess} Give {describe_formats()}."
