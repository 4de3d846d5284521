"""How classes lie in a space of features: separation, angles between means, silhouettes."""

import torch
from torch import Tensor

from isosphere.reductions import in_float64

_BLOCK = 1024


def fisher_ratio(x: Tensor, y: Tensor) -> Tensor:
    """Variance between classes over variance within: ``tr S_B / tr S_W``.

    .. math:: \\frac{\\sum_c n_c |\\mu_c - \\mu|^2}{\\sum_i |x_i - \\mu_{y_i}|^2}

    Shape:
        rows ``(n, p)``, labels int64 ``(n,)``, to a float64 number. Rows labelled -1 are left out.
    Scale:
        0 if all class means agree, which a single class does; inf if every class is one point, (C - 1) / (n - C)
        expected for C classes without meaning; nan if all rows are the same, or none is labelled. No change by
        shifts, rotations and a common factor.
    Raises:
        ValueError: other shapes, or non-finite rows.
    """
    rows, column, counts = _labelled(x, y)
    if len(rows) == 0:
        return torch.tensor(float("nan"), dtype=torch.float64)
    means = _means(rows, column, counts)
    between = (counts[:, None] * (means - rows.mean(0)).square()).sum()
    within = (rows - means[column]).square().sum()
    # What rounding leaves of a constant is nothing.
    rounding = 1e-12 * rows.square().sum()
    return torch.where(between > rounding, between, 0.0) / torch.where(within > rounding, within, 0.0)


def class_angles(x: Tensor, y: Tensor, *, centred: bool = True) -> Tensor:
    """Angles in degrees between the class means, seen from the mean of these means.

    Shape:
        rows ``(n, p)``, labels int64 ``(n,)``, to float64 ``(classes, classes)``, classes in ascending order of
        their labels; the diagonal is 0. Rows labelled -1 are left out.

    Args:
        centred: False measures from the origin.
    Scale:
        0 to 180; all equal to ``arccos(-1 / (C - 1))`` for C means spread as widely as possible (a simplex, called
        neural collapse when classes are points as well). nan for a mean at the centre.
    Raises:
        ValueError: other shapes, or non-finite rows.
    Reference:
        V. Papyan, X. Han, D. Donoho, Prevalence of neural collapse (PNAS 2020), section 2.
    """
    rows, column, counts = _labelled(x, y)
    means = _means(rows, column, counts)
    if centred and len(means):
        means = means - means.mean(0)
    norms = means.norm(dim=1, keepdim=True)
    rounding = 1e-12 * rows.square().sum().sqrt()
    unit = means / torch.where(norms > rounding, norms, torch.nan)
    # atan2 of half the chord and half the sum, since arccos loses small angles.
    chord, total = (unit[:, None] - unit).norm(dim=2), (unit[:, None] + unit).norm(dim=2)
    return torch.rad2deg(2 * torch.atan2(chord, total))


def silhouettes(x: Tensor, y: Tensor) -> Tensor:
    """Silhouette of every labelled row by Euclidean distance; their mean is the silhouette coefficient.

    .. math:: s_i = \\frac{b_i - a_i}{\\max(a_i, b_i)}

    with a the mean distance to the other rows of the same class and b the smallest mean distance to the rows of
    another class.

    Shape:
        rows ``(n, p)``, labels int64 ``(n,)``, to float64 ``(labelled rows,)``, in order.
    Scale:
        1 when classes are points, 0 on the border, negative nearer to another class. 0 for rows alone in their
        class and where all distances are 0; nan if there is one class only.
    Raises:
        ValueError: other shapes, or non-finite rows.
    Numerics:
        float64, blocked: n^2 p operations, memory about 1024 n.
    Reference:
        P. Rousseeuw, Journal of Computational and Applied Mathematics 20 (1987) 53-65.
    """
    rows, column, counts = _labelled(x, y)
    if len(counts) < 2:
        return torch.full((len(rows),), float("nan"), dtype=torch.float64, device=rows.device)
    member = torch.nn.functional.one_hot(column).double()
    rows = rows - rows.mean(0)
    norms = rows.square().sum(1)
    found = []
    for block, own, height in zip(rows.split(_BLOCK), column.split(_BLOCK), norms.split(_BLOCK), strict=True):
        heights = height[:, None] + norms
        squares = heights - 2 * block @ rows.T
        # Below this it is the rounding of duplicates.
        sums = torch.where(squares > 1e-12 * heights, squares, 0.0).sqrt() @ member
        mine = own[:, None]
        inside = (sums.gather(1, mine) / (counts[mine] - 1)).squeeze(1)
        outside = (sums / counts).scatter_(1, mine, float("inf")).amin(1)
        largest = torch.maximum(inside, outside)
        silhouette = torch.where(largest > 0, (outside - inside) / largest, 0.0)
        found.append(torch.where(counts[own] > 1, silhouette, 0.0))
    return torch.cat(found)


def _labelled(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labelled rows in float64, the number of their class, and the sizes of the classes."""
    if x.ndim != 2 or y.shape != x.shape[:1] or y.is_floating_point():
        raise ValueError(
            f"x, y: got shapes {tuple(x.shape)} and {tuple(y.shape)} ({y.dtype}), expected (n, p) and integers (n,)"
        )
    y = y.to(x.device)
    known = y >= 0
    rows = in_float64(x.detach()[known])
    if not torch.isfinite(rows).all():
        raise ValueError("x: got non-finite numbers, expected finite ones")
    _, column, counts = y[known].to(rows.device).unique(return_inverse=True, return_counts=True)
    return rows, column, counts


def _means(rows: Tensor, column: Tensor, counts: Tensor) -> Tensor:
    return rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, column, rows) / counts[:, None]
