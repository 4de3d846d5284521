"""Retrieval by cosine: the other view of an image among its batch, and images of the same class among all.

Ties are never resolved in the encoder's favour: an encoder that gives every image the same embedding scores
what a random order would.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from isosphere.evaluation.intervals import Estimate, bootstrap, wilson
from isosphere.reductions.neighbours import inner_product_blocks

__all__ = [
    "ClassOutcomes",
    "InstanceRanks",
    "class_outcomes",
    "class_retrieval",
    "instance_protocol",
    "instance_ranks",
    "instance_retrieval",
]

Candidates = Literal["targets", "all"]

# Cosines are compared in float64 on this grid. Directions that differ by less than about 4e-6 are equal in
# it: that is the rounding of a float32 network, which depends on the position in the batch and would identify
# a collapsed image.
_GRID = 2.0**-36


@dataclass(frozen=True, slots=True)
class InstanceRanks:
    """Where the target of each query stands: candidates strictly more similar, and others exactly as similar.

    A target tied with t others stands at each of the t + 1 places with equal probability; the figures are
    expectations over that order.
    """

    better: Tensor
    tied: Tensor

    def __len__(self) -> int:
        return len(self.better)

    def recall(self, k: int) -> Tensor:
        """Probability that the target is among the k first, per query: float64 ``(q,)``."""
        if k < 1:
            raise ValueError(f"k: got {k}, expected 1 or more")
        return ((k - self.better).double() / (self.tied + 1)).clamp(0, 1)

    def reciprocal_rank(self) -> Tensor:
        """Expected reciprocal rank per query, float64 ``(q,)``: average precision with one relevant item."""
        longest = int((self.better + self.tied).max()) + 2 if len(self) else 1
        inverse = 1 / torch.arange(1, longest, dtype=torch.float64)
        harmonic = torch.cat([torch.zeros(1, dtype=torch.float64), inverse.cumsum(0)])
        return (harmonic[self.better + self.tied + 1] - harmonic[self.better]) / (self.tied + 1)


def instance_retrieval(
    queries: ArrayLike | Tensor,
    targets: ArrayLike | Tensor,
    *,
    batch: int = 100,
    candidates: Candidates = "targets",
    k: tuple[int, ...] = (1, 3, 5),
    seed: int = 0,
) -> dict[str, Estimate]:
    """Recall@k and mAP of finding the other view of an image within batches: the texture-retrieval protocol.

    Row i of `queries` and of `targets` are two views of image i. Within each batch of consecutive images
    every query ranks the candidates by cosine; its one relevant item is its own target, so that mAP is the
    mean reciprocal rank.

    Args:
        queries, targets: ``(m, d)`` embeddings.
        batch: images per batch. A last partial batch is dropped; :func:`instance_protocol` says how many that
            is.
        candidates: ``"targets"``: the second views of the batch (100 candidates in a batch of 100);
            ``"all"``: every view of the batch but the query itself (199). The papers do not say which: report
            both.
        seed: of the bootstrap for mAP.

    Returns: ``{"recall@1", "recall@3", "recall@5", "map"}``, Wilson's interval for recalls and the bootstrap
    over queries for mAP, both at 95 %.

    Scale: 0 to 1. Chance, which is exactly what a constant embedding scores: k / c for Recall@k among c
    candidates and ``(1 + 1/2 + ... + 1/c) / c`` for mAP.

    Raises: ValueError if shapes differ, rows are not finite, or there are fewer images than one batch.

    Reference: SPHERE-JEPA (arXiv 2605.26900), texture experiments.
    """
    ranks = instance_ranks(queries, targets, batch=batch, candidates=candidates)
    result = {f"recall@{j}": wilson(float(ranks.recall(j).sum()), len(ranks)) for j in k}
    result["map"] = bootstrap(ranks.reciprocal_rank(), seed=seed, unit_interval=True)
    return result


def instance_ranks(
    queries: ArrayLike | Tensor,
    targets: ArrayLike | Tensor,
    *,
    batch: int = 100,
    candidates: Candidates = "targets",
) -> InstanceRanks:
    """Rank of every query's target, as counts: the raw outcome of :func:`instance_retrieval`, for paired
    comparison.

    Arguments and errors as there. Shape: two int64 ``(m - m % batch,)`` on the CPU.
    """
    x, y = torch.as_tensor(queries), torch.as_tensor(targets)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(
            f"queries, targets: got shapes {tuple(x.shape)} and {tuple(y.shape)}, expected one (m, d) for "
            f"both"
        )
    if candidates not in ("targets", "all"):
        raise ValueError(
            f"candidates: got {candidates!r}, expected 'targets' (second views only) or 'all' (every other "
            f"view)"
        )
    if batch < 2:
        raise ValueError(
            f"batch: got {batch}, expected 2 or more: with one image there is nothing to confuse it with"
        )
    if len(x) < batch:
        raise ValueError(
            f"queries: got {len(x)} images, expected at least one batch of {batch}; pass batch={len(x)} or "
            f"fewer"
        )
    x, y = _unit(x, "queries"), _unit(y, "targets")
    better, tied = [], []
    for start in range(0, len(x) - len(x) % batch, batch):
        q, t = x[start : start + batch], y[start : start + batch]
        own = _on_grid(q @ t.T)
        target = own.diagonal()[:, None]
        more, same = (own > target).sum(1), (own == target).sum(1) - 1
        if candidates == "all":
            other = _on_grid(q @ q.T).fill_diagonal_(float("-inf"))
            more, same = more + (other > target).sum(1), same + (other == target).sum(1)
        better.append(more)
        tied.append(same)
    return InstanceRanks(torch.cat(better).cpu(), torch.cat(tied).cpu())


def instance_protocol(
    images: int, *, batch: int = 100, candidates: Candidates = "targets"
) -> dict[str, int | float | str]:
    """What :func:`instance_retrieval` does with so many images, for the record beside its figures.

    Returns: batch, batches, queries, dropped (images of the last partial batch), candidates (the convention),
    candidates_per_query, and chance (Recall@1 and mAP of a random order).
    """
    per_query = batch if candidates == "targets" else 2 * batch - 1
    return {
        "batch": batch,
        "batches": images // batch,
        "queries": images - images % batch,
        "dropped": images % batch,
        "candidates": candidates,
        "candidates_per_query": per_query,
        "chance_recall@1": 1 / per_query,
        "chance_map": sum(1 / r for r in range(1, per_query + 1)) / per_query,
    }


@dataclass(frozen=True, slots=True)
class ClassOutcomes:
    """Outcome of each query of :func:`class_retrieval`, for paired comparison.

    `rows`: which rows of the input were queries; `average_precision` ``(q,)``; `hits` by k: probability that
    one of the k first is of the query's class, ``(q,)``.
    """

    rows: Tensor
    average_precision: Tensor
    hits: dict[int, Tensor]


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
    outcomes = class_outcomes(x, y, k=k)
    queries = len(outcomes.rows)
    result = {f"recall@{j}": wilson(float(outcomes.hits[j].sum()), queries) for j in k}
    result["map"] = bootstrap(outcomes.average_precision, seed=seed, unit_interval=True)
    return result


def class_outcomes(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, *, k: tuple[int, ...] = (1, 5, 10)
) -> ClassOutcomes:
    """The raw outcome per query of :func:`class_retrieval`; arguments and errors as there."""
    x, y = torch.as_tensor(x), torch.as_tensor(y).long()
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x, y: got shapes {tuple(x.shape)} and {tuple(y.shape)}, expected (n, p) and (n,)")
    if min(k) < 1:
        raise ValueError(f"k: got {k}, expected numbers from 1")
    y = y.to(x.device)
    labelled = (y >= 0).nonzero().squeeze(1)
    features, labels = _unit(x[labelled], "x"), y[labelled]
    _, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    queries = (counts[inverse] > 1).nonzero().squeeze(1)
    precisions, hits = [features.new_zeros(0)], {j: [features.new_zeros(0)] for j in k}
    for here, cosines in inner_product_blocks(features[queries], features):
        own = queries[here]
        ordered, order = _on_grid(cosines).scatter_(1, own[:, None], float("-inf")).sort(1, descending=True)
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


def _on_grid(cosines: Tensor) -> Tensor:
    return (cosines / _GRID).round_()


def _unit(x: Tensor, name: str) -> Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{name}: got non-finite numbers, expected finite ones; drop or repair these rows first"
        )
    return functional.normalize(x.double(), dim=1)
