"""A classifier on frozen features: fitted, asked about what it has not seen, and kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._folds import grouped_folds
from isosphere.evaluation._labels import finite_rows, integer_labels
from isosphere.evaluation._linear import linear_predict
from isosphere.reductions import full_precision

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of features: class probabilities are the softmax of ``x @ weight + bias``.

    `weight` float32 ``(p, classes)``, `bias` ``(classes,)``, on the CPU; `class_names`; `penalty` that was chosen.
    """

    weight: Tensor
    bias: Tensor
    class_names: tuple[str, ...]
    penalty: float

    def logits(self, x: ArrayLike | Tensor) -> Tensor:
        """float32 ``(m, p)`` to ``(m, classes)``. Raises: ValueError for features of another width."""
        rows = finite_rows(x, "x").float()
        if rows.shape[1] != len(self.weight):
            raise ValueError(f"x: got {rows.shape[1]} features, expected {len(self.weight)}")
        with full_precision(rows.device):
            return rows @ self.weight.to(rows) + self.bias.to(rows)

    def probabilities(self, x: ArrayLike | Tensor) -> Tensor:
        """float32 ``(m, classes)``, rows of sum 1."""
        return self.logits(x).softmax(1)

    def predict(self, x: ArrayLike | Tensor) -> Tensor:
        """Positions in `class_names`, int64 ``(m,)``."""
        return self.logits(x).argmax(1)

    @property
    def state(self) -> dict[str, Tensor]:
        """Its tensors, for a file."""
        return {"weight": self.weight, "bias": self.bias}


def fit_probe(
    x: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    class_names: Sequence[str],
    *,
    groups: ArrayLike | Tensor | None = None,
    seed: int = 0,
) -> Probe:
    """Logistic regression on standardised features, the penalty chosen within them (:func:`linear_predict`).

    Args:
        x: ``(n, p)``. y: ``(n,)`` positions in `class_names`, -1 for rows that are left out.
        groups: ``(n,)``; rows of one group are held out together when the penalty is chosen.

    Raises: ValueError for other shapes, no labelled row, or a label that has no name.
    """
    rows, labels, groups = _labelled(x, y, groups)
    if len(labels) and int(labels.max()) >= len(class_names):
        raise ValueError(f"y: got label {int(labels.max())} and {len(class_names)} names, expected one each")
    mean, std = rows.double().mean(0), rows.double().std(0, correction=0)
    scale = torch.where(std > 1e-6 * mean.abs().clamp(min=1e-30), 1 / std, 0.0)
    ready = ((rows.double() - mean) * scale).to(rows)
    made = linear_predict(ready, labels, ready[:1], standardise=False, groups=groups, seed=seed)
    columns: list[int] = made.model.classes.cpu().tolist()
    weight = scale[:, None] * made.model.weight
    return Probe(
        weight.float().cpu(),
        (made.model.bias - mean @ weight).float().cpu(),
        tuple([class_names[column] for column in columns]),
        made.penalty,
    )


def held_out_labels(
    x: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    groups: ArrayLike | Tensor | None = None,
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> Tensor:
    """What a probe says of each labelled row that was fitted without its fold (:func:`grouped_folds`): int64 ``(n,)``,
    -1 for rows without a label.

    A row of a class of which all rows lie in its own fold is labelled wrongly by necessity.

    Raises: as :func:`fit_probe`; ValueError too where all labelled rows are of one group.
    """
    rows, labels, of = _labelled(x, y, groups)
    fold = grouped_folds(labels, torch.arange(len(labels)) if of is None else of, folds, seed=seed)
    if len(fold.unique()) < 2:
        raise ValueError("groups: got one, expected two or more to be fitted on one and asked about another")
    found = torch.full((len(labels),), -1, dtype=torch.int64)
    options: dict[str, Any] = {"seed": seed}
    for number in fold.unique().tolist():
        out = fold == number
        options["groups"] = None if of is None else of[~out]
        inside, outside = rows[(~out).to(rows.device)], rows[out.to(rows.device)]
        found[out] = linear_predict(inside, labels[~out], outside, **options).labels.cpu()
    whole = torch.full((len(integer_labels(y, "y")),), -1, dtype=torch.int64)
    whole[integer_labels(y, "y").cpu() >= 0] = found
    return whole


def _labelled(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, groups: ArrayLike | Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    rows, labels = finite_rows(x, "x"), integer_labels(y, "y").cpu()
    of = None if groups is None else integer_labels(groups, "groups").cpu()
    if len(rows) != len(labels) or (of is not None and len(of) != len(labels)):
        numbers = [len(part) for part in (rows, labels, of) if part is not None]
        raise ValueError(f"x, y, groups: got {numbers} rows, expected as many of each")
    known = labels >= 0
    if not bool(known.any()):
        raise ValueError("y: got no labelled row, expected at least one label >= 0 (-1: unlabelled)")
    return rows[known.to(rows.device)], labels[known], None if of is None else of[known]
