"""From which cosine on two images are copies: chosen on copies that were made, with the false pairs to expect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from isosphere.evaluation._intervals import Estimate, wilson
from isosphere.reductions import full_precision
from isosphere.statistics import pair_law

LOST = 0.005
"""Share of the made copies that a threshold may lose where it could find all: the few that are hardly alike any more
would set it alone."""


@dataclass(frozen=True)
class CopyThreshold:
    """A threshold of cosines, with what it finds and what it finds wrongly.

    `recall`: share of the made copies at or above it; `recalls` by what was done to them. `false_pairs`: pairs of
    different images to be expected at or above it, of `pairs` in all; None where there are too few images to say.
    `lowest`: the cosine that all but 0.5 % of the copies reach.
    """

    threshold: float
    recall: Estimate
    recalls: Mapping[str, Estimate]
    copies: int
    pairs: int
    false_pairs: float | None
    lowest: float


def copy_cosines(originals: Tensor, copies: Tensor) -> Tensor:
    """Cosine of each copy to its original: ``(m, d)`` both, to float32 ``(m,)``."""
    copies = copies.to(originals.device)
    return functional.cosine_similarity(originals.float(), copies.float(), dim=1).clamp(-1, 1)


def choose_threshold(
    cosines: Tensor,
    kinds: Sequence[str],
    z: Tensor,
    *,
    threshold: float | None = None,
    false_pairs: float = 1.0,
    pairs: int | None = None,
    seed: int = 0,
) -> CopyThreshold:
    """The lowest threshold that finds the copies that were made, unless more false pairs are to be expected there.

    It is the larger of two cosines: the one that all but 0.5 % of the made copies reach, below which there is nothing
    to find; and the one from which on `false_pairs` pairs of different images are to be expected among these, by the
    law of their close pairs (:func:`isosphere.statistics.pair_law`).

    Args:
        cosines: ``(m,)`` of copies to their originals. kinds: what was done to each.
        z: ``(n, d)`` embeddings of all images, in which copies may be.
        threshold: one that was chosen already, to be told what it finds.
        false_pairs: how many may be expected.
        pairs: how many are compared, where these are not all.
    Raises:
        ValueError: no copies, or other shapes.
    """
    if cosines.ndim != 1 or not len(cosines) or len(cosines) != len(kinds):
        raise ValueError(
            f"cosines, kinds: got {tuple(cosines.shape)} and {len(kinds)}, expected (m,) of both"
        )
    lowest = float(cosines.double().quantile(LOST))
    law = pair_law(z, max(-0.99, min(lowest, 1 - 1e-6)), seed=seed)
    every = len(z) * (len(z) - 1) // 2
    share = 1.0 if pairs is None or not every else pairs / every
    if threshold is None:
        allowed = false_pairs / share if share else float("inf")
        rare = -1.0 if law is None or allowed >= every else law.cosine(allowed)
        threshold = min(1.0, max(lowest, rare))
    found = cosines >= threshold - 1e-6  # as near_duplicates compares
    of = {kind: found[torch.tensor([k == kind for k in kinds])] for kind in sorted(set(kinds))}
    return CopyThreshold(
        threshold,
        wilson(int(found.sum()), len(found)),
        {kind: wilson(int(rows.sum()), len(rows)) for kind, rows in of.items()},
        len(cosines),
        every if pairs is None else pairs,
        None if law is None else share * law.expected(threshold),
        lowest,
    )


def copy_precision(
    images: Tensor, copies: Tensor, *, same: Tensor | None = None, resamples: int = 200, seed: int = 0
) -> Estimate:
    """Average precision of finding the copies among all pairs of a copy and an image, by their cosine.

    Args:
        images: ``(n, d)``, of which the first m are the originals of the copies.
        copies: ``(m, d)``.
        same: ``(n,)`` numbers; images with the number of a copy's original are left out beside it, for a file may
            be there twice.

    Scale: 1 where every copy is more like its original than any copy is like another image; at chance about 1 / n.
        Interval: bootstrap over the copies.

    Raises: ValueError for more copies than images.
    """
    m, n = len(copies), len(images)
    if not 1 <= m <= n:
        raise ValueError(f"images, copies: got {n} and {m} rows, expected at least as many images as copies")
    unit, asked = (functional.normalize(x.detach().float(), dim=1) for x in (images, copies))
    with full_precision(unit.device):
        cosines = asked @ unit.T
    own = torch.eye(m, n, dtype=torch.bool, device=cosines.device)
    if same is not None:
        cosines[(same[:m, None] == same[None]).to(own.device) & ~own] = -2.0
    order = cosines.flatten().argsort(descending=True, stable=True)
    order = order[cosines.flatten()[order] > -2.0]
    hits, owner = own.flatten()[order].cpu(), (order // n).cpu()

    def precision(weight: Tensor) -> float:
        shares = weight[owner]
        seen, right = shares.cumsum(0), (shares * hits).cumsum(0)
        at = hits & (shares > 0)
        return float((shares[at] * right[at] / seen[at]).sum() / weight.sum())

    value = precision(torch.ones(m, dtype=torch.float64))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.tensor(
        [
            precision(torch.bincount(torch.randint(m, (m,), generator=generator), minlength=m).double())
            for _ in range(resamples)
        ],
        dtype=torch.float64,
    )
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(value, min(low, value), max(high, value))


def pair_precision(same: Tensor, above: Tensor) -> tuple[Estimate, Estimate]:
    """From pairs near a threshold that a person has looked at: the share of those at or above it that are copies, and
    the share of those below it, with Wilson's intervals.

    Of all pairs at or above the threshold at least the first share are copies, as far as more alike pairs are copies
    more often.

    Args:
        same, above: bool ``(m,)``: whether a pair is one of copies, and whether its cosine reaches the threshold.
    """
    up, down = same[above], same[~above]
    return wilson(int(up.sum()), len(up)), wilson(int(down.sum()), len(down))
