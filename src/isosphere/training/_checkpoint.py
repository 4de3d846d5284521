"""All that a run needs to go on as if it had never stopped, and its weights in files that need no training code."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from isosphere.atomic import write_bytes
from isosphere.errors import NotFiniteError, RunError, option
from isosphere.methods import FROZEN, Method
from isosphere.models import Encoder, EncoderRecord
from isosphere.reading import require_regular
from isosphere.runs import RunFolder
from isosphere.training._config import Config, parse_config
from isosphere.training._defaults import EARLIER
from isosphere.training._generators import random_state, restore_random_state
from isosphere.training._optimizer import load_optimizer
from isosphere.training._setup import FINGERPRINT, build, earlier_options

FORMAT = 1


@dataclass
class Position:
    """Where a run stands: `batch` batches into epoch `epoch`, after `step` steps and `elapsed` seconds of training."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    images: int = 0
    elapsed: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the loss and its parts since the last row of metrics.csv, and ``count``, the steps in them."""
    threads: int = 0
    """Threads of the CPU that were chosen by measuring; 0: none were."""


def save_checkpoint(
    path: Path,
    *,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    facts: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
    generators: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write weights, buffers, optimiser, scaler, position and the states of all random generators, atomically.

    `generators` are those of every rank (`random_state`); of this process alone if left out.

    `facts` (number of images, batch size, ...) are compared on loading: a checkpoint only continues its own run.

    Raises: RunError if the file cannot be written (the previous one is kept); NotFiniteError.
    """
    require_finite(method, position.step)
    content = {
        "format": FORMAT,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": asdict(position),
        "random": generators[0] if generators else random_state(),
        "random of further ranks": list(generators[1:]),
        "facts": dict(facts),
        "scaler": {} if scaler is None else scaler.state_dict(),
    }
    # Into memory first: on a full disk torch's own writer dies with a message about an unexpected position.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def require_finite(method: nn.Module, step: int) -> None:
    """Raise NotFiniteError, naming the first of them, if a weight is not a finite number."""
    named = dict(method.named_parameters())
    flags = [torch.isfinite(p).all() for p in named.values()]
    finite = torch.stack(flags).tolist() if flags else []  # the device is waited for once
    broken = [name for name, good in zip(named, finite, strict=True) if not good]
    if broken:
        more = ", ..." if len(broken) > 1 else ""
        raise NotFiniteError(f"after step {step} the weights are not finite ({broken[0]}{more}).")


def load_checkpoint(
    path: Path,
    *,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
    rank: int = 0,
) -> Position:
    """Restore what `save_checkpoint` wrote, and return the position; a rank beyond those has the first's generators.

    Raises: RunError if the file is damaged or belongs to a run of other data or another network.
    """
    content = _read(path, facts)
    try:
        method.load_state_dict(content["method"])
        load_optimizer(optimizer, content["optimizer"])
        if scaler is not None and content["scaler"]:  # none, if it was made in another precision
            scaler.load_state_dict(content["scaler"])
        states = [content["random"], *content["random of further ranks"]]
        restore_random_state(states[rank if rank < len(states) else 0])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RunError(f"the checkpoint {path} does not fit this network: {_first_line(error)}") from None
    return Position(**content["position"])


def read_position(path: Path) -> Position:
    """Where a checkpoint stands, without reading its weights. Raises: RunError if the file is damaged."""
    return Position(**_read(path, {}, mapped=True)["position"])


