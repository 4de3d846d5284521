"""A written file against the encoder that it was made from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from isosphere.deploy._embedder import Embedder
from isosphere.errors import RunError

TOLERANCE = 1e-4
"""Largest difference to the encoder that a file may show, relative to the largest feature (at least 1)."""


@dataclass(frozen=True)
class Exported:
    """Files that were written, lines of Python that use them, what was checked, and what the files do not hold."""

    files: tuple[Path, ...]
    snippet: str
    check: str
    lacks: str = ""


def plain(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def noise(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(shape[0]))


def difference(ours: nn.Module, theirs: nn.Module, run: Embedder) -> float:
    x = noise((4, run.encoder.in_chans, run.size, run.size))
    return compare(ours.eval(), theirs, x.to(run.device))


def compare(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], x: Tensor) -> float:
    with torch.no_grad():
        expected, got = ours(x).float().cpu(), theirs(x).float().cpu()
    if got.shape != expected.shape:
        raise RunError(f"the exported file gives shape {tuple(got.shape)}, expected {tuple(expected.shape)}.")
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def accept(error: float) -> None:
    if not error <= TOLERANCE:
        raise RunError(
            f"the exported file differs from the encoder by {error:.1e}, and at most {TOLERANCE:.0e} is accepted: "
            "nothing was written. Please report this with the name of the encoder."
        )


def words(error: float, reader: str) -> str:
    return f"read back by {reader}: largest relative difference {error:.1e}"
