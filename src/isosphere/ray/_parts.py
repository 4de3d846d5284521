"""``isosphere embed --engine ray``: the parts of a set, each embedded by whichever worker is free, once."""

import importlib
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isosphere.atomic import locked, make_folder, write_json
from isosphere.data import Source, require_readable
from isosphere.deploy import (
    NOTES,
    Embedder,
    Layer,
    Summary,
    block_count,
    block_length,
    embed_block,
    embedding_identity,
    join,
    part_file,
    part_note,
    write_embeddings,
)
from isosphere.errors import RunError, UsageError, option
from isosphere.reading import UnreadableError, read_json
from isosphere.runs import RunFolder

PART = 4096
"""Images of a part, or of a block where that has more."""


@dataclass(frozen=True)
class Task:
    """What every worker does: a run, by the name that it is loaded by, as it is settled for a source, and where to."""

    run: str
    network: str
    passes: int
    white: float | None
    weights: str
    source: Source
    layer: Layer
    batch_size: int
    workers: int
    out: str


class _Worker:
    """Holds the model, and embeds one part after another into its file."""

    def __init__(self, task: Any) -> None:
        from isosphere import workflows

        ray = importlib.import_module("ray")
        self.task: Task = ray.get(task)
        loaded = workflows.load(self.task.run, cache=False, network=self.task.network).looking(
            self.task.passes
        )
        if loaded.identity != self.task.weights:
            raise RunError(f"{self.task.run} holds other weights here than where this was started.")
        self.run: Embedder = replace(loaded, reading=replace(loaded.reading, white=self.task.white))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for part in batch["part"].tolist():
            write_part(self.run, self.task, part)
        return {"part": batch["part"]}


def write_part(run: Embedder, task: Task, part: int) -> None:
    """Embed a part and write it, then the note by which it counts as done; again it is the same to the bit."""
    blocks = [
        embed_block(run, task.source, b, task.layer, batch_size=task.batch_size, workers=task.workers)
        for b in _blocks_of(run, task.source, part)
    ]
    made = join(blocks, task.source)
    if len(made):
        write_embeddings(part_file(task.out, part), made)
    skipped = [item for block in blocks for item in block.skipped]
    write_json(
        part_note(task.out, part), {"rows": len(made), "dim": made.values.shape[1], "skipped": skipped}
    )


