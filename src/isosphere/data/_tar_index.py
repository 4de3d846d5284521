"""Where the samples of a tar shard lie, found once from its headers and kept between runs."""

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ._cache import cache_folder, keep
from ._decode import IMAGE_SUFFIXES
from ._layout import foreign_format, is_ignored, leads_out

_VERSION = 1
_PICKLED = frozenset({"pyd", "pickle", "pkl", "pt", "pth"})
_LABEL_KEYS = ("cls", "label", "class", "class_id", "target", "y")
_MOST_LABEL_BYTES = 1 << 20


@dataclass
class TarIndex:
    """One image a sample, in the order of the file.

    ``members`` are the names of the images in the archive, ``offsets`` and ``sizes`` their bytes, ``labels`` what the
    ``.cls`` or ``.json`` beside each says (empty for nothing). ``fault`` says where an archive ends too early,
    ``pickled`` names the first entry that could run code, ``second`` counts further images of a sample, ``foreign``
    lists images that are not read, for their format or for a name that leads out of the archive.
    """

    members: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    fault: str = ""
    pickled: str = ""
    second: int = 0
    foreign: list[str] = field(default_factory=list)


@dataclass
class _Sample:
    """Consecutive members of one key."""

    key: str | None = None
    images: list[tuple[str, str, int, int]] = field(default_factory=list)  # extension, name, offset, size
    label: str = ""

    def close(self, index: TarIndex) -> None:
        if not self.images:
            return
        # Of several, the one whose extension is the plain one: a mask beside it is called key.seg.png.
        _, name, offset, size = min(self.images, key=lambda image: image[0].count("."))
        index.members.append(name)
        index.offsets.append(offset)
        index.sizes.append(size)
        index.labels.append(self.label)
        index.second += len(self.images) - 1


def index_tar(file: Path) -> TarIndex:
    """Read the headers of a tar file in the WebDataset form, or what an earlier call kept of them.

    A sample is a run of members whose names agree up to the first dot of the last component. An archive that ends
    too early gives what lies whole before its end.

    Raises: OSError if the file cannot be read, tarfile.ReadError if it is no plain tar file.
    """
    state = file.stat()
    kept = _kept_file(file, state)
    with contextlib.suppress(OSError, ValueError, TypeError):
        return TarIndex(**json.loads(kept.read_text(encoding="utf-8")))
    index = _scan(file, state.st_size)
    keep(kept, lambda stream: stream.write(json.dumps(asdict(index)).encode()))
    return index


def _scan(file: Path, length: int) -> TarIndex:
    index, sample = TarIndex(), _Sample()
    with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in _members(archive, index):
            if not member.isreg() or member.issparse() or _is_meta(member.name):
                continue
            if member.offset_data + member.size > length:
                index.fault = f"it ends within {member.name}"
                break
            key, extension = _divide(member.name)
            if key != sample.key:
                sample.close(index)
                sample = _Sample(key)
            _enter(index, sample, member, extension, stream)
    sample.close(index)
    return index


def _members(archive: tarfile.TarFile, index: TarIndex) -> Iterator[tarfile.TarInfo]:
    """The headers one after another, without keeping them; a broken one ends the archive and is noted."""
    name = "its start"
    while True:
        try:
            member = archive.next()
        except (tarfile.TarError, OSError, EOFError) as error:
            index.fault = f"it cannot be read beyond {name} ({error})"
            return
        if member is None:
            return
        archive.members = []  # type: ignore[attr-defined]  (else every header is kept)
        name = member.name
        yield member


def _enter(
    index: TarIndex, sample: _Sample, member: tarfile.TarInfo, extension: str, stream: BinaryIO
) -> None:
    suffix = extension.rpartition(".")[2]
    if suffix in _PICKLED:
        index.pickled = index.pickled or member.name
    elif f".{suffix}" in IMAGE_SUFFIXES and not leads_out(member.name):
        sample.images.append((extension, member.name, member.offset_data, member.size))
    elif extension in ("cls", "json") and member.size <= _MOST_LABEL_BYTES:
        stream.seek(member.offset_data)
        body = stream.read(member.size)
        if extension == "cls":
            sample.label = body.decode("utf-8", "replace").strip()
        else:
            sample.label = sample.label or _label_of_json(body)
    elif foreign_format(member.name) or f".{suffix}" in IMAGE_SUFFIXES:
        index.foreign.append(member.name)


def _label_of_json(body: bytes) -> str:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    found = (values.get(key) for key in _LABEL_KEYS) if isinstance(values, dict) else ()
    return next((str(v) for v in found if isinstance(v, int | str) and not isinstance(v, bool)), "")


def _divide(name: str) -> tuple[str, str]:
    """Key and extension, parted at the first dot of the last component; extensions in lower case."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return folder + slash + stem, extension.casefold()


def _is_meta(name: str) -> bool:
    """Hidden names, and ``__name__``, which the format keeps for remarks about the shard."""
    last = PurePosixPath(name).name
    return is_ignored(last) or (last.startswith("__") and last.endswith("__"))


def _kept_file(file: Path, state: os.stat_result) -> Path:
    facts = f"{_VERSION}\0{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    digest = hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_folder() / "shards" / f"{digest}.json"
