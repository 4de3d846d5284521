"""The Stein transform: the kernel whose MMD is the kernel Stein discrepancy of another."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.kernels.zonal import ZonalKernel
from isosphere.sphere import laplacian_eigenvalue

__all__ = ["SteinKernel", "stein"]


@dataclass(frozen=True)
class SteinKernel(ZonalKernel):
    """Minus the Laplacian of a kernel, scaled to 1 at coincidence.

    ``psi(c) = [(d-1) c phi'(c) - (1-c^2) phi''(c)] / ((d-1) phi'(1))``, that is ``p_l`` proportional to
    ``lambda_l p_l``: no degree 0, mean 0 under the uniform law.

    Args:
        base: the kernel phi.

    Raises:
        ValueError: base is constant.
    Numerics:
        By the spectrum. It takes negative values, so ``log`` refuses.
    Reference:
        arXiv 2606.17603, section 3 (the KSD with the score 0 of the uniform law, scaled to 1 at collapse).
    """

    base: ZonalKernel

    @property
    def dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.base.dim

    def log_weights(self) -> Tensor:
        logs = self.base.log_weights()
        l = torch.arange(logs.numel())
        raised = logs + torch.log(laplacian_eigenvalue(l, self.dim))
        return raised - torch.logsumexp(raised, 0)


def stein(kernel: ZonalKernel) -> ZonalKernel:
    """Kernel with weights proportional to ``lambda_l p_l``: ``KSD(k) == MMD(stein(k))`` exactly.

    Reference:
        See :class:`SteinKernel`.
    """
    return SteinKernel(kernel)
