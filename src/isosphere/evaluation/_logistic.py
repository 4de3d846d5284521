"""Multinomial logistic regression by L-BFGS: the objective, its gradient, and how far to go along a line."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from isosphere.evaluation._quasi_newton import Covariance, Diagonal, Memory, patience
from isosphere.evaluation._rows import Rows
from isosphere.reductions import full_precision


@dataclass(frozen=True, slots=True)
class Logistic:
    """Fitted weights: class probabilities are the softmax of ``x @ weight + bias``.

    `weight` float64 ``(p, classes)``, `bias` ``(classes,)``; `classes` int64: which label each column stands
    for; `penalty` as given; `iterations` of L-BFGS, and whether it `converged`.
    """

    weight: Tensor
    bias: Tensor
    classes: Tensor
    penalty: float
    iterations: int
    converged: bool

    def logits(self, x: Tensor) -> Tensor:
        """``x @ weight + bias`` in the dtype of x: ``(m, classes)``."""
        with full_precision(x.device):
            return x @ self.weight.to(x) + self.bias.to(x)

    def predict(self, x: Tensor | Rows) -> Tensor:
        """The most probable label of each row, the smaller of equals: int64 ``(m,)``."""
        rows = x if isinstance(x, Rows) else Rows(x)
        found = [self.logits(block).argmax(1) for _, block in rows.blocks()]
        return self.classes.to(rows.device)[torch.cat(found)]


def fit_logistic(
    x: Tensor | Rows,
    y: Tensor,
    *,
    penalty: float,
    start: Logistic | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 300,
) -> Logistic:
    """Minimise the mean cross-entropy plus a quadratic penalty on the weights (not on the bias).

    .. math:: \\frac1n \\sum_i -\\log \\operatorname{softmax}(W^T x_i + b)_{y_i} + \\frac\\lambda2 |W|_F^2

    scikit-learn's ``LogisticRegression(C=1 / (penalty * n))`` minimises the same for three classes or more;
    for two it fits one vector for the difference, which is the same at ``C=2 / (penalty * n)``.

    Args:
        x: ``(n, p)``, float32 or float64: the precision of the products with x; all else is float64. As
            :class:`~isosphere.evaluation._rows.Rows` many rows are held once.
        y: ``(n,)`` labels >= 0. Only those that occur become classes; a single one is predicted always.
        penalty: lambda > 0.
        start: an earlier fit with the same classes (along a path of penalties), to begin from.
        tolerance: how far the objective may be from its minimum; bounded by the gradient of the weights,
            estimated for the bias.

    Raises: ValueError for other shapes, no rows, or a penalty that is not positive.

    Numerics: two products with x per iteration, whatever the line search does, since the objective along a
    direction needs the logits alone. L-BFGS starts from the variances of the features; after as many
    iterations as cost what factorising costs, from the inverse of ``cov(x) / classes + lambda``, the Hessian
    at zero weights, estimated from 8 rows per feature, so that correlated features cost few more
    iterations than white ones. Beyond 2,048 features only the variances are used. Memory: one copy of a
    small x, none of a large one, four arrays ``(n, classes)``, and 24 of the size of the weights.
    """
    check_rows(x, y)
    if not penalty > 0:
        raise ValueError(f"penalty: got {penalty}, expected a positive number such as 1e-3")
    classes, column = y.unique(return_inverse=True)
    rows = x if isinstance(x, Rows) else Rows(x)
    width = (rows.width + 1, len(classes))
    if len(classes) == 1:
        zeros = torch.zeros(width, dtype=torch.float64, device=rows.device)
        return Logistic(zeros[:-1], zeros[-1], classes, penalty, 0, True)
    if start is not None and not torch.equal(start.classes, classes):
        raise ValueError("start: got a fit with other classes, expected one on the same labels")
    mean = rows.mean()
    # The bias is free: centred features give the same fit, and separate it from the weights.
    centred = rows.centred(mean)
    v = torch.zeros(width, dtype=torch.float64, device=rows.device)
    if start is not None:
        v[:-1], v[-1] = start.weight, start.bias + mean.double() @ start.weight
    with full_precision(rows.device):
        v, iterations, converged = _minimise(centred, column, v, penalty, tolerance, max_iterations)
    return Logistic(v[:-1], v[-1] - mean.double() @ v[:-1], classes, penalty, iterations, converged)


def check_rows(x: Tensor | Rows, y: Tensor) -> None:
    """Raises: ValueError unless there are labels from 0 for every row of a matrix."""
    shape = (len(x), x.width) if isinstance(x, Rows) else tuple(x.shape)
    if len(shape) != 2 or y.shape != shape[:1] or len(y) == 0 or int(y.min()) < 0:
        raise ValueError(
            f"x, y: got shapes {shape} and {tuple(y.shape)}, expected (n, p), n >= 1, and (n,) labels from 0; leave "
            "unlabelled rows out"
        )


def _minimise(
    x: Rows, column: Tensor, v: Tensor, penalty: float, tolerance: float, limit: int
) -> tuple[Tensor, int, bool]:
    classes = v.shape[1]
    z = _logits(x, v)
    value = float(_cross_entropy(z, column)[0]) + penalty / 2 * float(v[:-1].square().sum())
    gradient, excess = _gradient(x, z, column, v, penalty)
    memory, enough = Memory(gradient, Diagonal(x, classes, penalty), x.dtype), patience(x, classes)
    for iteration in range(limit):
        if excess <= tolerance:
            return v, iteration, True
        if iteration == enough:
            memory = Memory(gradient, Covariance(x, classes, penalty), x.dtype)
        direction = memory.direction()
        slope = float((gradient * direction).sum())
        change = _logits(x, direction)
        # Without a step behind it the curvature is that of small logits: a long first step is worse than none.
        trial = 1.0 if memory.order else min(1.0, 1 / float(change.abs().max()))
        t, value = _line_search(z, change, column, v, direction, penalty, value, slope, trial)
        if t == 0:  # the objective is as low as its rounding lets one see
            return v, iteration, -slope / 2 <= 100 * max(tolerance, torch.finfo(x.dtype).eps)
        v, z = v + t * direction, z.add_(change, alpha=t)
        gradient, excess = _gradient(x, z, column, v, penalty)
        memory.update(t * direction, gradient)
    return v, limit, False


def _logits(x: Rows, v: Tensor) -> Tensor:
    return torch.cat([torch.addmm(v[-1].to(rows), rows, v[:-1].to(rows)) for _, rows in x.blocks()])


def _gradient(x: Rows, z: Tensor, column: Tensor, v: Tensor, penalty: float) -> tuple[Tensor, float]:
    """The gradient, and by how much the objective may exceed its minimum: at the best bias it is strongly convex in the
    weights, so by ``|g|^2 / (2 lambda)`` at most; what the bias adds is that of its own curvature.
    """
    # Probabilities below e^-60 count as that: denormal numbers would make the product a hundred times as slow.
    chance = (z - z.amax(1, keepdim=True)).clamp_(min=-60).softmax(1)
    curvature = (chance - chance * chance).mean(0, dtype=torch.float64)
    residual = chance.scatter_add_(1, column[:, None], chance.new_full((1, 1), -1).expand(len(z), 1))
    product = torch.stack([(residual[here].T @ rows).double() for here, rows in x.blocks()]).sum(0).T
    weights = product / len(x) + penalty * v[:-1]
    bias = residual.mean(0, dtype=torch.float64)
    excess = weights.square().sum() / penalty + (bias.square() / curvature.clamp(min=1e-12)).sum()
    return torch.cat([weights, bias[None]]), float(excess) / 2


def _cross_entropy(z: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over rows in float64, and the logarithm of each row's sum."""
    top = z.logsumexp(1)
    return (top - z.gather(1, column[:, None]).squeeze(1)).double().mean(), top


