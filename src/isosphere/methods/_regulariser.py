"""A discrepancy that weighs against an invariance: its weight by number or by rule, its space, its share of signal."""

__all__ = ["Discrepant", "Place", "Pull", "Regulariser", "named"]

import math
import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from isosphere.discrepancies import Discrepancy, build_discrepancy
from isosphere.methods._weighting import (
    CUTOFF,
    balanced_weight,
    check_expansion,
    expansion_ratio,
    signal_share,
    weight_of_expansion,
)
from isosphere.reductions import wide
from isosphere.sphere import normalize

FAR, SIZES = 1.5, 8
"""Ratio of two weights from which on one is no longer taken for the other without a word, and how many other sizes of a
batch are compared, each of which costs the rule.
"""


Place = Literal["projection", "prediction", "features"]

Discrepant = str | Discrepancy | Callable[[int], Discrepancy]
"""A discrepancy for a method by name: its name or a function of the dimension, which is not known yet, or itself."""


def named(discrepancy: Discrepant, dim: int) -> Discrepancy:
    """The discrepancy for a dimension.

    Raises:
        UsageError: a name that there is not.
        ValueError: one of another dimension.
    """
    if isinstance(discrepancy, str):
        return build_discrepancy(discrepancy, dim)
    test = discrepancy if isinstance(discrepancy, Discrepancy) else discrepancy(dim)
    if not test.takes(dim):
        raise ValueError(
            f"got {type(test).__name__} of dim={test.dim}, expected dim={dim}, that of the rows it is given: give its "
            "name, or a function of the dimension"
        )
    return test


