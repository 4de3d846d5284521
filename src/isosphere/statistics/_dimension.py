"""How many dimensions the features have near each point, and how many tell images apart."""

import torch
from torch import Tensor

from isosphere.reductions import full_precision, in_float64, nearest_neighbours
from isosphere.statistics._within import within_covariance

_BLOCK = 4096
_SPARE = 8


def local_intrinsic_dimensions(x: Tensor, k: int = 20) -> Tensor:
    """Dimension at every row from how fast neighbours become more numerous with distance.

    .. math:: \\hat m_i = \\Big[\\frac1{k - 1} \\sum_{j=1}^{k-1} \\log \\frac{r_k}{r_j}\\Big]^{-1}

    with r_j the distance from row i to its j-th nearest other row; the maximum-likelihood estimate. For one number
    of a sample take the harmonic mean, ``1 / (1 / m).mean()``: it is the likelihood's own.

    Shape:
        ``(n, p)`` to float64 ``(n,)``.
    Scale:
        The dimension of the manifold from which rows were drawn, if k neighbours lie where it is flat; too small by
        then for dimensions above log n. Rows that coincide with row i are not counted among its neighbours; nan if
        fewer than two distances remain, inf if these are equal.
    Raises:
        ValueError: another shape or k outside 3..n-1.
    Numerics:
        Distances in float64 between the centred rows, among k + 8 candidates that float32 finds.
    Reference:
        E. Levina, P. Bickel, NeurIPS 2004, eq. 8; D. MacKay, Z. Ghahramani (2005) for the mean.
    """
    if x.ndim != 2 or not 3 <= k < len(x):
        raise ValueError(
            f"x, k: got shape {tuple(x.shape)} and {k}, expected (n, p) and 3 to n - 1 neighbours"
        )
    rows = in_float64(x.detach())
    rows = rows - rows.mean(0)
    scale = rows.square().sum(1).mean().sqrt()
    small = (rows / scale.clamp(min=torch.finfo(torch.float64).tiny)).float()
    # The nearest by distance have the largest <x, y> - |y|^2 / 2.
    one = torch.ones(len(x), 1, device=rows.device)
    _, near = nearest_neighbours(
        torch.cat([small, one], 1),
        torch.cat([small, -small.square().sum(1, keepdim=True) / 2], 1),
        min(k + _SPARE, len(x) - 1),
        exclude=torch.arange(len(x), device=rows.device),
    )
    found = []
    for block, indices in zip(rows.split(_BLOCK), near.split(_BLOCK), strict=True):
        distances = (rows[indices] - block[:, None]).norm(dim=2).sort(1).values[:, :k]
        apart = distances > 1e-9 * scale
        last = distances[:, -1:]
        logs = torch.where(apart, (last / distances).log(), 0.0).sum(1)
        count = apart.sum(1)
        found.append(torch.where(count > 1, (count - 1) / logs, torch.nan))
    return torch.cat(found)


def lidar(views: Tensor, *, delta: float = 1e-4) -> Tensor:
    """LiDAR: effective number of directions in which images differ by more than their views do.

    With W the covariance of views around their image's mean and B that of the images' means, the exponential
    entropy of the eigenvalues, brought to sum 1, of ``(W + delta I)^(-1/2) B (W + delta I)^(-1/2)``.

    Shape:
        ``(views, n, p)``, at least two views of two images, to a float64 number.
    Scale:
        1 (one direction tells images apart) to min(n - 1, p); 0 if all images have the same mean. `delta` is
        absolute: compare features of one scale. It depends on n and on the number of views; compare at equal ones.
    Raises:
        ValueError: another shape, or non-finite numbers.
    Reference:
        V. Thilak et al., LiDAR (arXiv 2312.04000), section 4; the rank without its epsilon of 1e-7.
    """
    if views.ndim != 3 or views.shape[0] < 2 or views.shape[1] < 2:
        raise ValueError(
            f"views: got shape {tuple(views.shape)}, expected (views, n, p): at least two views of two images"
        )
    x = in_float64(views.detach())
    if not torch.isfinite(x).all():
        raise ValueError("views: got non-finite numbers, expected finite ones")
    v, n, p = x.shape
    with full_precision(x.device):
        means = x.mean(0)
        between = means - means.mean(0)
        if not between.square().sum() > 1e-12 * x.square().sum() / v:
            return torch.zeros((), dtype=torch.float64, device=x.device)
        within = within_covariance(x) + delta * torch.eye(p, dtype=x.dtype, device=x.device)
        factor = torch.linalg.cholesky(within)
        whitened = torch.linalg.solve_triangular(factor, between.T, upper=False)
        gram = whitened @ whitened.T if p <= n else whitened.T @ whitened
        eigenvalues = torch.linalg.eigvalsh(gram).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum()
    return torch.special.entr(shares).sum().exp()
