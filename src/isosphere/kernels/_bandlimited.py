"""All degrees up to a limit, each with the same eigenvalue."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.kernels._zonal import ZonalKernel
from isosphere.sphere import check_degree, check_dim, log_harmonic_dimensions

__all__ = ["BandlimitedKernel"]


@dataclass(frozen=True)
class BandlimitedKernel(ZonalKernel):
    """Reproducing kernel of the polynomials of degree at most L, scaled to 1 at coincidence.

    ``phi(c) = (1/Z) sum_{l<=L} N(l, d) P_l(c)``, ``Z = sum_{l<=L} N(l, d)``; degree 0 is included.

    Args:
        dim: ambient dimension d.
        max_degree: L. With L = 2 an MMD needs only the d x d second moments.

    Raises:
        ValueError: dim < 2 or max_degree < 1. It takes negative values, so ``log`` refuses.
    Numerics:
        d from 2 to 4096, L to the thousands; Z = 33152 at d = 256, L = 2.
    Reference:
        arXiv 2606.17603 (its w(lambda) = 1[l <= L]).

    Example:
        >>> BandlimitedKernel(3).weights()  # 1, 3 and 5 harmonics
        tensor([0.1111, 0.3333, 0.5556], dtype=torch.float64)
    """

    dim: int
    max_degree: int = 2  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def __post_init__(self) -> None:
        check_dim(self.dim)
        check_degree(self.max_degree, "max_degree")
        if self.max_degree < 1:
            raise ValueError(
                f"max_degree must be at least 1, got {self.max_degree}: degree 0 alone is a constant"
            )

    def log_weights(self) -> Tensor:
        logs = log_harmonic_dimensions(self.max_degree, self.dim)
        return logs - torch.logsumexp(logs, 0)
