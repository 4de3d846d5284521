"""The Stein transform: the kernel whose MMD is the kernel Stein discrepancy of another."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.kernels._zonal import ZonalKernel
from isosphere.sphere import laplacian_eigenvalue

__all__ = ["SteinKernel", "stein"]


@dataclass(frozen=True)
class SteinKernel(ZonalKernel):
    """Minus the Laplacian of a kernel, scaled to 1 at coincidence.

    ``psi(c) = [(d-1) c phi'(c) - (1 - c^2) phi''(c)] / ((d-1) phi'(1))``; its weights are proportional to
    ``lambda_l p_l``: no degree 0, mean 0 under the uniform law.

    Args:
        base: the kernel phi.

    Scale:
        With the score 0 of the uniform law the mean of psi over all pairs is the kernel Stein discrepancy, 1
        at collapse and 0 for the uniform population; nothing is to be subtracted.
    Raises:
        TypeError: base is not a kernel. It takes negative values, so ``log`` refuses.
    Numerics:
        By the spectrum, so exact where the formula would subtract large derivatives.
    Reference:
        arXiv 2606.17603, the KSD (phi'' and phi' as there, divided by its value at collapse); Barp
        et al., Bernoulli 28 (2022), for Stein operators on manifolds.

    Example:
        >>> from isosphere.kernels import BandlimitedKernel
        >>> SteinKernel(BandlimitedKernel(3)).weights()  # eigenvalues 0, 2, 6
        tensor([0.0000, 0.1667, 0.8333], dtype=torch.float64)
    """

    base: ZonalKernel

    def __post_init__(self) -> None:
        if not isinstance(self.base, ZonalKernel):
            raise TypeError(f"stein takes a kernel, got {self.base!r}: e.g. stein(HeatKernel(256))")

    @property
    def dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.base.dim

    def log_weights(self) -> Tensor:
        logs = self.base.log_weights()
        eigenvalues = laplacian_eigenvalue(torch.arange(logs.numel(), device="cpu"), self.dim)
        raised = logs + torch.log(eigenvalues)
        return raised - torch.logsumexp(raised, 0)


def stein(kernel: ZonalKernel) -> SteinKernel:
    """Kernel with weights proportional to ``lambda_l p_l``, so that ``KSD(k) == MMD(stein(k))`` exactly.

    Raises:
        TypeError: the argument is not a kernel.
    Reference:
        See :class:`SteinKernel`.
    """
    return SteinKernel(kernel)
