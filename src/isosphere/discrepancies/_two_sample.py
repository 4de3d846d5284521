"""Whether two samples are of one law: maximum mean discrepancy between them, with a permutation test."""

__all__ = ["TwoSample", "two_sample_mmd"]

from dataclasses import dataclass

import torch
from torch import Tensor

from isosphere.kernels import VonMisesFisherKernel, ZonalKernel

_LARGEST = 1e4  # concentration: more than half of the rows are copies
_PERMUTED = 256  # permutations at once


@dataclass(frozen=True)
class TwoSample:
    """The squared MMD of two samples (`value`), its `p_value` by `permutations`, the `counts` of rows that were
    compared, and the `kernel`.

    Example:
        >>> x = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=1)
        >>> two_sample_mmd(x[:20], x[20:]).p_value > 0.05
        True
    """

    value: float
    p_value: float
    permutations: int
    counts: tuple[int, int]
    kernel: ZonalKernel


def two_sample_mmd(
    x: Tensor,
    y: Tensor,
    *,
    kernel: ZonalKernel | None = None,
    permutations: int = 999,
    most: int = 1000,
    seed: int = 0,
) -> TwoSample:
    r"""Unbiased squared maximum mean discrepancy between two samples of unit rows, and how rarely it is as large where
    the rows are dealt out anew.

    .. math:: D = \frac{1}{n(n-1)} \sum_{i \ne j} \phi(\langle x_i, x_j \rangle)
              + \frac{1}{m(m-1)} \sum_{i \ne j} \phi(\langle y_i, y_j \rangle)
              - \frac{2}{nm} \sum_{i,j} \phi(\langle x_i, y_j \rangle)

    The p-value is the share of D among itself and the permuted ones that are at least as large. It is exact if rows
    are exchangeable under the null hypothesis: rows that come in bursts (frames of one video) are not.

    Args:
        x, y: ``(n, d)`` and ``(m, d)``, unit rows.
        kernel: :math:`\phi`; None: von Mises-Fisher, the Gaussian of unit rows, whose bandwidth is the median distance
            between the rows of both samples.
        permutations: the smallest p-value is 1 / (1 + permutations).
        most: of a larger sample so many rows are drawn. seed: of that and of the permutations.

    Scale:
        0 in the mean over samples of one law, negative values allowed; 2 for two points far apart.
    Raises:
        ValueError: other shapes, fewer than 2 rows of either, values that are not finite, or no permutations.
    Numerics:
        float64 on the CPU: the Gram matrix of at most 2 `most` rows, and one product with it for each permutation.
    Reference:
        A. Gretton et al., A kernel two-sample test (JMLR 2012), eq. 3 (the estimator), section 8 (the median).
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y), most) < 2:
        raise ValueError(
            f"x, y, most: got shapes {tuple(x.shape)} and {tuple(y.shape)} and {most}, expected (n, d) and (m, d), at "
            "least 2 rows of each"
        )
    if permutations < 1:
        raise ValueError(f"permutations: got {permutations}, expected 1 or more, such as 999")
    generator = torch.Generator().manual_seed(seed)
    first, second = (_drawn(rows.detach().cpu().double(), most, generator) for rows in (x, y))
    pooled = torch.cat([first, second])
    if not torch.isfinite(pooled).all():
        raise ValueError("x, y: got non-finite numbers, expected finite ones")
    n, m = len(first), len(second)
    cosines = (pooled @ pooled.T).clamp(-1, 1)
    kernel = kernel or VonMisesFisherKernel(pooled.shape[1], _median_concentration(cosines))
    gram = kernel(cosines).fill_diagonal_(0)
    dealt = torch.arange(n + m) < n
    orders = (torch.randperm(n + m, generator=generator) for _ in range(permutations))
    of_first = torch.stack([dealt, *(dealt[order] for order in orders)])
    values = torch.cat([_statistics(gram, rows.double(), n, m) for rows in of_first.split(_PERMUTED)])
    # What is equal but for rounding is as large.
    as_large = values >= values[0] - 1e-12 * gram.abs().max()
    return TwoSample(float(values[0]), float(as_large.double().mean()), permutations, (n, m), kernel)


def _statistics(gram: Tensor, chosen: Tensor, n: int, m: int) -> Tensor:
    """D of each choice of the n rows that are the first sample: 0 and 1 ``(b, n + m)`` to ``(b,)``; the Gram matrix has
    a diagonal of 0.
    """
    within = ((chosen @ gram) * chosen).sum(1)
    between = chosen @ gram.sum(1) - within
    rest = gram.sum() - within - 2 * between
    return within / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * between / (n * m)


def _median_concentration(cosines: Tensor) -> float:
    """1 / s^2, where s is the median distance of different rows: ``exp(-|x - y|^2 / (2 s^2))``."""
    n = len(cosines)
    pairs = cosines[torch.triu(torch.ones(n, n, dtype=torch.bool), 1)]
    square = float((2 - 2 * pairs).median())
    return min(_LARGEST, 1 / max(square, 1 / _LARGEST))


def _drawn(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:most].sort().values]
