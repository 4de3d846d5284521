"""What every discrepancy is: a calibrated distance between a sample and the uniform law."""

__all__ = ["Discrepancy"]

import copy
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from isosphere.discrepancies._null import NullMoments, sample_skewness, upper_tail
from isosphere.discrepancies._operator import Registered, as_operator
from isosphere.reductions import Group, full_precision, in_float64, outside_transforms, row_counts
from isosphere.sphere import sample_uniform


class Discrepancy(Registered, ABC):
    r"""Distance of a sample from uniformity, one value per view.

    When a process group is initialised the sample is the concatenation of all ranks' rows; every rank returns the same
    value, and after DistributedDataParallel's averaging the parameter gradient is that of one process on the whole
    sample. Statistics run in float32 or wider, autocast off. A call changes nothing.

    A subclass gives ``_statistic``, which is fused and knows of ranks, and ``reference``, which is the formula. On the
    sphere the two are equal where z are unit rows, and their derivatives where z is ``normalize(x)``, with respect to
    x: off the sphere (a zero row too) a formula by distances and one by cosines differ. That holds of derivatives of
    any order, forward and backward, under ``torch.func`` (``grad``, ``vmap``, ``jvp``) as under plain autograd; under
    ``torch.compile`` each is one operator of the graph, without second derivatives.

    Args:
        dim: ambient dimension. None where the statistic has no kernel: then a sample may have any, and null and slope,
            which depend on it, are those of :meth:`alone` with a dimension.
        group: None, the default process group if there is one; another group; False, this rank alone.

    Attributes:
        space: what z should be: unit rows (``"sphere"``) or plain vectors (``"euclidean"``).
        self_pairs: whether a row is compared with itself: then the slope of a batch of n is ``slope * (1 - 1/n)``.
        rotation_invariant: whether turned rows have the same value, in the mean over directions where there are any.
        random: whether the value rests on directions that ``after_step`` moves.

    Shape:
        ``(*views, n, d)`` to ``(*views,)``.
    Raises:
        ValueError: z of another shape.
    """

    space: Literal["sphere", "euclidean"] = "sphere"
    self_pairs: bool = True
    random: bool = False
    rotation_invariant: bool = True

    def __init__(self, dim: int | None, *, group: Group = None):
        super().__init__()
        if dim is not None and dim < 2:
            raise ValueError(f"got dim={dim}, expected the ambient dimension of the sphere, at least 2")
        self._dim = dim
        self.group: Group = group
        self._simulated: dict[tuple[int, int], Tensor] = {}

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim < 2 or (z.shape[-1] != self._dim and not self.takes(z.shape[-1])):
            one_row = z.ndim == 1 and self.takes(len(z))
            otherwise = f"build the discrepancy with dim={z.shape[-1] if z.ndim else '?'} or transpose z"
            raise ValueError(
                f"got z of shape {tuple(z.shape)}, expected (*views, n, {self._dim or 'd'}): "
                + ("one row is z[None]" if one_row else otherwise)
            )
        z = z if z.dtype == torch.float64 else z.float()  # as `wide`, without a call: this is the hot path
        if torch.compiler.is_compiling():
            return as_operator(self, z)
        with full_precision(z.device):
            return self._statistic(z)

    @abstractmethod
    def _statistic(self, z: Tensor) -> Tensor:
        """The statistic of ``z`` ``(*views, n, d)``, float32 or float64, of all ranks' rows."""

    def reference(self, z: Tensor) -> Tensor:
        """The formula in plain PyTorch, of rows on one rank: what :meth:`forward` computes, to read and to test by."""
        raise NotImplementedError(
            f"{type(self).__name__} has no formula in plain PyTorch: give it a reference(z)"
        )

    def count(self, z: Tensor) -> int:
        """Number of rows over all ranks of the group."""
        return sum(row_counts(z.shape[-2], z.device, self.group))

    def null(self, n: int) -> NullMoments:
        """Mean and standard deviation for ``n`` points of the target law: here by seeded Monte Carlo, cached."""
        values = self._simulation(n)
        std = values.std().item()
        return NullMoments(values.mean().item(), std, std / len(values) ** 0.5)

    def skewness(self, n: int) -> float:
        """Skewness for ``n`` points of the target law; here of the simulation, 0 where that cannot tell."""
        return sample_skewness(self._simulation(n))

    @property
    def dim(self) -> int:
        """The dimension it was built for.

        Raises:
            ValueError: it was built for any.
        """
        if self._dim is None:
            raise ValueError(
                f"{type(self).__name__} was built for any dimension, and this depends on it: give dim=..."
            )
        return self._dim

    def takes(self, dim: int) -> bool:
        """Whether a sample may have this dimension."""
        return dim >= 2 if self._dim is None else dim == self._dim

    def _check_null(self, n: int) -> None:
        if n < 2:
            raise ValueError(f"got n={n}, expected at least 2 points")

    def _sample_target(self, n: int, generator: torch.Generator) -> Tensor:
        if self.space == "euclidean":
            return torch.randn(n, self.dim, generator=generator)
        return sample_uniform(n, self.dim, generator=generator)

    @outside_transforms()
    def _simulation(self, n: int) -> Tensor:
        """Values for seeded samples of the target law, 64 to 512 of them by their size; kept."""
        self._check_null(n)
        if (n, self.dim) not in self._simulated:
            draws = max(64, min(512, (1 << 15) // n))
            generator = torch.Generator().manual_seed(n)
            alone = self.alone()
            values = torch.empty(draws, dtype=torch.float64)
            for i in range(draws):
                values[i] = alone(self._sample_target(n, generator)).double()
                alone.after_step()
            self._simulated[n, self.dim] = values
        return self._simulated[n, self.dim]

    def alone(self, dim: int | None = None) -> "Discrepancy":
        """A copy on the CPU, for this rank alone, whose directions may be moved without moving this one's.

        Args:
            dim: of the copy, where this one was built for any.
        """
        twin = copy.deepcopy(self, {id(self.group): self.group}).cpu()  # a process group cannot be copied
        twin.group = False
        return (twin if dim is None else twin._for(dim)).train()

    def _for(self, dim: int) -> "Discrepancy":
        """This one, or where it was built for any dimension the same for ``dim``; what was simulated is shared."""
        if self._dim is not None or dim < 2:
            return self
        twin = copy.copy(self)
        twin._dim = dim
        return twin

    def zscore(self, z: Tensor) -> Tensor:
        """Standard deviations above the uniform law, ``(D - mean_n)/std_n``; shape ``(*views,)``."""
        null = self._for(z.shape[-1]).null(self.count(z))
        return (self(z) - null.mean) / null.std

    def pvalue(self, z: Tensor) -> Tensor:
        r"""Probability that uniform points would give as much or more, one-sided; shape ``(*views,)``, float64.

        By the gamma law of the null's mean, standard deviation and skewness
        (:func:`~isosphere.discrepancies._null.upper_tail`): the normal tail of a z-score is wrong by orders of
        magnitude in low dimension. As exact as the moments are (simulated ones: a rough guide below 0.01).

        Raises:
            ValueError: the null has no variance (Riesz energies with 2 s >= d - 1).
        """
        n, known = self.count(z), self._for(z.shape[-1])
        null = known.null(n)
        if not 0 < null.std < float("inf"):
            raise ValueError(
                f"got n={n}, for which {type(self).__name__} has a standard deviation of {null.std} under the uniform "
                "law, expected a finite one: take a smaller power, or a larger dimension"
            )
        return upper_tail((in_float64(self(z)) - null.mean) / null.std, known.skewness(n))

    @abstractmethod
    def slope(self, n: int) -> float:
        """Slope at collapse, -dD/d(1 - c) where all pairs have cosine c -> 1, for n points; inf where unbounded."""

    def after_step(self) -> None:
        """Move what moves between steps (random directions); nothing here."""
