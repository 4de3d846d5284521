"""Folds of a cross-validation that leave together what belongs together."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._labels import integer_labels


def grouped_folds(
    labels: ArrayLike | Tensor, groups: ArrayLike | Tensor, folds: int = 5, *, seed: int = 0
) -> Tensor:
    """The fold of each row: rows of a group are in one fold, and each class is spread as evenly as groups allow.

    Groups are taken one by one, the largest first and equals in an order drawn by the seed, and each goes to the fold
    where the classes' shares then differ least between the folds.

    Shape: labels and groups int64 ``(n,)``, -1 as a label of its own, to int64 ``(n,)``; with fewer groups than folds
        some folds are empty.

    Raises: ValueError for shapes that disagree, or fewer than two folds.
    """
    y, of = integer_labels(labels, "labels").cpu().numpy(), integer_labels(groups, "groups").cpu().numpy()
    if y.shape != of.shape or folds < 2:
        raise ValueError(
            f"labels, groups, folds: got {y.shape}, {of.shape} and {folds}, expected (n,) twice and 2 or more"
        )
    _, column = np.unique(y, return_inverse=True)
    _, place = np.unique(of, return_inverse=True)
    if not len(y):
        return torch.empty(0, dtype=torch.int64)
    counts = np.zeros((place.max() + 1, column.max() + 1))
    np.add.at(counts, (place, column), 1)
    totals, sizes = counts.sum(0), counts.sum(1)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, fold_of = np.zeros((folds, counts.shape[1])), np.empty(len(counts), np.int64)
    for group in order:
        # Of the sum of squared shares only what this group adds differs between the folds; then the smaller fold.
        added = ((2 * filled + counts[group]) * counts[group] / totals**2).sum(1)
        fold = int(np.lexsort((filled.sum(1), added.round(12)))[0])
        filled[fold] += counts[group]
        fold_of[group] = fold
    return torch.from_numpy(fold_of[place])


def joined_groups(*partitions: ArrayLike | Tensor) -> Tensor:
    """The finest groups that leave the groups of every partition whole: rows that share a number in any of them.

    Shape: int64 ``(n,)`` each, -1 for rows that are alone there, to int64 ``(n,)`` numbers from 0, by first row.

    Raises: ValueError for shapes that disagree, or none.
    """
    parts = [integer_labels(each, "partitions").cpu().tolist() for each in partitions]
    if not parts or len({len(part) for part in parts}) > 1:
        raise ValueError(
            f"partitions: got lengths {[len(p) for p in parts]}, expected one or more, all alike"
        )
    parent = list(range(len(parts[0])))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for part in parts:
        first: dict[int, int] = {}
        for row, number in enumerate(part):
            if number >= 0:
                a, b = sorted((root(row), root(first.setdefault(number, row))))
                parent[b] = a
    numbers: dict[int, int] = {}
    return torch.tensor([numbers.setdefault(root(row), len(numbers)) for row in range(len(parent))]).long()
