"""A zip archive of image files, read in place."""

import os
import stat
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from isosphere.errors import UsageError, plural

from ._encoded import EncodedSource
from ._folder import no_images
from ._layout import (
    arrange,
    begins_as_image,
    foreign_format,
    is_ignored,
    is_image_name,
    leads_out,
    link_target,
    must_be_opened,
    normal_name,
)
from ._limits import UnreadableImageError, reason_of, require_fitting
from ._source import Origin, Split

_SECOND = "a later member of the archive has this name when it is unpacked, and is read in its place"


class ZipSource(EncodedSource):
    """Images of a zip archive, laid out as a folder would be; nothing is written to disk."""

    def __init__(self, file: Path, *, split: Split = None) -> None:
        self.file = file
        self._archive: zipfile.ZipFile | None = None
        self._owner = -1
        try:
            infos = [info for info in self._open().infolist() if not info.is_dir()]
        except Exception as error:  # Python's reader raises nearly anything on a damaged archive
            raise UsageError(
                f"{file} cannot be read as a zip archive ({reason_of(error)}). Fetch it again, or unpack it and give "
                "the folder."
            ) from error
        outside = [info.filename for info in infos if leads_out(info.filename)]
        inside = [info for info in infos if not leads_out(info.filename)]
        self._infos = {normal_name(info.filename): info for info in inside}
        hidden = [info.filename for info in inside if self._infos[normal_name(info.filename)] is not info]
        links = self._follow_links()
        names = [n for n in self._infos if not any(is_ignored(p) for p in PurePosixPath(n).parts)]
        members = sorted(
            n for n in names if is_image_name(n) or (must_be_opened(n) and self._begins_as_image(n))
        )
        if outside and not members:
            raise UsageError(
                f"{file} holds no images that are read: {len(outside)} of its members have names that lead out of it "
                f"({outside[0]}). Pack the folder of images again."
            )
        if not members:
            raise no_images(str(file), Counter(PurePosixPath(n).suffix.lower() for n in names))
        layout = arrange(members, split, str(file))
        folders = {str(folder) for member in members for folder in PurePosixPath(member).parents}
        aside = sum(target in folders for target in links.values())
        super().__init__(
            file.stem,
            layout.members,
            labels=layout.labels,
            class_names=layout.class_names,
            has_test_split=layout.has_test_split,
            unreadable=[(n, reason) for n in sorted({*names} - {*members}) if (reason := foreign_format(n))]
            + [(n, "a link to what is no image of the archive") for n in sorted(links) if is_image_name(n)]
            + [(n, _SECOND) for n in hidden if is_image_name(n)]
            + [(n, "its name leads out of the archive") for n in outside if is_image_name(n)],
            left_out=[
                *layout.left_out,
                *([(file.name, f"{plural(aside, 'link')} to folders, not followed")] * bool(aside)),
            ],
        )

    def _open(self) -> zipfile.ZipFile:
        # One handle a process: after a fork, two processes would move one shared file position.
        if self._archive is None or self._owner != os.getpid():
            self._archive, self._owner = zipfile.ZipFile(self.file), os.getpid()
        return self._archive

    def _follow_links(self) -> dict[str, str]:
        """Let links to files of the archive be those files; the others with their targets, which are taken out."""
        links = {n: link_target(n, self._text(n)) for n, info in self._infos.items() if _is_link(info)}
        files = {n: info for n, info in self._infos.items() if n not in links}
        while found := [n for n, target in links.items() if target in files]:
            files |= {n: files[links.pop(n)] for n in found}
        self._infos = files
        return links

    def _text(self, name: str) -> str:
        try:
            return self._open().read(self._infos[name])[:4096].decode("utf-8", "surrogateescape")
        except Exception:  # encrypted, damaged, or packed by a method that Python lacks
            return ""

    def _begins_as_image(self, name: str) -> bool:
        try:
            with self._open().open(self._infos[name]) as stream:
                return begins_as_image(stream.read(16), name)
        except Exception:  # encrypted, damaged, or packed by a method that Python lacks
            return False

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_archive": None, "_owner": -1}

    def origin(self, i: int) -> Origin:
        info = self._infos[self.paths[i]]
        return Origin(str(self.file.absolute()), info.header_offset, info.file_size)

    def body(self, i: int) -> bytes:
        archive = self._open()
        try:
            info = self._infos[self.paths[i]]
            require_fitting(info.file_size)
            return archive.read(info)
        except UnreadableImageError:
            raise
        except Exception as error:  # encrypted, damaged, or packed by a method that Python lacks
            raise UnreadableImageError(str(error) or type(error).__name__) from error


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)
