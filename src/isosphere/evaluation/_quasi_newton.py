"""L-BFGS in the form of matrices, and what it begins from."""

import math
from typing import Protocol

import torch
from torch import Tensor

from isosphere.evaluation._rows import Rows

_HISTORY = 12
_MOST_FEATURES = 2048  # up to which their covariance is factorised
_ROWS_PER_FEATURE = 8  # from which that covariance is estimated


class Curvature(Protocol):
    """A positive definite matrix C that is easily solved with."""

    def solve(self, g: Tensor) -> Tensor:
        """``C^-1 g``."""
        ...


class Diagonal:
    """Hessian at zero weights of independent features: weights ``var(x) / classes + penalty``, bias ``1 / classes``."""

    def __init__(self, x: Rows, classes: int, penalty: float) -> None:
        squares = torch.stack([block.square().sum(0) for _, block in x.blocks()]).sum(0) / len(x)
        weights = squares.double() / classes + penalty
        self.inverse = torch.cat([1 / weights, weights.new_tensor([classes])])[:, None]

    def solve(self, g: Tensor) -> Tensor:
        return self.inverse * g


class Covariance:
    """The same of features as they are: weights ``cov(x) / classes + penalty``, estimated from some rows."""

    def __init__(self, x: Rows, classes: int, penalty: float) -> None:
        # In float64: features of a collapsed encoder lie on a line, and rounding would take it below zero.
        rows = x.every(_stride(x)).double()
        covariance = rows.T @ rows / (len(rows) * classes)
        # A hair on top, for duplicated features with a vanishing penalty.
        ridge = penalty + 1e-6 * covariance.diagonal().mean()
        self.factor = torch.linalg.cholesky(covariance + ridge * torch.eye(x.width).to(covariance))
        self.classes = classes

    def solve(self, g: Tensor) -> Tensor:
        return torch.cat([torch.cholesky_solve(g[:-1], self.factor), self.classes * g[-1:]])


def patience(x: Rows, classes: int) -> float:
    """Iterations whose two products with x cost what factorising the covariance costs: whoever begins without, and
    factorises then, pays at most twice what the better choice would have cost. Infinite for very many features.
    """
    n, p = len(x), x.width
    if p > _MOST_FEATURES:
        return math.inf
    doubles = 2  # an operation in float64 costs two in float32
    return math.ceil(doubles * (n // _stride(x) * p**2 + p**3 / 3) / (2 * n * p * classes))


def _stride(x: Rows) -> int:
    return max(1, len(x) // (_ROWS_PER_FEATURE * x.width))


class Memory:
    r"""The inverse Hessian H of L-BFGS that begins from :math:`\gamma C^{-1}` and has seen m steps s, over which the
    gradient changed by y, in the compact form of Byrd, Nocedal and Schnabel (1994, theorem 2.2):

    .. math:: H = \gamma C^{-1} + \begin{pmatrix} S & \gamma Z \end{pmatrix}
        \begin{pmatrix} R^{-T} (D + \gamma Y^T Z) R^{-1} & -R^{-T} \\ -R^{-1} & 0 \end{pmatrix}
        \begin{pmatrix} S^T \\ \gamma Z^T \end{pmatrix}, \qquad Z = C^{-1} Y,

    R the upper triangle of :math:`S^T Y` in the order of time, D its diagonal, :math:`\gamma = s^T y / y^T C^{-1} y` of
    the last step. It costs two passes over S and Z, not one over each s and y.
    """

    def __init__(self, gradient: Tensor, curvature: Curvature, dtype: torch.dtype) -> None:
        self.curvature, self.gradient = curvature, gradient
        self.solved = curvature.solve(gradient)
        # S and Z, a ring of rows; what they add to the direction needs no more digits than x has.
        self.steps = gradient.new_zeros(2, _HISTORY, gradient.numel(), dtype=dtype)
        self.sy, self.yz = gradient.new_zeros(2, _HISTORY, _HISTORY)
        self.order: list[int] = []

    def update(self, step: Tensor, gradient: Tensor) -> None:
        """Take in a step and the gradient after it."""
        solved = self.curvature.solve(gradient)
        y, z = gradient - self.gradient, solved - self.solved
        self.gradient, self.solved = gradient, solved
        if not float((step * y).sum()) > 0:  # rounding alone: the curvature of a convex function is positive
            return
        new = self.order[0] if len(self.order) == _HISTORY else len(self.order)
        self.order = [*(i for i in self.order if i != new), new]
        self.steps[0, new], self.steps[1, new] = step.flatten(), z.flatten()
        self.sy[:, new], self.yz[new] = self._products(y)
        self.yz[:, new] = self.yz[new]

    def direction(self) -> Tensor:
        """``-H g`` of the last gradient g."""
        if not self.order:
            return -self.solved
        at = torch.tensor(self.order, device=self.sy.device)
        sy, yz = self.sy[at][:, at], self.yz[at][:, at]
        gamma = sy[-1, -1] / yz[-1, -1]
        sg, zg = self._products(self.gradient)[:, at]
        a = torch.linalg.solve_triangular(sy.triu(), sg[:, None], upper=True)[:, 0]
        right = sy.diagonal() * a + gamma * (yz @ a - zg)
        c = torch.linalg.solve_triangular(sy.triu().T, right[:, None], upper=False)[:, 0]
        shares = torch.zeros_like(self.sy[:2])
        shares[0, at], shares[1, at] = c, -gamma * a
        moved = shares.flatten().to(self.steps) @ self.steps.flatten(0, 1)
        return -(gamma * self.solved + moved.view_as(self.solved))

    def _products(self, g: Tensor) -> Tensor:
        """``S^T g`` and ``Z^T g``, ``(2, history)``."""
        return (self.steps @ g.flatten().to(self.steps)).to(g)
