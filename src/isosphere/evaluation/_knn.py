"""k-nearest-neighbour classification on frozen features, by cosine."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.evaluation._intervals import Estimate, wilson
from isosphere.evaluation._labels import integer_labels, judged, labelled_rows
from isosphere.reductions import nearest_neighbours

_ROWS = 4096  # queries whose votes are counted at once


def knn(
    train_x: ArrayLike | Tensor,
    train_y: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    test_y: ArrayLike | Tensor,
    *,
    k: int = 20,
    temperature: float | None = 0.07,
    num_classes: int | None = None,
) -> Estimate:
    """Share of test rows that :func:`knn_predict` labels rightly, with Wilson's 95 % interval.

    Test rows labelled -1 are left out. A test row of a class without training rows counts as wrong.

    Shape: features ``(n, p)`` and ``(m, p)``, labels ``(n,)`` and ``(m,)``; arrays or tensors.

    Scale: accuracy, 0 to 1; a constant encoder scores the share of one class. (nan, 0, 1) if no test row is
    labelled.

    Raises: ValueError as :func:`knn_predict`, and if test features and labels differ in number.
    """
    test_x, test_y = labelled_rows(
        torch.as_tensor(test_x), integer_labels(test_y, "test_y"), ("test_x", "test_y")
    )
    predicted = knn_predict(train_x, train_y, test_x, k=k, temperature=temperature, num_classes=num_classes)
    return wilson(int((predicted.cpu() == test_y.cpu()).sum()), len(test_y))


def knn_predict(
    train_x: ArrayLike | Tensor,
    train_y: ArrayLike | Tensor,
    test_x: ArrayLike | Tensor,
    *,
    k: int = 20,
    temperature: float | None = 0.07,
    num_classes: int | None = None,
) -> Tensor:
    """The class with the largest vote among the k nearest training rows: int64 ``(m,)``.

    .. math:: \\hat y = \\arg\\max_c \\sum_{j \\in N_k(x)} [y_j = c] \\exp(\\langle x, x_j \\rangle / T)

    with rows normalised (a zero row stays zero: similarity 0 with everything). Exact, blocked; beside the features
    the memory is flat, and they may be of any number type: rows are normalised as they are compared.

    Args:
        k: 20 and 200 are the conventions; more than there are labelled training rows means all of them.
        temperature: T; 0.07 is the convention. None counts each neighbour as one vote.
        num_classes: one more than the largest training label if None. Never taken from the test labels.

    Ties: of equally similar training rows at the k-th place those that come first in the training set count;
    of equal votes the smaller label wins (as scikit-learn's).

    Raises: ValueError if no training row is labelled, shapes disagree, features are not finite, k < 1, T <=
    0, or a label reaches `num_classes`. Training rows labelled -1 are left out.

    Numerics: similarities float32, votes float64, exponents relative to the nearest neighbour.

    Reference: Z. Wu et al., Unsupervised feature learning via non-parametric instance discrimination (2018),
    eq. 8.
    """
    train_x, train_y = labelled_rows(
        judged(train_x), integer_labels(train_y, "train_y"), ("train_x", "train_y")
    )
    if k < 1:
        raise ValueError(f"k: got {k}, expected 1 or more, such as 20")
    if temperature is not None and not temperature > 0:
        raise ValueError(f"temperature: got {temperature}, expected a positive number such as 0.07, or None")
    if len(train_y) == 0:
        raise ValueError(
            "train_y: got no labelled row, expected at least one label >= 0 (-1 means unlabelled)"
        )
    classes = int(train_y.max()) + 1 if num_classes is None else num_classes
    if int(train_y.max()) >= classes:
        raise ValueError(
            f"num_classes: got {num_classes}, expected more than the largest label {int(train_y.max())}"
        )
    test_x = torch.as_tensor(test_x).to(train_x.device)
    if len(test_x) == 0:
        return torch.empty(0, dtype=torch.int64, device=train_x.device)
    similarities, indices = nearest_neighbours(test_x, train_x, min(k, len(train_x)), cosine=True)
    return _vote(similarities, train_y[indices], temperature, classes)


def _vote(similarities: Tensor, labels: Tensor, temperature: float | None, classes: int) -> Tensor:
    predicted = []
    for rows, theirs in zip(similarities.split(_ROWS), labels.split(_ROWS), strict=True):
        gaps = rows.double() - rows[:, :1].double()
        weights = torch.ones_like(gaps) if temperature is None else (gaps / temperature).exp()
        votes = torch.zeros(len(rows), classes, dtype=torch.float64, device=rows.device)
        # argmax returns the first of equal maxima: the smaller label.
        predicted.append(votes.scatter_add_(1, theirs, weights).argmax(1))
    return torch.cat(predicted)
