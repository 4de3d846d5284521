"""Using a trained encoder: embeddings in a file, search, near-duplicates, and files that other programs load."""

from typing import TYPE_CHECKING, Any

from isosphere.deploy.duplicates import DuplicateGroup, near_duplicates
from isosphere.deploy.embed import embed_source, embed_to_file
from isosphere.deploy.export import FORMATS, Exported, export
from isosphere.deploy.files import Embeddings, read_embeddings, write_embeddings
from isosphere.deploy.index import Index, Match, open_index
from isosphere.deploy.run import LAYERS, Layer, Run

if TYPE_CHECKING:
    from isosphere.deploy.transformer import RunTransformer

__all__ = [
    "FORMATS",
    "LAYERS",
    "DuplicateGroup",
    "Embeddings",
    "Exported",
    "Index",
    "Layer",
    "Match",
    "Run",
    "RunTransformer",
    "embed_source",
    "embed_to_file",
    "export",
    "near_duplicates",
    "open_index",
    "read_embeddings",
    "write_embeddings",
]


def __getattr__(name: str) -> Any:
    if name == "RunTransformer":  # the one part that needs scikit-learn
        from isosphere.deploy.transformer import RunTransformer

        return RunTransformer
    raise AttributeError(f"module 'isosphere.deploy' has no attribute {name!r}")
