"""Where the samples of a tar shard lie, found once from its headers and kept between runs."""

import contextlib
import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from ._cache import cache_folder, keep
from ._decode import IMAGE_SUFFIXES
from ._files import File
from ._layout import (
    begins_as_image,
    foreign_format,
    is_ignored,
    is_image_name,
    leads_out,
    link_target,
    must_be_opened,
    normal_name,
)

_VERSION = 3
_PICKLED = frozenset({"pyd", "pickle", "pkl", "pt", "pth"})
_LABEL_KEYS = ("cls", "label", "class", "class_id", "target", "y")
_MOST_LABEL_BYTES = 1 << 20


@dataclass
class TarIndex:
    """One image a sample, in the order of the file.

    ``members`` are the names of the images in the archive, ``offsets`` and ``sizes`` their bytes, ``labels`` what the
    ``.cls`` or ``.json`` beside each says (empty for nothing). ``fault`` says where an archive ends too early,
    ``pickled`` names the first entry that could run code, ``second`` counts further images of a sample, ``foreign``
    lists images that are not read, for their format or for a name that leads out of the archive, ``astray`` links to
    what is no image of the archive, ``aside`` counts links to its folders.
    """

    members: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    fault: str = ""
    pickled: str = ""
    second: int = 0
    foreign: list[str] = field(default_factory=list)
    astray: list[str] = field(default_factory=list)
    aside: int = 0


@dataclass
class _Sample:
    """Consecutive members of one key."""

    key: str | None = None
    images: list[tuple[str, str, int, int]] = field(default_factory=list)  # extension, name, offset, size
    labels: dict[str, str] = field(default_factory=dict)  # by name up to the last dot

    def close(self, index: TarIndex) -> None:
        # A sample has one image: a mask beside it is called key.seg.png. Where none has the plain extension, they are
        # no sample: the names have dots of their own (scan_2023.01.05.png).
        plain = [image for image in self.images if not image[0] or f".{image[0]}" in IMAGE_SUFFIXES]
        chosen = plain[:1] or self.images
        for _, name, offset, size in chosen:
            index.members.append(name)
            index.offsets.append(offset)
            index.sizes.append(size)
            own = (self.labels.get(stem) for stem in (_stem(name), name, self.key or ""))
            index.labels.append(next(filter(None, own), ""))
        index.second += len(self.images) - len(chosen)


def index_tar(file: File) -> TarIndex:
    """Read the headers of a tar file in the WebDataset form, or what an earlier call kept of them; of a file of which
    nobody knows the version nothing is kept.

    A sample is a run of members whose names agree up to the first dot of the last component; if that would merge images
    of which none is ``KEY.SUFFIX``, up to the last dot. A link to an image of the archive is one too. An archive that
    ends too early gives what lies whole before its end.

    Raises: OSError if the file cannot be read, tarfile.ReadError if it is no plain tar file.
    """
    state = file.state
    if state is None:
        return _scan(file)
    kept = _kept_file(state)
    with contextlib.suppress(OSError, ValueError, TypeError):
        return TarIndex(**json.loads(kept.read_text(encoding="utf-8")))
    index = _scan(file)
    keep(kept, lambda stream: stream.write(json.dumps(asdict(index)).encode()))
    return index


def _scan(file: File) -> TarIndex:
    index, sample = TarIndex(), _Sample()
    places: dict[str, tuple[int, int]] = {}  # of images: offset and size
    links: dict[str, str] = {}  # to what comes later, if anywhere
    length = file.size
    with file.open() as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in _members(archive, index):
            name = normal_name(member.name)
            if member.issparse() or _is_meta(name):
                continue
            key, extension = _divide(name)
            if member.islnk() or member.issym():
                if leads_out(name) or not (is_image_name(name) or must_be_opened(name)):
                    continue
                if (target := _target(member, name)) not in places:
                    links[name] = target
                    continue
                offset, size = places[target]
            elif not member.isreg():
                continue
            else:
                offset, size = member.offset_data, member.size
            if offset + size > length:
                index.fault = f"it ends within {member.name}"
                break
            if key != sample.key:
                sample.close(index)
                sample = _Sample(key)
            if _enter(index, sample, _Member(member.name, name, extension, offset, size), stream):
                places[name] = offset, size
    sample.close(index)
    _follow(links, places, index)
    return index


def _target(member: tarfile.TarInfo, name: str) -> str:
    """The member that a link leads to: a hard link names it whole, a symbolic one from its own folder."""
    return link_target("" if member.islnk() else name, member.linkname)


def _follow(links: dict[str, str], places: dict[str, tuple[int, int]], index: TarIndex) -> None:
    """Enter the links that lead to images, also by other links, each as a sample of its own."""
    while found := [name for name, target in links.items() if target in places]:
        for name in found:
            places[name] = places[links.pop(name)]
            _Sample(images=[("", name, *places[name])]).close(index)
    folders = {str(folder) for name in places for folder in PurePosixPath(name).parents}
    index.aside = sum(target in folders for target in links.values())
    index.astray += [name for name, target in links.items() if is_image_name(name) and target not in folders]


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


class _Member(NamedTuple):
    """A member of an archive: its name as it is stored and as it is read, and where its bytes lie."""

    stored: str
    name: str
    extension: str
    offset: int
    size: int


def _enter(index: TarIndex, sample: _Sample, member: _Member, stream: BinaryIO) -> bool:
    """Note a member; whether it is an image."""
    name, suffix = member.name, member.extension.rpartition(".")[2]
    if suffix in _PICKLED:
        index.pickled = index.pickled or name
    elif suffix in ("cls", "json") and member.size <= _MOST_LABEL_BYTES:
        body = _read(stream, member, member.size)
        if suffix == "cls":
            sample.labels[_stem(name)] = body.decode("utf-8", "replace").strip()
        else:
            sample.labels.setdefault(_stem(name), _label_of_json(body))
    elif is_image_name(name) or (must_be_opened(name) and begins_as_image(_read(stream, member, 16), name)):
        if leads_out(member.stored):
            index.foreign.append(name)
            return False
        sample.images.append((member.extension, name, member.offset, member.size))
        return True
    elif foreign_format(name):
        index.foreign.append(name)
    return False


def _read(stream: BinaryIO, member: _Member, size: int) -> bytes:
    stream.seek(member.offset)
    return stream.read(min(size, member.size))


def _stem(name: str) -> str:
    """A name up to its last dot."""
    return name.removesuffix(PurePosixPath(name).suffix)


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


def _kept_file(state: str) -> Path:
    digest = hashlib.sha256(f"{_VERSION}\0{state}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_folder() / "shards" / f"{digest}.json"
