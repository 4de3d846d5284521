"""The von Mises–Fisher kernel: the exponential of the cosine."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.kernels._approximate import Sum, as_cosines
from isosphere.kernels._zonal import ZonalKernel, check_order, cut_geometric_tail
from isosphere.sphere import check_dim, log_harmonic_dimensions

__all__ = ["VonMisesFisherKernel", "exponential_log_ratios"]

_LARGEST = 1e5


@dataclass(frozen=True)
class VonMisesFisherKernel(ZonalKernel):
    """Density of a von Mises–Fisher law around the other point, scaled to 1 at coincidence.

    ``phi(c) = exp(kappa (c - 1)) = exp(-kappa |x - y|^2 / 2)``, the Gaussian kernel restricted to the sphere;
    ``a_l = I_{l+d/2-1}(kappa) / I_{d/2-1}(kappa)``. Positive on all of [-1, 1].

    Args:
        dim: ambient dimension d.
        concentration: kappa, twice the t of Wang & Isola's uniformity.

    Scale:
        ``log_mean = log M_d(kappa) - kappa``, see :func:`isosphere.sphere.log_vmf_normalizer`.
    Raises:
        ValueError: dim < 2, or a concentration outside (0, 1e5].
    Numerics:
        Values, derivatives and ``log`` in closed form at every d. Weights from the continued fraction of
        ratios of Bessel functions, all terms positive, each accurate relative to itself.
    Reference:
        Mardia & Jupp, Directional Statistics, 2000, eq. 9.3.4; Wang & Isola, ICML 2020,
        section 4.1.2 (kappa = 2t).

    Example:
        >>> VonMisesFisherKernel(64).log(torch.tensor([1.0, 0.0, -1.0]))
        tensor([  0., -10., -20.])
    """

    dim: int
    concentration: float = 10.0

    def __post_init__(self) -> None:
        check_dim(self.dim)
        if not 0 < self.concentration <= _LARGEST:
            raise ValueError(
                f"concentration must lie in (0, {_LARGEST:g}], got {self.concentration}: try 10.0"
            )
        object.__setattr__(self, "concentration", float(self.concentration))

    @property
    def is_positive(self) -> bool:
        return True

    def derivative(self, c: Tensor, order: int = 1) -> Tensor:
        check_order(order)
        value = self.log(c).exp_()
        return value * self.concentration**order if order else value

    def log(self, c: Tensor) -> Tensor:
        # In place where autograd needs no copy: large blocks cost more to allocate than to compute.
        return (as_cosines(c) - 1).mul_(self.concentration)

    def log_series(self) -> tuple[Sum, Sum]:
        kappa = self.concentration
        return Sum((-kappa, kappa), True, False, 0.0), Sum((kappa,), True, False, 0.0)

    def log_weights(self) -> Tensor:
        kappa = torch.tensor([self.concentration], dtype=torch.float64, device="cpu")
        size = 32
        while True:
            kept = cut_geometric_tail(exponential_log_ratios(size, self.dim, kappa)[0])
            if kept is not None:
                # Summed to 1: log M_d(kappa) - kappa would lose the digits of kappa.
                return kept - torch.logsumexp(kept, 0)
            size *= 2


def exponential_log_ratios(max_degree: int, dim: int, concentration: Tensor) -> Tensor:
    """``log(p_l / p_0)``, l = 0 to L, of ``exp(kappa (c - 1))`` for a vector of kappa, shape (kappas, L + 1).

    ``p_l ∝ N(l, d) i_l`` with ratios ``r_l = i_l / i_{l-1} = 1 / ((2l+d-2)/kappa + r_{l+1})`` of Bessel
    functions ``i_l ∝ kappa^(1-d/2) I_{l+d/2-1}(kappa)``, run downwards. (DLMF 10.29.1.)
    """
    kappa = concentration
    top = (
        max_degree + 40 + int(2 * math.sqrt(float(kappa.max())))
    )  # what starts the fraction has washed out by L
    order = top + dim / 2
    r = kappa / (order + torch.sqrt(order * order + kappa * kappa))
    logs = torch.zeros(kappa.numel(), max_degree + 1, dtype=torch.float64, device="cpu")
    for l in range(top, 0, -1):
        r = 1 / ((2 * l + dim - 2) / kappa + r)
        if l <= max_degree:
            logs[:, l] = torch.log(r)
    return logs.cumsum(1) + log_harmonic_dimensions(max_degree, dim)
