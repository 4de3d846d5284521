"""Embeddings of any number of images: block by block, so that memory holds a block of pixels at a time."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isosphere.atomic import locked, make_folder, remove_files, write_json
from isosphere.data import Source, images_bytes, require_readable, stamps
from isosphere.deploy._embedder import Embedder, Progress, refuse_unreadable
from isosphere.deploy._files import check_target, file_writer, read_embeddings, write_embeddings
from isosphere.deploy._kinds import Embeddings, Predictions, Provenance
from isosphere.deploy._layers import Layer
from isosphere.deploy._pictures import is_named, source_of
from isosphere.errors import IsosphereError, UsageError, option
from isosphere.reading import UnreadableError, read_json

BLOCK_BYTES = 64 << 20

Classify: TypeAlias = Callable[[NDArray[np.float32]], Predictions]


@dataclass(frozen=True)
class Summary:
    """What a file of embeddings holds: images, dimension, what was left out, and what a classifier says of them."""

    count: int
    dim: int
    skipped: list[tuple[str, str]]
    predictions: Predictions | None = None


def block_length(canvas: int, in_chans: int = 3) -> int:
    """Images of which the pixels are held at a time: 64 MB of them, at most 4096."""
    return max(64, min(4096, BLOCK_BYTES // images_bytes(1, canvas, in_chans)))


def embed_images(
    run: Embedder,
    images: Any,
    *,
    layer: Layer | str | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Embeddings of pictures.

    Args:
        images: data as on the command line (``"PICTURES/"``, ``"textures:wood"``), a ``Source``, an ``ImageSet`` or a
            torch ``Dataset``; or a picture or a list of them: files, PIL images, uint8 arrays (h, w[, channels]); or
            uint8 arrays (n, h, w, channels), tensors (n, channels, h, w).
        layer: one of ``LAYERS``; None: the first that the run has (:attr:`Embedder.layers`).
        progress: called with (images done, images in all).

    Shape: float32 ``(n, d)`` in the order of the images; n = 1 for one picture.

    What the run's cache has of data by name is not computed again; pictures at hand are not kept there.

    Raises: UsageError for a layer that the run does not have, something that is no picture, or data of which some
        pictures cannot be read (:func:`embed_source` leaves these out and says which).
    """
    chosen, source = run.check_output(layer), source_of(images, run.encoder.in_chans)
    if not (isinstance(images, Source) or is_named(images)):
        run = replace(run, cache=None)
    run, _ = run.settled(source)
    numbers = range(block_count(run, source))
    blocks = [made for _, made, _ in _blocks(run, source, chosen, batch_size, 2, progress, numbers)]
    refuse_unreadable([item for block in blocks for item in block.skipped] + source.unreadable)
    return join(blocks, source).values


def embed_source(
    run: Embedder,
    source: Source,
    *,
    layer: Layer | str | None = None,
    batch_size: int = 256,
    workers: int = 2,
    progress: Progress | None = None,
) -> Embeddings:
    """Embeddings of every readable image of a source; the pixels of one block are in memory at a time.

    What the run's cache has is not computed again; what it has not is kept there.

    Raises: RunError if no image can be read; UsageError for a layer that the run does not have.
    """
    run, _ = run.settled(source)
    made, _ = embed_readable(
        run, source, layer=layer, batch_size=batch_size, workers=workers, progress=progress
    )
    require_readable(source, len(made), made.skipped, strict=False)
    return made


def embed_readable(
    run: Embedder,
    source: Source,
    *,
    layer: Layer | str | None = None,
    batch_size: int = 256,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Embeddings, NDArray[np.int64]]:
    """As :func:`embed_source`, and the positions of the rows' images in the source; but one of which nothing can be
    read gives no rows, and the reasons.
    """
    chosen = run.check_output(layer)
    blocks = list(
        _blocks(run, source, chosen, batch_size, workers, progress, range(block_count(run, source)))
    )
    positions = np.concatenate([np.empty(0, np.int64), *(positions for _, _, positions in blocks)])
    return join([made for _, made, _ in blocks], source), positions


