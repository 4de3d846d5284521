"""The linear probe as papers train it: minibatches, SGD or AdamW, a cosine schedule; many rates side by side."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from isosphere.data import permutation
from isosphere.evaluation._logistic import Logistic, check_rows
from isosphere.evaluation._rows import Rows
from isosphere.reductions import full_precision

Descent = Literal["sgd", "adamw"]

SGD_RATES = tuple(10.0 ** (-k / 2) for k in range(8))
"""Learning rates of SGD, 1 to 3e-4 in half decades, on standardised features."""
ADAMW_RATES = tuple(10.0 ** (-k / 2) for k in range(2, 9))
"""Learning rates of AdamW, 0.1 to 1e-4 in half decades."""
EPOCHS = (10, 30, 100)
"""Lengths of the schedule."""

MOMENTUM, BETAS, EPSILON = 0.9, (0.9, 0.999), 1e-8


def fit_by_descent(
    x: Tensor | Rows,
    y: Tensor,
    *,
    solver: Descent,
    rates: tuple[float, ...],
    epochs: int,
    decay: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
) -> list[Logistic]:
    """Multinomial logistic regressions from zero weights, one for each learning rate, on the same batches.

    .. math:: \\text{SGD: } u \\leftarrow 0.9\\, u + g + \\lambda w, \\; w \\leftarrow w - \\eta_t u \\qquad
        \\text{AdamW: } w \\leftarrow (1 - \\eta_t \\lambda) w - \\eta_t \\hat m / (\\sqrt{\\hat v} + 10^{-8})

    with g the gradient of a batch's mean cross-entropy and :math:`\\eta_t = \\frac\\eta2 (1 + \\cos(\\pi t / T))`
    over all T steps. Torch's ``SGD(momentum=0.9)`` and ``AdamW`` make the same steps.

    Args:
        x, y: ``(n, p)`` and ``(n,)`` labels >= 0, as of :func:`~isosphere.evaluation.fit_logistic`.
        rates: learning rates eta, each > 0; they cost one matrix product together.
        epochs: passes through the rows, in an order that `seed` and the pass determine.
        decay: lambda, on the weights, not on the bias.
        batch_size: rows of a step; the last batch of a pass is smaller.

    Returns: fits in the order of `rates`; `penalty` is the decay, `iterations` the steps, `converged` says
        that the weights are finite (a rate that was too large leaves the others alone).

    Raises: ValueError for other shapes or numbers.

    Numerics: the precision of x. No generator of torch advances.
    """
    check_rows(x, y)
    if solver not in get_args(Descent):
        raise ValueError(f"solver: got {solver!r}, expected sgd or adamw")
    if not rates or not min(rates) > 0:
        raise ValueError(f"rates: got {rates}, expected positive learning rates such as (1e-3, 1e-2)")
    if epochs < 1 or batch_size < 1 or not decay >= 0:
        raise ValueError(
            f"got epochs={epochs}, batch_size={batch_size}, decay={decay}, expected at least 1, 1 and 0"
        )
    classes, column = y.unique(return_inverse=True)
    n, many = len(x), len(classes)
    features = x if isinstance(x, Rows) else Rows(x)
    state = _State.zeros(features, len(rates) * many)
    eta = torch.tensor(rates, dtype=features.dtype, device=features.device).repeat_interleave(many)
    total = epochs * math.ceil(n / batch_size)
    with torch.no_grad(), full_precision(features.device):
        step = 0
        for epoch in range(epochs):
            for rows in permutation(n, seed, epoch).to(features.device).split(batch_size):
                gradient = _gradient(features[rows], column[rows], state, len(rates))
                rate = eta * (0.5 * (1 + math.cos(math.pi * step / total)))
                step += 1
                (_sgd if solver == "sgd" else _adamw)(state, gradient, rate, decay, step)
    w = state.weights.double().view(-1, len(rates), many)
    return [
        Logistic(w[:-1, g].contiguous(), w[-1, g], classes, decay, total, bool(torch.isfinite(w[:, g]).all()))
        for g in range(len(rates))
    ]


@dataclass
class _State:
    """Weights of all rates beside each other ``(p + 1, rates * classes)``, the bias last, and two averages."""

    weights: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def zeros(cls, x: Rows, width: int) -> "_State":
        return cls(*(torch.zeros(x.width + 1, width, dtype=x.dtype, device=x.device) for _ in range(3)))


def _gradient(x: Tensor, column: Tensor, state: _State, rates: int) -> Tensor:
    logits = torch.addmm(state.weights[-1], x, state.weights[:-1]).view(len(x), rates, -1)
    residual = logits.softmax(2)
    residual[torch.arange(len(x), device=x.device), :, column] -= 1
    flat = residual.view(len(x), -1).div_(len(x))
    return torch.cat([x.T @ flat, flat.sum(0)[None]])


def _sgd(state: _State, gradient: Tensor, rate: Tensor, decay: float, step: int) -> None:
    gradient[:-1] += decay * state.weights[:-1]
    state.first.mul_(MOMENTUM).add_(gradient)
    state.weights -= rate * state.first


def _adamw(state: _State, gradient: Tensor, rate: Tensor, decay: float, step: int) -> None:
    b1, b2 = BETAS
    state.weights[:-1] *= 1 - rate * decay
    state.first.lerp_(gradient, 1 - b1)
    state.second.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
    scale = state.second.sqrt().div_(math.sqrt(1 - b2**step)).add_(EPSILON)
    state.weights -= rate / (1 - b1**step) * state.first / scale
