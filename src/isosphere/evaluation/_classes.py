"""Retrieval of images of the same class among all others, by cosine.

Ties are never resolved in the encoder's favour: an encoder that gives every image the same embedding scores
what a random order would.
"""

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._cosines import on_grid, unit_rows
from isosphere.evaluation._intervals import Estimate, bootstrap, wilson
from isosphere.evaluation._labels import judged
from isosphere.reductions import inner_product_blocks


@dataclass(frozen=True, slots=True)
class ClassOutcomes:
    """Outcome of each query of :func:`class_retrieval`, for paired comparison.

    `rows`: which rows of the input were queries; `average_precision` ``(q,)``; `hits` by k: probability that
    one of the k first is of the query's class, ``(q,)``.
    """

    rows: Tensor
    average_precision: Tensor
    hits: dict[int, Tensor]

    def estimates(self, seed: int = 0) -> dict[str, Estimate]:
        """What :func:`class_retrieval` returns."""
        shares = {f"recall@{j}": wilson(float(hit.sum()), len(self.rows)) for j, hit in self.hits.items()}
        return {**shares, "map": bootstrap(self.average_precision, seed=seed, unit_interval=True)}


def class_retrieval(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, *, k: tuple[int, ...] = (1, 5, 10), seed: int = 0
) -> dict[str, Estimate]:
    """Recall@k and mAP of finding images of the same class: each labelled row queries all others by cosine.

    Recall@k is that of metric learning: at least one of the k first is of the query's class (torchmetrics:
    hit rate). Average precision of a query is the sum over distinct similarities of the precision there times
    the gain in recall (scikit-learn's): items exactly as similar are found together.

    Args:
        x, y: ``(n, p)`` features and ``(n,)`` integer labels. Rows labelled -1 take no part; rows alone in
            their class are candidates but not queries.
        k: which recalls; more than there are candidates means all of them.
        seed: of the bootstrap for mAP.

    Returns: ``{"recall@1", ..., "map"}``, Wilson's interval for recalls, the bootstrap over queries for mAP,
    at 95 %. Without any query: nan.

    Scale: 0 to 1. A constant embedding scores chance: the share of the query's class among the candidates as
    average precision, and the probability that k random candidates hold one of its class.

    Raises: ValueError if shapes disagree or rows are not finite.

    Numerics: float64, in blocks of queries; time n^2 log n.
    """
    return class_outcomes(x, y, k=k).estimates(seed)


def class_outcomes(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, *, k: tuple[int, ...] = (1, 5, 10)
) -> ClassOutcomes:
    """The raw outcome per query of :func:`class_retrieval`; arguments and errors as there."""
    x, y = judged(x), torch.as_tensor(y).long()
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x, y: got shapes {tuple(x.shape)} and {tuple(y.shape)}, expected (n, p) and (n,)")
    if min(k) < 1:
        raise ValueError(f"k: got {k}, expected numbers from 1")
    y = y.to(x.device)
    labelled = (y >= 0).nonzero().squeeze(1)
    features, labels = unit_rows(x[labelled], "x"), y[labelled]
    _, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    queries = (counts[inverse] > 1).nonzero().squeeze(1)
    precisions, hits = [features.new_zeros(0)], {j: [features.new_zeros(0)] for j in k}
    for here, cosines in inner_product_blocks(features[queries], features):
        own = queries[here]
        ordered, order = on_grid(cosines).scatter_(1, own[:, None], float("-inf")).sort(1, descending=True)
        # The last place is the query itself: -inf, and no candidate.
        ordered, relevant = ordered[:, :-1], labels[order[:, :-1]] == labels[own][:, None]
        first, last = _tie_groups(ordered)
        found = relevant.cumsum(1)
        precision = found.gather(1, last) / (last + 1).double()
        precisions.append((precision * relevant).sum(1) / found[:, -1])
        for j in k:
            hits[j].append(_hit(relevant, found, first, last, min(j, ordered.shape[1])))
    rows = labelled[queries].cpu()
    return ClassOutcomes(
        rows, torch.cat(precisions).cpu(), {j: torch.cat(parts).cpu() for j, parts in hits.items()}
    )


def _tie_groups(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """First and last place of the run of equal values that each place of sorted rows belongs to."""
    n = ordered.shape[1]
    place = torch.arange(n, device=ordered.device).expand_as(ordered)
    change = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(change[:, :1])
    first = torch.where(torch.cat([edge, change], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([change, edge], 1), place, n).flip(1).cummin(1).values.flip(1)
    return first, last


def _hit(relevant: Tensor, found: Tensor, first: Tensor, last: Tensor, k: int) -> Tensor:
    """Probability that a relevant item is among the k first when each run of ties is in random order."""
    start, end = first[:, k - 1], last[:, k - 1]
    here = found.gather(1, end[:, None]).squeeze(1)
    inside = here - (found.gather(1, start[:, None]) - relevant.gather(1, start[:, None]).long()).squeeze(1)
    size, right, drawn = (end - start + 1).double(), inside.double(), (k - start).double()
    wrong = size - right
    # Hypergeometric: no relevant item among `drawn` of `size`, of which `right` are relevant.
    miss = torch.lgamma(wrong + 1) - torch.lgamma((wrong - drawn).clamp(min=0) + 1)
    miss = miss - torch.lgamma(size + 1) + torch.lgamma(size - drawn + 1)
    chance = 1 - torch.where(wrong < drawn, 0.0, miss.exp())
    return torch.where(here > inside, 1.0, chance).clamp(0, 1)
