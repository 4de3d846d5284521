"""Retrieval of the other view of an image within its batch, by cosine: the texture-retrieval protocol.

Ties are never resolved in the encoder's favour: an encoder that gives every image the same embedding scores
what a random order would.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._cosines import on_grid, unit_rows
from isosphere.evaluation._intervals import Estimate, bootstrap, wilson
from isosphere.evaluation._labels import judged

Candidates = Literal["targets", "all"]


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
    """Rank of every query's target, as counts: the raw outcome of :func:`instance_retrieval`.

    For paired comparison of two encoders. Arguments and errors as there. Shape: two int64 ``(m - m %
    batch,)`` on the CPU.
    """
    if candidates not in ("targets", "all"):
        raise ValueError(
            f"candidates: got {candidates!r}, expected 'targets' (second views) or 'all' (every other view)"
        )
    x, y = _pairs(queries, targets, batch)
    better, tied = [], []
    for start in range(0, len(x) - len(x) % batch, batch):
        q, t = x[start : start + batch], y[start : start + batch]
        own = on_grid(q @ t.T)
        target = own.diagonal()[:, None]
        more, same = (own > target).sum(1), (own == target).sum(1) - 1
        if candidates == "all":
            other = on_grid(q @ q.T).fill_diagonal_(float("-inf"))
            more, same = more + (other > target).sum(1), same + (other == target).sum(1)
        better.append(more)
        tied.append(same)
    return InstanceRanks(torch.cat(better).cpu(), torch.cat(tied).cpu())


@dataclass(frozen=True, slots=True)
class InstanceNeighbours:
    """Of r queries: the k nearest targets and their cosines ``(r, k)``, and the own one's rank ``(r,)``."""

    indices: Tensor
    similarities: Tensor
    ranks: Tensor


def instance_neighbours(
    queries: ArrayLike | Tensor,
    targets: ArrayLike | Tensor,
    rows: ArrayLike | Tensor,
    *,
    k: int = 5,
    batch: int = 100,
) -> InstanceNeighbours:
    """What each of a few queries finds among the targets of its batch, for ``report.neighbour_gallery``.

    Args:
        queries, targets, batch: as for :func:`instance_retrieval`.
        rows: which queries, ``(r,)``; all within whole batches.
        k: how many neighbours, at most `batch`.

    Of equally similar targets the query's own comes last: the picture does not flatter either.

    Raises: ValueError as :func:`instance_ranks`, and for rows outside the whole batches or k outside
    1..batch.
    """
    x, y = _pairs(queries, targets, batch)
    chosen = torch.as_tensor(rows).long()
    whole = len(x) - len(x) % batch
    if chosen.ndim != 1 or len(chosen) == 0 or int(chosen.min()) < 0 or int(chosen.max()) >= whole:
        raise ValueError(
            f"rows: got {chosen.tolist()}, expected numbers from 0 to {whole - 1}, in whole batches"
        )
    if not 1 <= k <= batch:
        raise ValueError(f"k: got {k}, expected 1 to {batch}, the number of candidates")
    found = []
    for row in chosen.tolist():
        start = row - row % batch
        cosines = y[start : start + batch] @ x[row]
        steps = on_grid(cosines)
        steps[row - start] -= 0.5  # behind its ties, before all that is worse
        order = steps.argsort(descending=True, stable=True)
        rank = int((order == row - start).nonzero()) + 1
        found.append((start + order[:k], cosines[order[:k]], rank))
    indices, similarities, ranks = zip(*found, strict=True)
    return InstanceNeighbours(
        torch.stack(indices).cpu(), torch.stack(similarities).float().cpu(), torch.tensor(ranks)
    )


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


def _pairs(queries: ArrayLike | Tensor, targets: ArrayLike | Tensor, batch: int) -> tuple[Tensor, Tensor]:
    x = judged(queries)
    y = judged(targets).to(x.device)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(
            f"queries, targets: got shapes {tuple(x.shape)}, {tuple(y.shape)}, expected one (m, d) for both"
        )
    if batch < 2:
        raise ValueError(f"batch: got {batch}, expected 2 or more: one image cannot be confused with another")
    if len(x) < batch:
        raise ValueError(
            f"queries: got {len(x)} images, expected at least one batch of {batch}; pass a batch of {len(x)}"
        )
    return unit_rows(x, "queries"), unit_rows(y, "targets")