def require_same_run(path: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that `load_checkpoint` would refuse for its facts, without reading its weights.

    Raises: RunError if the file is damaged or belongs to a run of other data.
    """
    _read(path, facts, mapped=True)


def _read(path: Path, facts: Mapping[str, Any], *, mapped: bool = False) -> dict[str, Any]:
    try:
        require_regular(path)
        with warnings.catch_warnings(action="ignore"):  # torch's remarks on files that are none of its own
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises nearly anything on a damaged file, and advises to trust it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
        raise RunError(
            f"the checkpoint {path} cannot be read ({reason.lower()}): put a copy in its place, or start anew with "
            f"another {option('out')}."
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise RunError(f"the checkpoint {path} is of another format (got {found}, expected {FORMAT}).")
    if not _is_whole(content):
        raise RunError(
            f"the checkpoint {path} is damaged: put a copy in its place, or start anew with another {option('out')}."
        )
    for name, expected in content["facts"].items():
        if name not in facts or facts[name] == expected:
            continue
        if name == FINGERPRINT:
            encoder = path.parent.parent / "encoder.safetensors"
            raise RunError(
                f"the checkpoint {path} was made with other images than there are now, though with as many: names, "
                "lengths or contents of files have changed. Put the former ones back to go on with it, or begin on "
                f"these from its weights: {option('init', encoder)} with another {option('out')}."
            )
        raise RunError(
            f"the checkpoint {path} was made with {name} = {expected}, and now it is {facts[name]}: the run cannot "
            "go on as the same run. Resume with the same data and settings, or start anew with another "
            f"{option('out')}."
        )
    return content


_PARTS = {
    **dict.fromkeys(("method", "optimizer", "position", "random", "facts", "scaler"), dict),
    "random of further ranks": list,
}


def _is_whole(content: dict[str, Any]) -> bool:
    """Whether everything is there that `save_checkpoint` writes, and the position is one."""
    content.setdefault("scaler", {})  # of earlier versions
    content.setdefault("random of further ranks", [])
    at = content.get("position")
    if not isinstance(at, dict) or not all(
        isinstance(content.get(name), kind) for name, kind in _PARTS.items()
    ):
        return False
    at.setdefault("threads", 0)
    counts, sums = [at.get(name) for name in ("epoch", "batch", "step", "images", "threads")], at.get("sums")
    return (
        at.keys() == {entry.name for entry in fields(Position)}
        and all(type(count) is int and count >= 0 for count in counts)
        and isinstance(sums, dict)
        and all(isinstance(value, float) for value in (at["elapsed"], *sums.values()))
        and math.isfinite(at["elapsed"])
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


# --- weights in files ---------------------------------------------------------------------------------------


def write_weights(folder: RunFolder, method: Method, *, seed: int, step: int, of: str = "student") -> None:
    """Write encoder.safetensors with encoder.json, and the rest of the method (head, teacher) as method.safetensors.

    `seed` is the seed from which the encoder was initialised: with it the untrained encoder can be had again. `of`:
    what the weights are, in words.
    """
    encoder = cast(Encoder, method.encoder)
    spec = {**encoder.spec(), "weights": of, "seed": seed, "step": step}
    folder.write_encoder(encoder.state_dict(), spec)
    rest = {k: v for k, v in method.state_dict().items() if not k.startswith("encoder.")}
    folder.write_method(rest, step=step)


def load_method(folder: RunFolder, *, epoch: int | None = None) -> tuple[Config, Method]:
    """The configuration of a run, and its method in evaluation mode with the trained weights.

    `epoch`: with the weights that were kept after this epoch (``train.keep_every``); None: the last ones.

    Raises: UsageError if the run has kept no weights of this epoch; RunError if its files are damaged or do not
        belong together.
    """
    config = parse_config(folder.read_config())
    config = config.replace(data={"channels": config.data.channels or EARLIER})
    named = EncoderRecord.parse(folder.read_spec(), folder.encoder_spec).name
    if named != (config.model.encoder or "small-conv"):
        raise _misfit(folder, f"they are of {named}, and {config.model.encoder} is named there.")
    state, spec = folder.read_encoder()
    _, method = build(earlier_options(config), spec, state)
    if epoch is None:
        rest = {} if config.method.name == FROZEN else folder.read_method(step=spec.get("step"))
    else:
        kept = folder.read_kept(epoch)
        state = {name[8:]: x for name, x in kept.items() if name.startswith("encoder.")}
        rest = {name: x for name, x in kept.items() if not name.startswith("encoder.")}
    try:
        method.encoder.load_state_dict(state)
        left = method.load_state_dict(rest, strict=False)
    except RuntimeError as error:
        raise _misfit(folder, _first_line(error)) from None
    absent = [k for k in left.missing_keys if not k.startswith("encoder.") and not k.endswith("_extra_state")]
    if absent or left.unexpected_keys:
        raise _misfit(folder, f"{[*absent, *left.unexpected_keys][0]} is missing or unknown.")
    return config, method.eval()


def _misfit(folder: RunFolder, reason: str) -> RunError:
    return RunError(f"the weights of {folder.path} do not fit its config.yaml: {reason}")
