"""Values and gradients of discrepancies by the passes of a GPU; ``TRITON_INTERPRET=1`` runs them on a CPU."""

import sys
import warnings

import torch
from torch import Tensor

from isosphere.discrepancies import KL, KSD, MMD, Discrepancy
from isosphere.kernels import BandlimitedKernel, FejerKernel, HeatKernel, InducedKernel, VonMisesFisherKernel
from isosphere.reductions import _pairwise, _tiles
from isosphere.sphere import normalize

D = 12
CASES: dict[str, Discrepancy] = {
    "MMD, heat": MMD(HeatKernel(D)),
    "MMD, heat, U": MMD(HeatKernel(D), "u"),
    "MMD, von Mises-Fisher": MMD(VonMisesFisherKernel(D)),
    "MMD, sharp (Chebyshev)": MMD(HeatKernel(D, time=0.03)),
    "MMD, induced": MMD(InducedKernel(D)),
    "MMD, degree 5": MMD(BandlimitedKernel(D, 5)),
    "KSD, heat": KSD(HeatKernel(D)),
    "KL, von Mises-Fisher": KL(VonMisesFisherKernel(D)),
    "KL, heat": KL(HeatKernel(D)),
    "KL, heat, with itself": KL(HeatKernel(D), leave_one_out=False),
    "KL, narrow heat (stretched)": KL(HeatKernel(D, time=0.02)),
    "KL, Fejer (by blocks)": KL(FejerKernel(D, 6)),
}


def of(function, z: Tensor) -> tuple[Tensor, Tensor]:
    """Values of all views, and the gradient of a combination of them that tells them apart."""
    z = z.clone().requires_grad_()
    value = function(z)
    (gradient,) = torch.autograd.grad(value @ torch.arange(1.0, len(value) + 1).to(value), z)
    return value.detach(), gradient


def fallen_back(kernel: str, statistic: Discrepancy) -> None:
    """A device on which Triton fails, at any of its kernels, is told of once, and goes by blocks."""
    launch = getattr(_tiles, kernel)
    setattr(_tiles, kernel, None)
    z = normalize(torch.randn(2, 40, D))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        values = [of(statistic, z), of(statistic, z)]
    setattr(_tiles, kernel, launch)
    _tiles.usable.cache_clear()
    assert sum("Triton fails on cpu" in str(one.message) for one in told) == 1, told
    exact, slope = of(statistic.reference, z.double())
    for value, gradient in values:
        torch.testing.assert_close(value.double(), exact, rtol=2e-5, atol=2e-6)
        torch.testing.assert_close(gradient.double(), slope, rtol=1e-3, atol=1e-6)
    print(f"without {kernel}: as the formula")


def shifted() -> None:
    """Of several ranks a block's own pairs lie on another diagonal than the first."""
    block = torch.rand(2, 70, 150) * 2 - 1
    for shift in (0, 37, 80):
        kept = torch.ones_like(block)
        kept.diagonal(shift, -2, -1).zero_()
        c = block.clone()
        total = _tiles.mean_and_slopes(c, _tiles._LINE, twice=150, without=shift, slopes=True)
        torch.testing.assert_close(total.float(), (block * kept).sum((-2, -1)), rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(c, kept)
        logs = block.masked_fill(kept == 0, -torch.inf)
        rows, columns = _tiles.log_sums(block.clone(), _tiles._LINE, without=shift)
        torch.testing.assert_close(rows, logs.logsumexp(-1))
        torch.testing.assert_close(columns, logs.logsumexp(-2))
        c = block.clone()
        _tiles.log_weights(c, _tiles._LINE, rows, columns, without=shift)
        weights = (logs - rows[:, :, None]).exp() + (logs - columns[:, None]).exp()
        torch.testing.assert_close(c, weights)
    print("shifted: as the formula")


def main() -> None:
    shifted()
    fallen_back("_mean_tile", MMD(HeatKernel(D)))
    fallen_back("_log_sum_tile", KL(VonMisesFisherKernel(D)))
    fallen_back("_weight_tile", KL(VonMisesFisherKernel(D)))
    generator = torch.Generator().manual_seed(0)
    spread = normalize(torch.randn(2, 150, D, generator=generator) * torch.linspace(1.5, 0.5, D))
    clustered = normalize(torch.randn(2, 70, D, generator=generator) + 3 * torch.eye(D)[0])
    for name, discrepancy in CASES.items():
        for z in (spread, clustered):
            # Blocks of fewer rows than there are: tiles begin at every diagonal, and mirrored pairs are told apart.
            for rows in (50, 4096):
                _pairwise._ROWS["cpu"] = rows
                value, gradient = of(discrepancy, z)
                assert "isosphere.reductions._tiles" in sys.modules
                exact, slope = of(discrepancy.reference, z.double())
                torch.testing.assert_close(value.double(), exact, rtol=2e-5, atol=2e-6)
                least = 3e-6 * float(slope.abs().max()) + 1e-7
                torch.testing.assert_close(gradient.double(), slope, rtol=1e-3, atol=least)
        print(f"{name}: as the formula")


if __name__ == "__main__":
    main()