def embed_to_file(
    run: Embedder,
    source: Source,
    out: str | Path,
    *,
    layer: Layer | str | None = None,
    batch_size: int = 256,
    workers: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
    classify: Classify | None = None,
    with_values: bool = True,
) -> Summary:
    """Write the embeddings of a source to an .npz, .parquet, .csv or .pt file.

    Of a source of more than one block the finished blocks are kept in a hidden folder beside `out` until all
    are done: after an interruption the same call goes on where it stopped. The file appears when it is
    complete, never before; meanwhile nobody else can write to it. `classify` gives what is written beside the
    embeddings of each image, from these, or without `with_values` in their place.

    Raises: UsageError for a name with another ending, or a file that exists without `overwrite`; RunError if
        no image can be read, the file cannot be written, or another process is writing it.
    """
    chosen = run.check_output(layer)
    path = check_target(out, overwrite=overwrite)
    lock = path.with_name(f".{path.name}.lock")
    instead = f"wait for its end, or give another {option('out')}"
    said = None if classify is None else partial(_classified, classify=classify, with_values=with_values)
    with locked(lock, f"{path} is being written", instead, within=path):
        check_target(path, overwrite=overwrite)  # the one before may have just ended
        return _embed_to(path, run, source, chosen, batch_size, workers, progress, said or _as_it_is)


def _embed_to(
    path: Path,
    run: Embedder,
    source: Source,
    layer: Layer,
    batch_size: int,
    workers: int,
    progress: Progress | None,
    finished: Callable[[Embeddings], Embeddings],
) -> Summary:
    count = block_count(run, source)
    if count <= 1:
        made = embed_source(
            run, source, layer=layer, batch_size=batch_size, workers=workers, progress=progress
        )
        made = finished(made)
        write_embeddings(path, made)
        return Summary(len(made), made.values.shape[1], made.skipped, made.predictions)
    run, _ = run.settled(source)
    parts = path.with_name(f".{path.name}.parts")
    _open_parts(parts, embedding_identity(run, source, layer))
    lengths = [_kept(_part(parts, b), len(_rows(run, source, b))) for b in range(count)]
    todo = [b for b, length in enumerate(lengths) if length is None]
    for b, block, _ in _blocks(run, source, layer, batch_size, workers, progress, todo):
        write_embeddings(_part(parts, b), block)
        write_json(_part(parts, b).with_suffix(".json"), block.skipped)
        lengths[b] = len(block)
    summary = _assemble(
        path, parts, [length or 0 for length in lengths], source, finished, made_by(run, layer)
    )
    _clear(parts)
    return summary


def _as_it_is(made: Embeddings) -> Embeddings:
    return made


def _classified(made: Embeddings, classify: Classify, with_values: bool) -> Embeddings:
    """With what a classifier says, and without the embeddings where those are not asked for."""
    if not len(made):
        return made
    values = made.values if with_values else made.values[:, :0]
    return replace(made, values=values, predictions=classify(made.values))


def join(blocks: list[Embeddings], source: Source) -> Embeddings:
    """One set of embeddings from blocks in order."""
    skipped = [item for block in blocks for item in block.skipped]
    values = [block.values for block in blocks if len(block)]
    return Embeddings(
        np.concatenate(values) if values else np.empty((0, 0), np.float32),
        np.concatenate([block.labels for block in blocks]),
        [path for block in blocks for path in block.paths],
        source.class_names,
        skipped + [item for item in source.unreadable if item not in skipped],
        provenance=next((block.provenance for block in blocks if block.provenance), None),
    )


