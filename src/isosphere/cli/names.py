"""The names of images on a command line: as one source, or as sets that are compared."""

from pathlib import Path
from typing import TYPE_CHECKING

from typer.exceptions import TyperException

from isosphere.errors import UsageError

if TYPE_CHECKING:
    from isosphere.data import Source
    from isosphere.workflows import Run

__all__ = ["images_of", "names_of_sets", "together"]

MOST_NAMES = 100


def names_of_sets(data: list[str]) -> list[str]:
    """The names of sets that are to be compared with each other: those that were given, but image files, into which a
    shell has written out a pattern, are one set.
    """
    from isosphere.data import is_image_file

    if len(data) > 1 and all(is_image_file(Path(name)) for name in data):
        return [together(data)]
    return data


def together(data: list[str]) -> str:
    """The names of several sources as the one that opens them all.

    Raises: UsageError for so many that nobody has typed them: a shell has written out a pattern.
    """
    if len(data) > MOST_NAMES:
        raise UsageError(
            f"{len(data):,} names were given, from {data[0]} to {data[-1]}: put the pattern in quotes, as in "
            "'pictures/*.jpg' or 's-{000..999}.tar', or give the folder, or a file that lists them (.txt)."
        )
    from isosphere.data import joined

    return joined(data)


def images_of(
    run: "Run", data: str | None, lacking: str | None = None, *, training: bool = True
) -> "tuple[Run, Source]":
    """The images of this name, where there is none those of the run's collection, else of its training, and the run as
    it is used on them. Those of the training are not taken unless `training`.

    Raises: UsageError or TyperException where these are not to be had, and `lacking` (an option, or the argument) is
        needed.
    """
    from isosphere.data import open_source
    from isosphere.workflows import collection_of, training_images

    if data is not None:
        return run, open_source(data)
    recorded = run.folder.collection.exists() or (training and training_images(run) is not None)
    if lacking is not None and not recorded:
        raise TyperException(f"Missing {'option' if lacking.startswith('-') else 'argument'} '{lacking}'.")
    return collection_of(run)[:2]
