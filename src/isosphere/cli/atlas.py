"""``isosphere embed --atlas``: a file for Embedding Atlas."""

from pathlib import Path
from typing import TYPE_CHECKING

from isosphere.cli.console import facts, output_console
from isosphere.errors import shell

if TYPE_CHECKING:
    from isosphere import workflows
    from isosphere.data import Source
    from isosphere.deploy import Layer as LayerName

__all__ = ["write_for_atlas"]


def write_for_atlas(run: "workflows.Run", data: "str | Source", out: Path, layer: "LayerName | None") -> None:
    """Write the file that Embedding Atlas' own program opens, and how."""
    from isosphere.cli.apply import say_left_out
    from isosphere.explore import explored, write_atlas
    from isosphere.workflows import progress_bar

    page = explored(run, data, layer=layer, phase=progress_bar)
    write_atlas(page, out)
    collection = page.resources.collection
    console = output_console()
    count, dim = collection.unit().shape
    facts(
        console,
        {
            "written": str(out),
            "embeddings": f"{count:,} of {dim} dimensions ({collection.layers[0]}, unit rows of the whole picture)",
            "open": f"embedding-atlas {shell(out)} --x x --y y --neighbors neighbors --image image",
        },
    )
    say_left_out(collection.index(), as_json=False)
