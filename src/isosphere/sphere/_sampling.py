"""Random points, from the caller's generator."""

import math

import torch
from torch import Tensor

from isosphere.sphere._geometry import normalize
from isosphere.sphere._harmonics import check_dim

__all__ = ["sample_uniform", "sample_vmf"]


def sample_uniform(
    n: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Independent uniform points on the unit sphere, normalised Gaussian vectors.

    Shape:
        Returns (n, dim).
    Raises:
        ValueError: dim < 2 or n < 0.
    Numerics:
        Drawn on the generator's device (the CPU by default) and then moved, so that a seed means the same
        points on every device.
    Reference:
        Muller, Comm. ACM 2 (1959), 19-20.
    """
    check_dim(dim)
    if n < 0:
        raise ValueError(f"n must be 0 or more, got {n}")
    dtype = dtype or torch.get_default_dtype()
    source = generator.device if generator is not None else torch.device("cpu")
    draw = torch.float64 if dtype == torch.float64 else torch.float32
    points = normalize(torch.randn(n, dim, generator=generator, dtype=draw, device=source))
    return points.to(device=device if device is not None else source, dtype=dtype)


def sample_vmf(
    mean: Tensor, concentration: float, n: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Independent points of the von Mises–Fisher law with density ``exp(c <x, mean>) / M_d(c)``.

    Shape:
        mean (d,), normalised here; returns (n, d) with the dtype (float32 at least) and device of mean.
    Raises:
        ValueError: a negative concentration, a zero mean, or a mean that is not one vector.
    Numerics:
        Rejection from a Möbius image of the uniform marginal law, float64 inside; at least 0.6 of the
        proposals are accepted at every dimension and concentration.
    Reference:
        Wood, Comm. Stat. Simul. 23 (1994), 157-164, algorithm VM* (his m, lambda are our dim, concentration).
    """
    if mean.ndim != 1:
        raise ValueError(f"mean must have shape (d,), got {tuple(mean.shape)}")
    dim = mean.shape[0]
    check_dim(dim)
    if not concentration >= 0:
        raise ValueError(f"concentration must be 0 or more, got {concentration}")
    if bool((mean == 0).all()):
        raise ValueError("mean must not be the zero vector: pass a direction")
    centre = normalize(mean)
    source = generator.device if generator is not None else torch.device("cpu")
    t = _vmf_cosines(concentration, dim, n, generator, source)
    normal = torch.randn(n, dim, generator=generator, dtype=torch.float64, device=source)
    mu = centre.to(source, torch.float64)
    side = normalize(normal - (normal @ mu).unsqueeze(-1) * mu)
    points = t.unsqueeze(-1) * mu + torch.sqrt((1 - t) * (1 + t)).unsqueeze(-1) * side
    return points.to(mean.device, centre.dtype)


def _vmf_cosines(
    c: float, dim: int, n: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    k = dim - 1
    b = k / (2 * c + math.sqrt(4 * c * c + k * k))
    x0 = (1 - b) / (1 + b)
    offset = c * x0 + k * math.log1p(-x0 * x0)
    kept: list[Tensor] = []
    missing = n
    while missing > 0:
        size = missing + missing // 2 + 16
        # The marginal law of a uniform point is a symmetric beta on [-1, 1]: no gamma variates are needed.
        u = normalize(torch.randn(size, dim, generator=generator, dtype=torch.float64, device=device))[:, 0]
        beta = (1 + u) / 2
        t = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
        accept = torch.rand(size, generator=generator, dtype=torch.float64, device=device)
        good = t[c * t + k * torch.log1p(-x0 * t) - offset >= torch.log(accept)][:missing]
        kept.append(good)
        missing -= good.numel()
    return torch.cat(kept) if kept else torch.empty(0, dtype=torch.float64, device=device)
