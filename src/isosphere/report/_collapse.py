"""Signs of collapse of a sample of embeddings, each beside its value for uniform points."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.sphere import log_vmf_normalizer, sample_uniform
from isosphere.statistics import COLLAPSED, covariance_spectrum, effective_rank, mean_cosine
from isosphere.statistics import uniformity as log_potential

LEAST = 20
"""Images from which these signs say anything."""
PAIRED = 4000
"""Images of which all pairs are looked at: 8 million pairs fix two decimals, and the time grows with the square."""


def collapse_tiles(head: Tensor, metrics: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Signs of collapse of embeddings ``(n, d)``, each beside its value for as many uniform points."""
    n, d = head.shape
    if n < LEAST:
        return []
    unit = functional.normalize(head.float(), dim=1)
    found = _signs(unit)
    # Chance: 0 for the mean cosine and a closed form for uniformity; ranks and shares from a sample of this size.
    uniform = _signs(sample_uniform(n, d, generator=torch.Generator().manual_seed(0)), uniformity=False)
    uniform["mean_cosine"] = 0.0
    uniform["uniformity"] = -4.0 + float(log_vmf_normalizer(torch.tensor(4.0, dtype=torch.float64), d))
    zero = int((unit.norm(dim=1) < 0.5).sum())
    most = min(n - 1, d)

    def tile(key: str, words: str, state: str = "", digits: int = 2) -> dict[str, str]:
        value, null = found[key], uniform[key]
        return {
            "value": _fixed(value, digits),
            "words": f"{words}; uniform points: {_fixed(null, digits)}",
            "state": state,
        }

    cosine, rank = found["mean_cosine"], found["effective_rank"]
    state = "bad" if cosine > COLLAPSED else "fine" if cosine < 0.5 else ""
    made = [
        tile("mean_cosine", "mean cosine of different images (1: collapsed)", state, 3),
        tile(
            "effective_rank",
            f"effective rank: directions used by {n:,} images, {most} at most",
            "bad" if rank < 2 else "",
            1,
        ),
        tile("top_eigenvalue_share", "share of variance in the largest direction", digits=3),
        tile("uniformity", "uniformity (0: collapsed)"),
    ]
    aligned = next((row["alignment"] for row in reversed(metrics) if row.get("alignment")), "")
    if aligned:
        value = float(aligned)
        made.append(
            {
                "value": f"{value:.2f}",
                "words": "closeness of two views in training (1: the same point, 0: as far apart as other images)",
                "state": "bad" if value < 0.05 else "",
            }
        )
    if zero:
        made.append({"value": f"{zero:,}", "words": "embeddings that are zero", "state": "bad"})
    return made


def collapse_words(head: Tensor) -> str:
    """A sentence where a sample of embeddings ``(n, d)`` is nearly one point; empty where not, or of too few images."""
    if len(head) < LEAST:
        return ""
    cosine = float(mean_cosine(functional.normalize(head.float(), dim=1)))
    if not cosine > COLLAPSED:
        return ""
    return (
        f"The images shown here have nearly the same embedding (mean cosine {cosine:.3f}; 0: spread, 1: the same). "
        "The encoder has collapsed, or has hardly been trained."
    )


def paired(z: Tensor) -> Tensor:
    """The rows of which all pairs are looked at: all, or PAIRED of them drawn with a fixed seed."""
    if len(z) <= PAIRED:
        return z
    chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[:PAIRED]
    return z[chosen.to(z.device)]


def _signs(unit: Tensor, *, uniformity: bool = True) -> dict[str, float]:
    spectrum = covariance_spectrum(unit)
    rank = float(effective_rank(unit))
    found = {
        "mean_cosine": float(mean_cosine(unit)),
        "effective_rank": rank,
        # Of a constant sample what is left of the spectrum is rounding.
        "top_eigenvalue_share": float(spectrum[0] / spectrum.sum()) if rank > 0 else math.nan,
    }
    return found | ({"uniformity": float(log_potential(paired(unit)))} if uniformity else {})


def _fixed(value: float, digits: int) -> str:
    """So many decimals, and no minus before zeros."""
    return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else "\u2013"