def _level_of_caller() -> int:
    """The ``stacklevel`` at which a warning points at the first frame that is of neither this library nor PyTorch."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("isosphere", "torch"):
        frame, level = frame.f_back, level + 1
    return level


class Pull(NamedTuple):
    """What a regulariser weighs against: the invariance of batches of ``n`` rows over all ranks in so many ``views``.

    ``slope`` is its :func:`~isosphere.methods.invariance_slope`, ``space`` that of the embeddings it compares.
    """

    n: int
    views: int
    slope: float
    space: Literal["sphere", "euclidean"]


class Regulariser(nn.Module):
    r"""Keeps embeddings uniform against an invariance that draws views together.

    .. math:: \mathcal L = (1 - w)\, \mathcal I + w\, \frac1V \sum_v D(z_v)

    A weight that is not given is found by a rule (:mod:`isosphere.methods._weighting`) from the size of the batch, the
    number of views and the discrepancy. :meth:`prepare` finds it, and nothing else does: it does not depend on what
    happens to be looked at first. With one that is given there is nothing to prepare.

    Args:
        discrepancy: D.
        weight: w in (0, 1); None: by ``expansion``, or the balanced weight.
        expansion: the expansion ratio to take the weight from.
        cutoff: of the balanced weight, in (0, 1].
        place: of which embeddings, where a method has several (:class:`~isosphere.methods.BYOL`).

    Shape:
        ``regulariser(invariance, z, pull)`` with ``z`` ``(views, n, d)`` in the discrepancy's space (:meth:`to_space`)
        to total and mean discrepancy, two scalars.
    State:
        ``weight`` (nan until it is found) and ``found_for``: the n and the views that it was found for, 0 for a weight
        that was given. A state dict brings both, whatever was given here.
    Raises:
        RuntimeError: a call without a weight.
        ValueError: numbers that can be no weight, more than one of weight, expansion and cutoff.

    Example:
        >>> from isosphere.discrepancies import MMD
        >>> from isosphere.kernels import HeatKernel
        >>> held = Regulariser(MMD(HeatKernel(8)))
        >>> held.prepare(Pull(n=64, views=2, slope=0.5, space="sphere"))
        >>> bool(0 < held.weight < 1)
        True
    """

    weight: Tensor
    found_for: Tensor

    def __init__(
        self,
        discrepancy: Discrepancy,
        *,
        weight: float | None = None,
        expansion: float | None = None,
        cutoff: float | None = None,
        place: Place = "projection",
    ):
        super().__init__()
        if sum(given is not None for given in (weight, expansion, cutoff)) > 1:
            raise ValueError(
                f"got weight={weight}, expansion={expansion} and cutoff={cutoff}, expected one of them or none"
            )
        if cutoff is not None and not 0 < cutoff <= 1:
            raise ValueError(f"got cutoff={cutoff}, expected a share of variance in (0, 1]")
        if weight is not None and not 0 < weight < 1:
            raise ValueError(f"got weight={weight}, expected a number strictly between 0 and 1")
        if expansion is not None:
            check_expansion(expansion)
        if place not in get_args(Place):
            raise ValueError(f"got place={place!r}, expected one of {', '.join(get_args(Place))}")
        self.discrepancy, self.place = discrepancy, place
        self.expansion, self.cutoff, self.given = expansion, cutoff, weight is not None
        self._has_rule = (
            weight is None
        )  # else a weight that was found comes from a state dict, by whichever rule
        self.register_buffer("weight", torch.tensor(math.nan if weight is None else weight))
        self.register_buffer("found_for", torch.zeros(2, dtype=torch.int64))
        # The same facts where reading them does not wait for a device, and the sizes already compared with them.
        self._ready, self._found_for = self.given, (0, 0)
        self._compared: set[tuple[int, int]] = set()
        self._said = False

    @classmethod
    def of(
        cls, discrepancy: Discrepant | None, dim: int, weight: float | None, place: Place = "projection"
    ) -> "Regulariser | None":
        """From a discrepancy by name and a weight, as methods by name have it; None without a name.

        Raises:
            ValueError: a weight or a place without a discrepancy.
        """
        if discrepancy is not None:
            return cls(named(discrepancy, dim), weight=weight, place=place)
        if weight is not None or place != "projection":
            got = f"weight={weight}" if weight is not None else f"place={place!r}"
            raise ValueError(f"got {got}, expected it with a discrepancy, e.g. regulariser='mmd-heat'")
        return None

    def prepare(self, pull: Pull) -> None:
        """Find the weight for such batches; one that is given, or was found for the same, is kept."""
        if self.given or (self._ready and self._found_for == (pull.n, pull.views)):
            return
        if not pull.slope > 0:
            raise ValueError(
                "there is no invariance that the regulariser could be weighed against: give weight=..."
            )
        self.weight.fill_(self._rule(pull))
        self.found_for.copy_(torch.tensor([pull.n, pull.views]))
        self._note()

    def forward(self, invariance: Tensor, z: Tensor, pull: Pull) -> tuple[Tensor, Tensor]:
        self._check(pull)
        value = self.discrepancy(z).mean()
        return (1 - self.weight) * invariance + self.weight * value, value

    def to_space(self, z: Tensor) -> Tensor:
        """Rows where the discrepancy wants them, in float32 or wider: on the sphere their directions."""
        return normalize(wide(z)) if self.discrepancy.space == "sphere" else wide(z)

    def _rule(self, pull: Pull) -> float:
        if self.expansion is not None:
            return weight_of_expansion(self.discrepancy, self.expansion, pull.n, pull.slope)
        return balanced_weight(self.discrepancy, pull.n, pull.slope, cutoff=self.cutoff, space=pull.space)

    def _check(self, pull: Pull) -> None:
        """Refuse to go on without a weight; say once where this batch would have another one."""
        if not self._ready:
            raise RuntimeError(
                "got no weight of the regulariser, which is found for one size of batch before the first step: call "
                f"method.prepare(n={pull.n}, views={pull.views}) or give weight=..."
            )
        size = pull.n, pull.views
        known = self._found_for in ((0, 0), size) or size in self._compared
        if (
            self._said
            or known
            or not self._has_rule
            or torch.compiler.is_compiling()
            or len(self._compared) == SIZES
        ):
            return
        self._compared.add(size)
        try:
            wanted = self._rule(pull)
        except ValueError:  # too few rows to tell: the discrepancy says so itself
            return
        weight, (n, views) = self.weight.item(), self._found_for
        if max(wanted / weight, weight / wanted) > FAR:
            self._said = True
            warnings.warn(
                f"the weight of the regulariser, {weight:.3g}, was found for {n} rows in {views} views, and this batch "
                f"has {pull.n} in {pull.views}, for which the rule gives {wanted:.3g}: call "
                f"method.prepare(n={pull.n}, views={pull.views}) if such batches are the rule, or give weight=...",
                stacklevel=_level_of_caller(),
            )

    def after_step(self) -> None:
        """Move what moves between steps (random directions)."""
        self.discrepancy.after_step()

    def expansion_ratio(self, pull: Pull) -> float | None:
        """The expansion ratio r* of the weight for such batches, inf without a slope; None without a weight."""
        if not self._ready:
            return None
        return expansion_ratio(self.discrepancy, self.weight.item(), pull.n, pull.slope)

    @property
    def name(self) -> str:
        """The discrepancy with its settings."""
        return f"{type(self.discrepancy).__name__}({self.discrepancy.extra_repr()})"

    def describe(self, *, invariance: bool = False) -> str:
        """The weight and where it comes from, in words; with that of the invariance if asked for. Changes nothing."""
        if not self._ready:
            return f"{self._source()}, found by prepare"
        weight = self.weight.item()
        rest = f", {1 - weight:.4g} of the invariance" if invariance else ""
        return f"{weight:.4g} of the regulariser{rest} ({self._source()})"

    def _source(self) -> str:
        if self.given:
            return "given"
        if self.expansion is not None:
            return "from expansion"
        if not self._has_rule:
            return "found for {} rows in {} views".format(*self._found_for)
        said = f"balanced: directions with under {self.cutoff or CUTOFF:.0%} of their variance within images are used"
        n = self._found_for[0]
        if self.cutoff is None and self.discrepancy.random and n:
            share = signal_share(self.discrepancy, n)
            return f"{said}; {share:.0%} of its gradient is signal, the rest noise of the random slices"
        return said

    def _note(self) -> None:
        n, views = self.found_for.tolist()
        self._ready, self._found_for = not math.isnan(self.weight.item()), (n, views)
        self._compared = set()

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        told = f"{prefix}found_for" in state_dict  # not by earlier versions
        state_dict.setdefault(f"{prefix}found_for", torch.zeros_like(self.found_for))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._note()
        if told:
            self.given = self._ready and self._found_for == (0, 0)
