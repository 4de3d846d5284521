"""Search among embeddings that are in Parquet files."""

from pathlib import Path
from typing import TYPE_CHECKING

from isosphere.errors import UsageError, option, plural

if TYPE_CHECKING:
    from isosphere.deploy import Layer, VectorIndex
    from isosphere.reductions import SearchEngine
    from isosphere.workflows import Run

__all__ = ["layer_note", "vector_index", "vector_note"]


def vector_index(
    run: "Run",
    data: str,
    layer: "Layer | None",
    engine: "SearchEngine",
    *,
    passes: int,
    out: Path | None,
) -> "VectorIndex":
    """The index of embeddings in Parquet files, with a bar while it is built.

    Raises: UsageError for what embeddings alone do not allow.
    """
    from isosphere.deploy import open_vector_index
    from isosphere.workflows import progress_bar

    if out is not None:
        raise UsageError(
            f"{option('out', out)}: {data} holds embeddings, and no pictures to draw. Name the pictures with --in."
        )
    with progress_bar("Indexing") as progress:
        index = open_vector_index(run, data, layer=layer, engine=engine, progress=progress)
    if passes not in (1, index.run.passes):
        raise UsageError(
            f"{option('passes', passes)}: the embeddings in {data} were made with {index.run.passes}. Leave it out."
        )
    return index


def layer_note(run: "Run", index: "VectorIndex") -> str | None:
    """A sentence where images themselves would be searched by another layer than their embeddings are."""
    if index.layer == run.search_layer:
        return None
    return (
        f"These embeddings are of the layer {index.layer}; pictures are searched by {run.search_layer}, which may find "
        f"others: isosphere embed with {option('layer', run.search_layer)} makes embeddings of that."
    )


def vector_note(index: "VectorIndex") -> str:
    """Of how many embeddings an index is, of which kind, and where it is kept."""
    if not index.kind:
        return f"{plural(len(index), 'image')} (all embeddings read)"
    kind = (
        "all compared"
        if index.kind == "Flat"
        else f"{index.kind}, recall of the ten nearest {index.recall:.1%}"
    )
    made = "indexed" if index.built else "as before"
    where = f"; FAISS index in {index.saved}" if index.saved else ""
    return f"{plural(len(index), 'image')} ({made}, {kind}{where})"
