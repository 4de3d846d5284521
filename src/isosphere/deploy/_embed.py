"""Embeddings of any number of images: block by block, so that memory holds a block of pixels at a time."""

import hashlib
import json
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isosphere.atomic import make_folder, remove_files, write_json
from isosphere.data import Source, images_bytes, require_readable, stamps
from isosphere.deploy._embedder import Embedder, Progress, refuse_unreadable
from isosphere.deploy._files import Embeddings, FileWriter, check_target, read_embeddings, write_embeddings
from isosphere.deploy._layers import Layer
from isosphere.deploy._pictures import is_named, source_of
from isosphere.errors import UsageError, option

BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Summary:
    """What a file of embeddings holds: images, dimension, and what was left out."""

    count: int
    dim: int
    skipped: list[tuple[str, str]]


def block_length(canvas: int) -> int:
    """Images of which the pixels are held at a time: 64 MB of them, at most 4096."""
    return max(64, min(4096, BLOCK_BYTES // images_bytes(1, canvas)))


def embed_images(
    run: Embedder,
    images: Any,
    *,
    layer: Layer | str = "backbone",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Embeddings of pictures.

    Args:
        images: data as on the command line (``"PICTURES/"``, ``"textures:wood"``), a ``Source``, an ``ImageSet`` or a
            torch ``Dataset``; or a picture or a list of them: files, PIL images, uint8 arrays (h, w[, 3]); or
            uint8 arrays (n, h, w, 3), tensors (n, 3, h, w).
        layer: one of ``LAYERS``.
        progress: called with (images done, images in all).

    Shape: float32 ``(n, d)`` in the order of the images; n = 1 for one picture.

    What the run's cache has of data by name is not computed again; pictures at hand are not kept there.

    Raises: UsageError for a layer that the run does not have, something that is no picture, or data of which some
        pictures cannot be read (:func:`embed_source` leaves these out and says which).
    """
    chosen, source = run.check_layer(layer), source_of(images)
    if not (isinstance(images, Source) or is_named(images)):
        run = replace(run, cache=None)
    blocks = [
        block
        for _, block in _blocks(run, source, chosen, batch_size, 2, progress, range(_count(run, source)))
    ]
    refuse_unreadable([item for block in blocks for item in block.skipped] + source.unreadable)
    return join(blocks, source).values


def embed_source(
    run: Embedder,
    source: Source,
    *,
    layer: Layer | str = "backbone",
    batch_size: int = 256,
    workers: int = 2,
    progress: Progress | None = None,
) -> Embeddings:
    """Embeddings of every readable image of a source; the pixels of one block are in memory at a time.

    What the run's cache has is not computed again; what it has not is kept there.

    Raises: RunError if no image can be read; UsageError for a layer that the run does not have.
    """
    chosen = run.check_layer(layer)
    blocks = _blocks(run, source, chosen, batch_size, workers, progress, range(_count(run, source)))
    return join([block for _, block in blocks], source)


def embed_to_file(
    run: Embedder,
    source: Source,
    out: str | Path,
    *,
    layer: Layer | str = "backbone",
    batch_size: int = 256,
    workers: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Write the embeddings of a source to an .npz or .parquet file.

    Of a source of more than one block the finished blocks are kept in a hidden folder beside `out` until all
    are done: after an interruption the same call goes on where it stopped. The file appears when it is
    complete, never before.

    Raises: UsageError for a name with another ending, or a file that exists without `overwrite`; RunError if
        no image can be read or the file cannot be written.
    """
    chosen = run.check_layer(layer)
    path = check_target(out, overwrite=overwrite)
    count = _count(run, source)
    if count <= 1:
        made = embed_source(
            run, source, layer=chosen, batch_size=batch_size, workers=workers, progress=progress
        )
        write_embeddings(path, made)
        return Summary(len(made), made.values.shape[1], made.skipped)
    parts = path.with_name(f".{path.name}.parts")
    _open_parts(parts, _identity(run, source, chosen))
    todo = [b for b in range(count) if not _complete(parts / f"{b:06d}.npz")]
    for b, block in _blocks(run, source, chosen, batch_size, workers, progress, todo):
        write_embeddings(parts / f"{b:06d}.npz", block)
        write_json(parts / f"{b:06d}.json", block.skipped)
    summary = _assemble(path, parts, count, source)
    _clear(parts)
    return summary


def join(blocks: list[Embeddings], source: Source) -> Embeddings:
    """One set of embeddings from blocks in order. Raises: RunError if they hold no image at all."""
    skipped = [item for block in blocks for item in block.skipped]
    if not any(len(block) for block in blocks):
        require_readable(source, 0, skipped, strict=False)
    return Embeddings(
        np.concatenate([block.values for block in blocks if len(block)]),
        np.concatenate([block.labels for block in blocks]),
        [path for block in blocks for path in block.paths],
        source.class_names,
        skipped + [item for item in source.unreadable if item not in skipped],
    )


def _count(run: Embedder, source: Source) -> int:
    return -(-len(source) // block_length(run.canvas))


def _blocks(
    run: Embedder,
    source: Source,
    layer: Layer,
    batch_size: int,
    workers: int,
    progress: Progress | None,
    numbers: range | list[int],
) -> Iterator[tuple[int, Embeddings]]:
    length = block_length(run.canvas)
    for b in numbers:
        start = b * length
        yield (
            b,
            _block(run, source, range(start, min(start + length, len(source))), layer, batch_size, workers),
        )
        if progress is not None:
            progress(min(start + length, len(source)), len(source))


def _block(
    run: Embedder, source: Source, positions: range, layer: Layer, batch_size: int, workers: int
) -> Embeddings:
    part = source.subset(list(positions))
    kept, features, failed = run.source_features(part, batch_size=batch_size, workers=workers)
    skipped = [(part.paths[i], reason) for i, reason in sorted(failed.items())]
    paths = [part.paths[i] for i in kept]
    if not len(kept):  # no reason to stop before the other blocks have been seen
        return Embeddings(np.empty((0, 0), np.float32), np.empty(0, np.int64), [], [], skipped)
    values = run.select(features, layer).numpy()
    return Embeddings(values, part.labels[kept], paths, source.class_names, skipped)


# --- blocks kept on disk --------------------------------------------------------------------------------------


def _identity(run: Embedder, source: Source, layer: Layer) -> dict[str, str | int]:
    """What the blocks depend on; images of which nothing is known are those of this call alone."""
    found = stamps(source)
    digest = hashlib.blake2b(found.tobytes(), digest_size=16)
    for path in source.paths:
        digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
    return {
        "weights": run.identity,
        "layer": layer,
        "source": source.name,
        "images": digest.hexdigest() if found.any() else secrets.token_hex(16),
        "block": block_length(run.canvas),
    }


def _open_parts(parts: Path, identity: dict[str, str | int]) -> None:
    """The folder of finished blocks; those of another run, layer or source are thrown away."""
    state = parts / "state.json"
    try:
        same = json.loads(state.read_text(encoding="utf-8")) == identity
    except (OSError, ValueError):
        same = False
    if parts.is_symlink():
        raise UsageError(
            f"{parts}, where embeddings are kept until all are done, is a link: remove it, or give another "
            f"{option('out')}."
        )
    if not same:
        _clear(parts)
        make_folder(parts)
        write_json(state, identity)


def _clear(parts: Path) -> None:
    """Remove what was kept there, and the folder where nothing else is in it."""
    remove_files(parts, r"\d{6}\.npz|\d{6}\.json|state\.json|\..+\.[0-9a-f]{8}\.tmp")
    with suppress(OSError):
        parts.rmdir()


def _complete(part: Path) -> bool:
    return part.exists() and zipfile.is_zipfile(part) and part.with_suffix(".json").exists()


def _assemble(path: Path, parts: Path, count: int, source: Source) -> Summary:
    names = [parts / f"{b:06d}.npz" for b in range(count)]
    skipped = [(p, r) for name in names for p, r in json.loads(name.with_suffix(".json").read_text())]
    lengths = [len(np.load(name)["labels"]) for name in names]
    names = [name for name, length in zip(names, lengths, strict=True) if length]
    if not names:
        join([Embeddings(np.empty((0, 0), np.float32), np.empty(0, np.int64), [], [], skipped)], source)
    with FileWriter(path, sum(lengths), source.class_names) as writer:
        for name in names:
            writer.add(read_embeddings(name))
    skipped += [item for item in source.unreadable if item not in skipped]
    return Summary(sum(lengths), writer.dim, skipped)
