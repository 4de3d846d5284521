"""Labels of images that lie in one folder, from a list beside them: the validation images of ImageNet."""

import re
from pathlib import Path, PurePosixPath

from ._limits import read_text

LABEL_MAPS = ("LOC_val_solution.csv", "val_annotations.txt", "val_labels.csv", "val_labels.txt", "val.txt")
"""Names of files that say the class of each validation image: Kaggle's, Tiny ImageNet's, and one's own."""


def read_label_map(file: Path) -> dict[str, str]:
    """Class by name of image, without folder and suffix, from lines such as ``ILSVRC2012_val_00000001,n01751748``.

    Fields are parted by commas or white space, and those after the second mean nothing.
    """
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError):
        return {}
    fields = (re.split(r"[,\s]+", line.strip()) for line in text.splitlines())
    return {PurePosixPath(found[0]).stem: found[1] for found in fields if len(found) > 1}


def by_label(members: list[str], part: str, classes: dict[str, str]) -> list[str]:
    """The names that images of a part would have in folders of their classes; other images keep theirs.

    ``part`` is the folder of those images (``val``), wherever it stands in the names.
    """
    arranged = []
    for name in members:
        folders, stem = PurePosixPath(name).parts[:-1], PurePosixPath(name).stem
        place = next((k for k, folder in enumerate(folders) if folder.casefold() == part), None)
        if place is None or stem not in classes:
            arranged.append(name)
            continue
        arranged.append("/".join((*folders[: place + 1], classes[stem], PurePosixPath(name).name)))
    return arranged