class _Quadratic(NamedTuple):
    """The penalty along a direction: constant, slope and curvature."""

    constant: float
    slope: float
    curvature: float


def _line_search(
    z: Tensor,
    change: Tensor,
    column: Tensor,
    v: Tensor,
    direction: Tensor,
    penalty: float,
    first: float,
    slope: float,
    t: float,
) -> tuple[float, float]:
    """A step at which the convex objective has fallen from `first` and is nearly flat (strong Wolfe), and its value
    there; 0 if there is none. `t` is the first that is tried.
    """
    w, u = v[:-1], direction[:-1]
    quadratic = _Quadratic(
        *(penalty * float(term) for term in ((w * w).sum() / 2, (w * u).sum(), (u * u).sum()))
    )
    own = change.gather(1, column[:, None]).squeeze(1).double().mean()

    def along(t: float) -> tuple[float, float]:
        here = z.add(change, alpha=t)
        loss, top = _cross_entropy(here, column)
        rise = ((here - top[:, None]).exp_() * change).sum(1).double().mean() - own
        c, b, a = quadratic
        return float(loss) + c + b * t + a * t * t / 2, float(rise) + b + a * t

    noise = 4 * torch.finfo(z.dtype).eps * abs(first)
    low, low_value, low_slope, high, high_slope = 0.0, first, slope, float("inf"), 0.0
    for _ in range(25):
        value, here = along(t)
        if value > first + 1e-4 * t * slope + noise or here > 0.5 * abs(slope):
            high, high_slope = t, max(here, 1e-3 * abs(slope))
        elif here < -0.9 * abs(slope):
            low, low_value, low_slope = t, value, here
        else:
            return t, value
        if high == float("inf"):
            t = 4 * t
            continue
        # The derivative ascends: where its chord vanishes, kept off the ends.
        share = low_slope / (low_slope - high_slope)
        t = low + (high - low) * min(max(share, 0.1), 0.9)
    return low, low_value
