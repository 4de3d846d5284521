"""Arguments of the commands that take labels."""

from typing import Annotated, TypeAlias

import typer

__all__ = ["Group", "Labels"]

Labels: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Table (.csv) with the columns label and path or digest.",
        show_default="the classes of the images",
    ),
]
Group: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the labels, such as a patient: its images stay on one side of a split.",
        show_default=False,
    ),
]
