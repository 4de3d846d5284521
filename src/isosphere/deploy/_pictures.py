"""What people have, as a source of images: data by name, or pictures that are at hand."""

from pathlib import Path
from typing import Any

from isosphere.data import Source, as_source, is_image_file, is_image_name, is_picture


def source_of(images: Any, in_chans: int = 3) -> Source:
    """Data by name or pictures at hand as a source (:func:`isosphere.data.as_source`); one picture is a source of one,
    as an array with ``in_chans`` channels is.

    Raises: UsageError for what is neither.
    """
    if isinstance(images, (str, Path)):
        return as_source(images if is_named(images) else [images])
    return as_source([images] if is_picture(images, in_chans) else images)


def is_named(images: Any) -> bool:
    """Whether it is data that the command line could name, not the file of one picture."""
    if isinstance(images, str):
        return not is_image_file(Path(images))
    named_so = isinstance(images, Path) and is_image_name(images.name) and not images.is_dir()
    return isinstance(images, Path) and not named_so and not is_image_file(images)