def embed_parts(
    run: Embedder,
    source: Source,
    out: str | Path,
    *,
    name: str,
    layer: Layer | str | None = None,
    batch_size: int = 256,
    workers: int = 2,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Summary:
    """Embed a source into Parquet files of a folder by Ray Data, on the cluster of ``RAY_ADDRESS``, or one that is
    started on this machine.

    A worker a GPU, or a CPU where there is none, holds the model; it gets the number of a part, embeds it, and writes
    ``part-000000.parquet``, which appears when it is complete. A worker that dies is replaced, and its part is made
    again; after an interruption the same call makes what is missing. Rows, in the order of the files, are those of
    :func:`isosphere.deploy.embed_to_file`, to the bit.

    Args:
        run: settled for the source. name: what workers load it by.
        workers: threads of each that decode images. progress: called with (images done, images in all).

    Raises:
        UsageError: Ray is not installed; the folder holds something else, or parts of other weights or images.
        RunError: no image can be read; a worker has failed.
    """
    ray, chosen = require_ray(), run.check_output(layer)
    folder, place = Path(out), Path(name)
    RunFolder.refuse_own(folder)
    make_folder(folder)
    with locked(
        folder / ".lock", f"{folder} is being written", f"wait for its end, or give another {option('out')}"
    ):
        _begin(folder, embedding_identity(run, source, chosen), overwrite=overwrite)
        count = -(-block_count(run, source) // _blocks_a_part(run))
        write_json(folder / NOTES / "parts.json", {"parts": count})
        todo = [part for part in range(count) if _done(folder, part) is None]
        if todo:
            task = Task(
                run=str(place.absolute()) if place.is_dir() else name,
                network=run.role,
                passes=run.passes,
                white=run.reading.white,
                weights=run.identity,
                source=source,
                layer=chosen,
                batch_size=batch_size,
                workers=workers,
                out=str(folder.absolute()),
            )
            for made in _run(ray, task, todo):
                if progress is not None:
                    images = _blocks_a_part(run) * block_length(run.canvas, run.encoder.in_chans)
                    progress(min(len(source), (count - len(todo) + made) * images), len(source))
        notes = [_done(folder, part) for part in range(count)]
    if lacking := [part for part, note in enumerate(notes) if note is None]:
        raise RunError(f"{len(lacking)} of {count} parts were not made: type the same again.")
    found = [note for note in notes if note is not None]
    skipped = [(path, reason) for note in found for path, reason in note["skipped"]]
    rows = sum(note["rows"] for note in found)
    require_readable(source, rows, skipped, strict=False)
    skipped += [item for item in source.unreadable if item not in skipped]
    return Summary(rows, max(note["dim"] for note in found), skipped)


def require_ray() -> Any:
    """The package, with its Data. Raises: UsageError if it is not installed."""
    if "ray" not in sys.modules and find_spec("ray"):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a cluster reports to its makers
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        if not {"RAY_ADDRESS", "RAY_AUTH_MODE"} & os.environ.keys():
            # Ray listens on all interfaces, and runs what it is sent: nobody else is to send it anything.
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(
            f"{option('engine', 'ray')} needs Ray Data, which is not installed ({error}). Type: pip install "
            f'"ray[data]", or leave {option("engine")} out.'
        ) from error


def _run(ray: Any, task: Task, todo: list[int]) -> Any:
    """Yield the number of parts that are made, as they are."""
    own = not ray.is_initialized()
    if own:
        dashboard = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **dashboard)
        except Exception as error:  # it raises plain ones
            said = str(error).strip().splitlines()
            raise RunError(
                f"Ray does not start ({said[0] if said else type(error).__name__}). The parts that are made stay; type "
                "the same again when the machine has less to do."
            ) from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        gpus = int(ray.cluster_resources().get("GPU", 0))
        most = gpus or int(ray.cluster_resources().get("CPU", 1))
        parts = ray.data.from_items([{"part": part} for part in todo], override_num_blocks=len(todo))
        made = parts.map_batches(
            _Worker,
            fn_constructor_args=[ray.put(task)],
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, len(todo))),
            num_gpus=1 if gpus else 0,
            num_cpus=0 if gpus else 1,
        )
        for number, _ in enumerate(made.iter_rows(), 1):
            yield number
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()
        raise RunError(
            f"a worker of Ray has failed ({said[-1] if said else error}). The parts that are made stay."
        ) from error
    finally:
        if own:
            ray.shutdown()


def _begin(folder: Path, identity: dict[str, str | int], *, overwrite: bool) -> None:
    """Take up a folder of parts of the same weights and images; an empty one begins.

    Raises: UsageError for one that holds anything else.
    """
    state = folder / NOTES / "state.json"
    try:
        known = read_json(state)
    except UnreadableError:
        known = None
    if known == identity:
        return
    seen = [file for file in folder.iterdir() if not file.name.startswith(".")]
    ours = [file for file in seen if file.name == NOTES or re.fullmatch(r"part-\d{6}\.parquet", file.name)]
    if len(seen) > len(ours) or (ours and not overwrite):
        what = "embeddings of other weights, images or settings" if known else "other files"
        raise UsageError(
            f"{option('out', folder)} holds {what}: name another folder"
            + (f", or add {option('overwrite', True)}." if len(seen) == len(ours) else ".")
        )
    for file in ours:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    make_folder(state.parent)
    write_json(state, identity)


def _blocks_a_part(run: Embedder) -> int:
    return max(1, PART // block_length(run.canvas, run.encoder.in_chans))


def _blocks_of(run: Embedder, source: Source, part: int) -> range:
    first = part * _blocks_a_part(run)
    return range(first, min(first + _blocks_a_part(run), block_count(run, source)))


def _done(folder: Path, part: int) -> dict[str, Any] | None:
    """What is known of a part that is made; None if it is not, or its file is gone or cut short."""
    try:
        note = read_json(part_note(folder, part))
    except UnreadableError:
        return None
    return note if note["rows"] == 0 or _rows(part_file(folder, part)) == note["rows"] else None


def _rows(file: Path) -> int | None:
    """The rows of a Parquet file by its footer, which is written last; None if it is not whole."""
    try:
        return importlib.import_module("pyarrow.parquet").read_metadata(file).num_rows
    except (OSError, ValueError):
        return None
