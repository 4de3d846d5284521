"""All that a run needs to go on as if it had never stopped."""

import io
import random
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from isosphere.errors import RunError
from isosphere.runs import write_bytes
from isosphere.training.optimizer import load_optimizer

__all__ = [
    "Position",
    "kept",
    "load_checkpoint",
    "random_state",
    "remedy",
    "require_finite",
    "require_same_run",
    "restore_random_state",
    "save_checkpoint",
]

FORMAT = 1


@dataclass
class Position:
    """Where a run stands: `batch` batches into epoch `epoch`, after `step` steps and `elapsed` seconds of
    training.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    images: int = 0
    elapsed: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the loss and its parts since the last row of metrics.csv, and ``count``, the steps in them."""


def save_checkpoint(
    path: Path,
    *,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    facts: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write weights, buffers, optimiser, scaler, position and the states of all random generators, atomically.

    `facts` (number of images, batch size, ...) are compared on loading: a checkpoint only continues its own
    run.

    Raises: RunError if the file cannot be written (the previous one is kept), or if a weight is not finite.
    """
    require_finite(method, position.step)
    content = {
        "format": FORMAT,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": asdict(position),
        "random": random_state(),
        "facts": dict(facts),
        "scaler": {} if scaler is None else scaler.state_dict(),
    }
    # Into memory first: on a full disk torch's own writer dies with a message about an unexpected position.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def require_finite(method: nn.Module, step: int) -> None:
    """Raise RunError, naming the first of them, if a weight is not a finite number."""
    broken = [name for name, p in method.named_parameters() if not torch.isfinite(p).all()]
    if broken:
        more = ", ..." if len(broken) > 1 else ""
        raise RunError(f"after step {step} the weights are not finite ({broken[0]}{more}).")


def load_checkpoint(
    path: Path,
    *,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
) -> Position:
    """Restore what `save_checkpoint` wrote, and return the position.

    Raises: RunError if the file is damaged or belongs to a run of other data or another network.
    """
    content = _read(path, facts)
    try:
        method.load_state_dict(content["method"])
        load_optimizer(optimizer, content["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the checkpoint {path} does not fit this network: {_first_line(error)}") from None
    if scaler is not None and content.get("scaler"):  # none, if it was made in another precision
        scaler.load_state_dict(content["scaler"])
    restore_random_state(content["random"])
    return Position(**content["position"])


def require_same_run(path: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that `load_checkpoint` would refuse for its facts, without reading its weights.

    Raises: RunError if the file is damaged or belongs to a run of other data.
    """
    _read(path, facts, mapped=True)


def _read(path: Path, facts: Mapping[str, Any], *, mapped: bool = False) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's remarks on files that are none of its own
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises nearly anything on a damaged file, and advises to trust it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
        raise RunError(
            f"the checkpoint {path} cannot be read ({reason.lower()}): put a copy in its place, or start anew with "
            "another --out."
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise RunError(f"the checkpoint {path} is of another format (got {found}, expected {FORMAT}).")
    for name, expected in content["facts"].items():
        if name in facts and facts[name] != expected:
            raise RunError(
                f"the checkpoint {path} was made with {name} = {expected}, and now it is {facts[name]}: the "
                "run cannot "
                "go on as the same run. Resume with the same data and settings, or start anew with another "
                "--out."
            )
    return content


def random_state() -> dict[str, Any]:
    """States of the global generators of torch (CPU and every GPU), numpy and Python."""
    kind, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  (the global one is what is saved)
    version, words, following = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(place),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, list(words), following],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the global generators back into the states of `random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, has_gauss, gauss))  # noqa: NPY002
    version, words, following = state["python"]
    random.setstate((version, tuple(words), following))


def remedy() -> str:
    """What to change when numbers have left the range."""
    return (
        "Add --resume and a lower --set optim.learning_rate=..., or --set optim.clip=1.0, or "
        "--set train.precision=float32."
    )


def kept(path: Path) -> str:
    """What a failed run can go back to."""
    return (
        f"The last good checkpoint, {path}, is kept."
        if path.exists()
        else "No checkpoint had been written yet."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__