def block_count(run: Embedder, source: Source) -> int:
    """In how many blocks a source is embedded."""
    return -(-len(source) // block_length(run.canvas, run.encoder.in_chans))


def embed_block(
    run: Embedder, source: Source, b: int, layer: Layer, *, batch_size: int = 256, workers: int = 2
) -> Embeddings:
    """One block of a source, by a run that is settled for it: the same to the bit whoever embeds it."""
    return _block(run, source, _rows(run, source, b), layer, batch_size, workers, None)[0]


def _blocks(
    run: Embedder,
    source: Source,
    layer: Layer,
    batch_size: int,
    workers: int,
    progress: Progress | None,
    numbers: range | list[int],
) -> Iterator[tuple[int, Embeddings, NDArray[np.int64]]]:
    for b in numbers:
        rows = _rows(run, source, b)
        within = None if progress is None else partial(_within, progress, rows, len(source))
        yield b, *_block(run, source, rows, layer, batch_size, workers, within)
        if progress is not None:
            progress(rows.stop, len(source))


def _within(progress: Progress, rows: range, total: int, done: int) -> None:
    """Where a block stands; its end is told when it has been kept."""
    if done < len(rows):
        progress(rows.start + done, total)


def _rows(run: Embedder, source: Source, b: int) -> range:
    start = b * block_length(run.canvas, run.encoder.in_chans)
    return range(start, min(start + block_length(run.canvas, run.encoder.in_chans), len(source)))


def _block(
    run: Embedder,
    source: Source,
    positions: range,
    layer: Layer,
    batch_size: int,
    workers: int,
    progress: Callable[[int], object] | None,
) -> tuple[Embeddings, NDArray[np.int64]]:
    part = source.subset(list(positions))
    kept, features, failed = run.source_features(
        part, batch_size=batch_size, workers=workers, progress=progress
    )
    skipped = [(part.paths[i], reason) for i, reason in sorted(failed.items())]
    paths = [part.paths[i] for i in kept]
    if not len(kept):  # no reason to stop before the other blocks have been seen
        return Embeddings(np.empty((0, 0), np.float32), np.empty(0, np.int64), [], [], skipped), kept
    values = run.select(features, layer).numpy()
    made = Embeddings(
        values, part.labels[kept], paths, source.class_names, skipped, provenance=made_by(run, layer)
    )
    return made, kept + positions.start


def made_by(run: Embedder, layer: Layer) -> Provenance:
    """What embeddings of this layer are made by; `run` is settled for the images."""
    return Provenance(run.identity, json.dumps(run.key), layer)


# --- blocks kept on disk --------------------------------------------------------------------------------------


def embedding_identity(run: Embedder, source: Source, layer: Layer) -> dict[str, str | int]:
    """What the blocks depend on; images of which nothing is known are those of this call alone."""
    found = stamps(source)
    digest = hashlib.blake2b(found.tobytes() + source.labels.tobytes(), digest_size=16)
    for name in (*source.paths, *source.class_names):
        digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
    return {
        "weights": run.identity,
        "pixels": json.dumps(run.key),
        "layer": layer,
        "source": source.name,
        "images": digest.hexdigest() if found.any() else secrets.token_hex(16),
        "block": block_length(run.canvas, run.encoder.in_chans),
    }


def _open_parts(parts: Path, identity: dict[str, str | int]) -> None:
    """The folder of finished blocks; those of another run, layer or source are thrown away."""
    state = parts / "state.json"
    try:
        same = read_json(state) == identity
    except UnreadableError:
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


def _part(parts: Path, b: int) -> Path:
    return parts / f"{b:06d}.npz"


def _kept(part: Path, count: int) -> int | None:
    """Rows of a finished block of so many images; None where there is none, or it is damaged: it is made again."""
    try:
        rows, skipped = len(read_embeddings(part)), len(_skipped(part))
    except (IsosphereError, OSError, ValueError):
        return None
    return rows if rows + skipped == count else None


def _skipped(part: Path) -> list[tuple[str, str]]:
    return [(path, reason) for path, reason in read_json(part.with_suffix(".json"))]


def _assemble(
    path: Path,
    parts: Path,
    lengths: list[int],
    source: Source,
    finished: Callable[[Embeddings], Embeddings],
    made: Provenance,
) -> Summary:
    names = [_part(parts, b) for b in range(len(lengths))]
    skipped = [item for name in names for item in _skipped(name)]
    if not any(lengths):
        require_readable(source, 0, skipped, strict=False)
    dim, said = 0, []
    with file_writer(path, sum(lengths), source.class_names) as add:
        for name, length in zip(names, lengths, strict=True):
            if length:
                read = replace(read_embeddings(name), class_names=source.class_names, provenance=made)
                block = finished(read)
                dim = block.values.shape[1]
                add(block)
                said += [] if block.predictions is None else [block.predictions]
    skipped += [item for item in source.unreadable if item not in skipped]
    return Summary(sum(lengths), dim, skipped, Predictions.join(said) if said else None)
