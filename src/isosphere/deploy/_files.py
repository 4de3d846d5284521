"""Files of embeddings: .npz of plain arrays, .parquet, .csv or .pt; complete or absent, never half there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from isosphere.atomic import atomic_file, make_folder, require_free
from isosphere.deploy._kinds import KINDS, Embeddings, pyarrow
from isosphere.errors import RunError, UsageError, option
from isosphere.runs import RunFolder

_ENDINGS = f"{', '.join([*KINDS][:-1])} or {[*KINDS][-1]}"


def check_target(out: str | Path, *, overwrite: bool = False) -> Path:
    """The path, if a file of embeddings may be written there; its folder is made.

    Raises: UsageError for another ending, a missing package, or a file that exists without `overwrite`.
    """
    path = Path(out)
    if path.suffix.lower() not in KINDS:
        raise UsageError(
            f"{option('out', out)}: expected a name that ends in {_ENDINGS}, for example {path.with_suffix('.npz')}."
        )
    if path.suffix.lower() == ".parquet":
        pyarrow()
    RunFolder.refuse_own(path)
    require_free(path, overwrite=overwrite)
    make_folder(path.parent)
    return path


def write_embeddings(path: str | Path, embeddings: Embeddings) -> None:
    """Write embeddings that are in memory: as .npz the arrays ``embeddings`` float32 (n, d), ``labels`` int64 (n,),
    ``paths`` and ``class_names`` as text; as .pt the same in a mapping; as .parquet the columns path, label, class and
    embedding; as .csv path, label, class and a column a number.
    """
    with file_writer(Path(path), len(embeddings), embeddings.class_names) as add:
        if len(embeddings):
            add(embeddings)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read a file that `write_embeddings` wrote; nothing is unpickled.

    Raises: UsageError if it is absent; RunError if it is damaged or another kind of file.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"there is no file {path}: expected embeddings that isosphere embed wrote.")
    try:
        return _checked(KINDS.get(file.suffix.lower(), KINDS[".npz"]).read(file))
    except UsageError:
        raise
    except Exception as error:  # numpy, zipfile, torch and pyarrow raise nearly anything
        said = str(error).splitlines()
        raise RunError(
            f"{path} is damaged or no file of embeddings ({said[0] if said else type(error).__name__}): embed the "
            "images again."
        ) from error


def _checked(found: Embeddings) -> Embeddings:
    """The same, if its parts belong together. Raises: ValueError."""
    n, names = len(found), [*found.paths, *found.class_names]
    sound = (
        (found.values.ndim == 2 and found.values.dtype.kind == "f")
        and (found.labels.shape == (n,) and found.labels.dtype.kind in "iu")
        and len(found.paths) == n
        and all(isinstance(name, str) for name in names)
    )
    if not sound:
        raise ValueError("its arrays do not belong together")
    values, labels = found.values.astype(np.float32, copy=False), found.labels.astype(np.int64, copy=False)
    return replace(found, values=values, labels=labels)


@contextmanager
def file_writer(path: Path, count: int, class_names: list[str]) -> Iterator[Callable[[Embeddings], None]]:
    """Yield a function that adds a block of rows. The file, of `count` rows, replaces what was there on leaving the
    block, if nothing has failed.
    """
    done = dim = 0
    with atomic_file(path) as handle:
        writer = KINDS[path.suffix.lower()].writer(handle, count, class_names)

        def add(block: Embeddings) -> None:
            nonlocal done, dim
            dim = dim or block.values.shape[1]
            if block.values.shape[1] != dim:
                raise ValueError(f"got rows of {block.values.shape[1]} dimensions, expected {dim} as before")
            writer.add(block)
            done += len(block)

        try:
            yield add
            if done != count:
                raise ValueError(f"got {done} rows, expected {count}")
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
