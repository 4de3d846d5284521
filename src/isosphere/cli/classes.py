"""What a classifier has said of images, counted."""

from typing import TYPE_CHECKING

from isosphere.cli.console import output_console, paragraph
from isosphere.cli.listing import print_list
from isosphere.errors import plural

if TYPE_CHECKING:
    from isosphere.data import Source
    from isosphere.deploy import Predictions

__all__ = ["say_classes"]

_SHOWN = 20


def say_classes(found: "Predictions", source: "Source") -> None:
    """A table of the classes, the most frequent first, and what to look at: pictures of which no class is probable, and
    folders that are no class of the classifier.
    """
    rows = sorted(found.counts(), key=lambda row: -row["images"])
    columns = {
        "class": lambda row: row["class"],
        "images": lambda row: f"{row['images']:,}",
        "mean confidence": lambda row: f"{100 * row['confidence']:.0f} %" if row["images"] else "\u2013",
    }
    print_list("Classes", columns, rows[:_SHOWN])
    if rest := rows[_SHOWN:]:
        others = sum(row["images"] for row in rest)
        paragraph(
            output_console(), f"The other {len(rest):,} of {len(rows):,} classes: {plural(others, 'image')}."
        )
    if unsure := int((found.confidence < 0.5).sum()):
        among = f"{plural(unsure, 'image')} of {len(found.confidence):,}"
        said = f"{among} with a confidence below 50 %: look at them first."
        paragraph(output_console(), said, style="yellow")
    paragraph(
        output_console(),
        f"Every image is given one of these {len(found.names):,} classes, also an image of none of them, and then "
        "often with a high confidence.",
    )
    if strange := sorted({*source.class_names} - {*found.names}):
        named = ", ".join(strange[:5]) + (f" and {len(strange) - 5:,} more" if len(strange) > 5 else "")
        paragraph(output_console(), f"Not among the classes of the classifier: {named}.", style="yellow")
