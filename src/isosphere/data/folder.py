"""A folder of image files, at any depth."""

import os
from collections import Counter
from pathlib import Path

from PIL import Image

from isosphere.errors import UsageError

from .decode import MAX_FILE_BYTES, UnreadableImageError, decode
from .layout import arrange, is_ignored, is_image_name
from .source import Source, Split

__all__ = ["FolderSource", "no_images"]


def no_images(name: str, other: Counter[str]) -> UsageError:
    """The error for a folder or archive in which no file is named like an image."""
    if not other:
        found = "it holds no files"
    else:
        kinds = ", ".join(f"{count} x {suffix or 'no suffix'}" for suffix, count in other.most_common(4))
        found = f"it holds {sum(other.values())} files of other kinds ({kinds})"
    return UsageError(
        f"{name} holds no images: {found}. Give a folder with .jpg, .png, .webp, .tif, .bmp or .gif files, at "
        "any depth, with or without class folders; or try the built-in textures:wood."
    )


class FolderSource(Source):
    """Images of a folder. Hidden files are ignored, links are followed, and no folder is entered twice."""

    def __init__(self, folder: Path, *, split: Split = None) -> None:
        members, other, unlisted = _walk(folder)
        if not members:
            if unlisted:
                raise UsageError(
                    f"{folder} cannot be listed ({unlisted[0][0]}: {unlisted[0][1]}). Make it readable."
                )
            raise no_images(str(folder), other)
        layout = arrange(sorted(members), split, str(folder))
        super().__init__(
            folder.resolve().name or str(folder),
            layout.members,
            labels=layout.labels,
            class_names=layout.class_names,
            has_test_split=layout.has_test_split,
            left_out=unlisted + layout.left_out,
        )
        self.folder = folder

    def image(self, i: int, *, at_least: int | None = None) -> Image.Image:
        path = self.folder / self.paths[i]
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UnreadableImageError((error.strerror or str(error)).lower()) from error
        if size == 0:
            raise UnreadableImageError("the file is empty")
        if size > MAX_FILE_BYTES:
            raise UnreadableImageError(f"the file has {size:,} bytes, more than {MAX_FILE_BYTES:,}")
        return decode(path, at_least=at_least)


def _walk(folder: Path) -> tuple[list[str], Counter[str], list[tuple[str, str]]]:
    """List images (relative, with /), count the suffixes of other files, and name folders that cannot be
    listed."""
    members: list[str] = []
    other: Counter[str] = Counter()
    unlisted: list[tuple[str, str]] = []
    entered: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        relative = pending.pop()
        try:
            here = folder / relative
            identity = here.stat()
            if (
                identity.st_dev,
                identity.st_ino,
            ) in entered:  # a link back up, or a second link to the same place
                continue
            entered.add((identity.st_dev, identity.st_ino))
            with os.scandir(here) as entries:
                found = sorted(entries, key=lambda e: e.name, reverse=True)
        except OSError as error:
            unlisted.append((relative or ".", (error.strerror or str(error)).lower()))
            continue
        for entry in found:
            if is_ignored(entry.name):
                continue
            name = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir():
                pending.append(name)
            elif not (entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())):
                continue  # sockets and pipes: opening one could wait for ever
            elif is_image_name(entry.name):
                members.append(name)  # a dangling link too, so that reading it names it
            else:
                other[Path(entry.name).suffix.lower()] += 1
    return members, other, unlisted
