"""The names of images on a command line: as one source, or as sets that are compared."""

from pathlib import Path

from isosphere.errors import UsageError

__all__ = ["names_of_sets", "together"]

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
