"""Using a trained encoder: embeddings in a file, search, near-duplicates, and files that other programs load."""

from isosphere.deploy._bundle import Bundled, check_bundle, write_bundle
from isosphere.deploy._duplicates import DuplicateGroup, Pair, near_duplicates, nearest_pair, pairs_near
from isosphere.deploy._embed import (
    Summary,
    block_count,
    block_length,
    embed_block,
    embed_images,
    embed_readable,
    embed_source,
    embed_to_file,
    embedding_identity,
    join,
)
from isosphere.deploy._embedder import Embedder, Role, pixels_of, rows_seen
from isosphere.deploy._export import FORMATS, Exported, export
from isosphere.deploy._files import check_target, read_embeddings, write_embeddings
from isosphere.deploy._index import Index, Match, open_index, unindexed, unseen
from isosphere.deploy._keeping import KEEPS, Keep, named_keep, rows_to_drop
from isosphere.deploy._kinds import Embeddings, Predictions, Provenance
from isosphere.deploy._layers import LAYERS, Layer, named_layer
from isosphere.deploy._pictures import source_of
from isosphere.deploy._runtime import Bundle, BundleError
from isosphere.deploy._runtime import in_words as checked_in_words
from isosphere.deploy._serve import (
    Limits,
    build_service,
    is_loopback,
    open_bundle,
    require_service,
    serve_bundle,
)
from isosphere.deploy._texts import pack_texts, unpack_texts
from isosphere.deploy._vector_index import IVF_FROM, VectorIndex, open_vector_index
from isosphere.deploy._vectors import NOTES, holds_vectors, part_file, part_note

__all__ = [
    "FORMATS",
    "IVF_FROM",
    "KEEPS",
    "LAYERS",
    "NOTES",
    "Limits",
    "Bundle",
    "BundleError",
    "Bundled",
    "DuplicateGroup",
    "Embedder",
    "Embeddings",
    "Exported",
    "Index",
    "Keep",
    "Layer",
    "Match",
    "Pair",
    "Predictions",
    "Provenance",
    "Role",
    "Summary",
    "VectorIndex",
    "block_count",
    "block_length",
    "build_service",
    "check_bundle",
    "check_target",
    "checked_in_words",
    "embed_block",
    "embed_images",
    "embed_readable",
    "embed_source",
    "embed_to_file",
    "embedding_identity",
    "export",
    "holds_vectors",
    "named_keep",
    "named_layer",
    "near_duplicates",
    "nearest_pair",
    "is_loopback",
    "join",
    "open_bundle",
    "open_index",
    "open_vector_index",
    "pack_texts",
    "pairs_near",
    "part_file",
    "part_note",
    "pixels_of",
    "read_embeddings",
    "require_service",
    "rows_seen",
    "rows_to_drop",
    "serve_bundle",
    "source_of",
    "unindexed",
    "unpack_texts",
    "unseen",
    "write_bundle",
    "write_embeddings",
]
