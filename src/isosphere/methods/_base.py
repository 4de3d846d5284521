"""What every method is: from the views of a batch of images to a loss."""

__all__ = [
    "SLOW_START",
    "Loss",
    "Method",
    "Regularised",
    "batch_features",
    "buffers_kept",
    "by_size",
    "embed_views",
    "invariance",
    "invariance_slope",
    "spread_test",
]

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from isosphere.discrepancies import MMD, Discrepancy
from isosphere.kernels import VonMisesFisherKernel
from isosphere.methods._momentum import Momentum
from isosphere.methods._pairs import check_views, row_total
from isosphere.methods._regulariser import Pull, Regulariser
from isosphere.reductions import Group, full_precision, wide
from isosphere.sphere import normalize
from isosphere.statistics import within_share

SLOW_START = 1000
"""Steps that a predictor needs: with 230 of them BYOL, SimSiam and VJE are level with an untrained encoder by k-NN
(docs/compared.md).
"""


@dataclass(frozen=True)
class Loss:
    """``total`` is what is differentiated; ``parts`` are its named, detached terms (unweighted).

    Example:
        >>> Loss(torch.tensor(1.5), {"invariance": torch.tensor(1.0)}).total.item()
        1.5
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """Encoder, head and loss: ``forward(views) -> Loss``.

    ``views`` is a list of tensors ``(n, channels, size, size)``, the global ones first. A loop calls
    ``prepare(n=..., views=...)`` once before its first step, with the size of its batches, and ``after_step(progress)``
    after each step; nothing else is asked of it. A forward pass changes no state but that of batch norm.

    When a process group is initialised the loss is that of the concatenated batch of all ranks of :attr:`group`,
    and after DistributedDataParallel's averaging the parameter gradient is that of one process on all of it.

    A forward pass has two halves: :meth:`outputs`, what the networks make of every image, and :meth:`loss`, of all of
    them together. The first may be had in pieces of the batch, the second needs the whole.

    Args:
        encoder, head: modules ``(n, c, h, w) -> (n, p) -> (n, d)``.
        global_views: how many of the views, the first ones, are global, at least 1.

    Attributes:
        space: where its embeddings live: unit rows (``"sphere"``) or plain vectors (``"euclidean"``).
        earlier: options that runs of earlier versions, which do not name them, were trained with.
        in_words: what it does, in a few words; empty: the summary of its name.
        spread_form: name of the form of it that spreads embeddings, or of another method that does.

    Example:
        >>> class Barycentre(Method):  # a subclass says what the loss of all outputs is
        ...     space = "sphere"
        ...
        ...     def loss(self, z):
        ...         return Loss((z - z.mean(0)).square().sum(-1).mean() + z.mean((0, 1)).square().sum())
        >>> method = Barycentre(torch.nn.Linear(12, 10), torch.nn.Linear(10, 8))
        >>> method([torch.randn(16, 12), torch.randn(16, 12)]).total.requires_grad
        True
    """

    space: Literal["sphere", "euclidean"] = "euclidean"
    in_words: str = ""
    spread_form: str = "kl-vmf"
    earlier: ClassVar[Mapping[str, Any]] = {}
    _group: Group = None

    def __init__(self, encoder: nn.Module, head: nn.Module, global_views: int = 2):
        super().__init__()
        if global_views < 1:
            raise ValueError(f"got global_views={global_views}, expected at least 1")
        self.encoder = encoder
        self.head = head
        self.global_views = global_views

    @property
    def group(self) -> Group:
        """Ranks whose rows make the batch: None for the default group, a group, or False for this rank alone."""
        return self._group

    @group.setter
    def group(self, group: Group) -> None:
        self._group = group
        for part in self.modules():
            if isinstance(part, Discrepancy):
                part.group = group

    def forward(self, views: list[Tensor]) -> Loss:
        return self.loss(*self.outputs(views))

    def outputs(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """What the networks make of every image by itself: tensors ``(views, n, *)``, the rows in dimension 1.

        Images meet here in batch norm alone: without it (or with its statistics frozen) the outputs of a batch are
        those of its pieces, one after the other.
        """
        raw = self._raw(views)
        with full_precision(raw.device):
            return (self._place(raw),)

    @abstractmethod
    def loss(self, *outputs: Any, **_: Any) -> Loss:
        """The loss of the outputs of a whole batch, an argument each; it depends on parameters through them alone."""

    @property
    def indivisible(self) -> str | None:
        """Why a batch cannot be taken in pieces (:class:`~isosphere.training.Differentiator`), in words; else None."""
        return None if type(self).forward is Method.forward else "its forward pass is not made of two halves"

    def prepare(self, *, n: int, views: int, batch: list[Tensor] | None = None) -> Self:
        """Find the weights that a rule finds, for batches of ``n`` rows over all ranks in so many views.

        Call once before the first step; before a state dict is loaded, whose weights are then taken. A weight that was
        given, or has been found for the same numbers, stays. Returns the method.

        Args:
            n: rows of a batch over all ranks.
            views: of an image.
            batch: the views of this rank's part of the first batch, for the rule that looks at one (that of
                :class:`~isosphere.methods.NetworkEnergy`); nothing but the weight is changed by it.

        Raises:
            ValueError: the rule cannot tell; numbers of rows or views that no batch has.
        """
        for name, value, least in (("n", n, 1), ("views", views, 2)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"got {name}={value!r}, expected a whole number, at least {least}")
        return self

    def after_step(self, progress: float) -> None:
        """Move teachers and random directions; ``progress`` runs from 0 to 1 over the training."""

    def of_teacher(self) -> Self:
        """The same method with the networks of its teacher, the slow copies, in the place of the student's.

        Raises:
            ValueError: it has none.
        """
        teacher = getattr(self, "teacher", None)
        if not isinstance(teacher, Momentum):
            raise ValueError(f"got a {type(self).__name__} without a teacher, expected one with a slow copy")
        twin = copy.copy(self)
        twin._modules = dict(self._modules)  # the student keeps its own
        twin.encoder, twin.head = teacher.module.children()
        return twin

    @torch.no_grad()
    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone features ``(n, p)`` and head outputs ``(n, d)`` of one view, in float32; unit rows on the sphere."""
        features = self.encoder(x)
        return features.float(), self._place(self.head(features))

    def _place(self, z: Tensor) -> Tensor:
        """Put head outputs where the loss lives, in float32 or wider: unit rows on the sphere."""
        return normalize(wide(z)) if self.space == "sphere" else wide(z)

    def _network(self, x: Tensor) -> Tensor:
        """What a loss takes of views of one size, as the networks put it out: ``(n, *)``."""
        return self.head(self.encoder(x))

    def _raw(self, views: list[Tensor]) -> Tensor:
        """The same of all views, ``(views, n, *)``. Raises: ValueError for too few views."""
        check_views(views, self.global_views)
        return torch.stack(embed_views(self._network, views))

    def _within(self, views: list[Tensor]) -> Tensor | None:
        """Within-image shares of variance of the backbone's features; None from too few views or images to tell."""
        if self.global_views < 2 or len(views) < 2 or len(views[0]) < 10:
            return None
        return within_share(batch_features(self.encoder, views[: self.global_views]))

    def describe(self, views: list[Tensor] | None = None) -> dict[str, str]:
        """Facts worth knowing before training, in plain words; some need one batch of views. Changes nothing."""
        return {}

    def expansion_ratio(self, n: int, views: int) -> float | None:
        """The expansion ratio r* for batches of ``n`` rows over all ranks and so many views; None without a slope."""
        return None

    def signal_share(self, views: list[Tensor]) -> float | None:
        """Share of the signal in the gradient of what spreads the embeddings of these views, 1 without random
        directions; None of a method without such a discrepancy. Changes nothing.
        """
        return None

    @property
    def chosen(self) -> dict[str, Any]:
        """Options that it chose where they were left open, to be kept with a run: a later version may choose others."""
        return {}

    @property
    def spread_setting(self) -> tuple[str, float] | None:
        """The setting that spreads embeddings more where it is larger, as ``--set`` takes it, and its value, if any."""
        weight = getattr(self, "weight", None)
        return None if weight is None else ("method.weight", float(weight))

    @property
    def least_steps(self) -> int:
        """Steps before which the method has hardly begun: something of it must be learned first; 0: from the start."""
        return 0

    def _former_names(self) -> dict[str, str]:
        """Names in the state dict of earlier versions, with those of now; a module's stands for all within it."""
        return {}

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for old, new in self._former_names().items():
            for key in [k for k in state_dict if f"{k}.".startswith(f"{prefix}{old}.")]:
                state_dict[f"{prefix}{new}{key.removeprefix(prefix + old)}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Regularised(Method):
    """A method that may hold a regulariser, or several: what it weighs against is :meth:`_pull`."""

    regulariser: Regulariser | None

    @property
    def discrepancy(self) -> Discrepancy | None:
        """That of the regulariser, if there is one."""
        return None if self.regulariser is None else self.regulariser.discrepancy

    @property
    def weight(self) -> Tensor | None:
        """The weight of the regulariser, if there is one; nan before ``prepare``."""
        return None if self.regulariser is None else self.regulariser.weight

    @abstractmethod
    def _pull(self, n: int, views: int) -> Pull:
        """What a regulariser weighs against here."""

    def prepare(self, *, n: int, views: int, batch: list[Tensor] | None = None) -> Self:
        super().prepare(n=n, views=views, batch=batch)
        for part in self.modules():
            if isinstance(part, Regulariser):
                part.prepare(self._pull(n, views))
        return self

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        if self.regulariser is not None:
            self.regulariser.after_step()

    def _regularised(self, loss: Loss, z: Tensor, rows: Tensor | None = None) -> Loss:
        """The loss with the regulariser of embeddings ``(views, n, d)``, where there is one; ``rows`` are the same in
        the discrepancy's space, where they are known.
        """
        if self.regulariser is None:
            return loss
        rows = self.regulariser.to_space(z) if rows is None else rows
        pull = self._pull(row_total(z, self.group), len(z))
        total, value = self.regulariser(loss.total, rows, pull)
        return Loss(total, {**loss.parts, "regulariser": value.detach()})

    def _regulariser_facts(self) -> dict[str, str]:
        if self.regulariser is None:
            return {}
        return {"discrepancy": self.regulariser.name, "weight": self.regulariser.describe()}

    def _former_names(self) -> dict[str, str]:
        held = () if self.regulariser is None else ("discrepancy", "weight")
        return {name: f"regulariser.{name}" for name in held}


def spread_test(method: nn.Module, dim: int) -> Discrepancy:
    """What tells whether the method's embeddings of ``dim`` dimensions are spread: its own discrepancy, if that is of
    them; a copy on the CPU, for this rank alone.

    Else the potential of Wang and Isola's uniformity (t = 2), as the U-statistic of an MMD: the same ranking and, to
    first order, the same z-score as its logarithm's, with exact null moments.
    """
    own = getattr(method, "discrepancy", None)
    if isinstance(own, Discrepancy) and own.takes(dim):
        return own.alone(dim).eval()
    return MMD(VonMisesFisherKernel(dim, concentration=4.0), "u", group=False)


def by_size(views: list[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbouring views of one size, to go through a network together."""
    return (list(same) for _, same in groupby(views, key=lambda view: view.shape[1:]))


def embed_views(network: Callable[[Tensor], Tensor], views: list[Tensor]) -> list[Tensor]:
    """Apply ``network`` to all views, those of one size in one forward (pooled batch-norm statistics)."""
    outputs: list[Tensor] = []
    for same in by_size(views):
        outputs += network(torch.cat(same)).chunk(len(same)) if len(same) > 1 else [network(same[0])]
    return outputs


@torch.no_grad()
def batch_features(encoder: nn.Module, views: list[Tensor]) -> Tensor:
    """Backbone features ``(views, n, p)`` with the batch's own statistics; batch-norm averages are put back.

    Of a large batch the first 1,024 rows: what needs micro-batches in training would not fit here at once.
    """
    with buffers_kept(encoder):
        return torch.stack([f.float() for f in embed_views(encoder, [view[:1024] for view in views])])


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Put the buffers back afterwards: a look at a batch moves no average of batch norm."""
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)


def invariance(z: Tensor, centre: Tensor) -> Tensor:
    """Mean over views and rows of the squared distance ``|mu_i - z_vi|^2``, summed over dimensions.

    Shape:
        ``z`` ``(views, n, d)``, ``centre`` ``(n, d)`` to a scalar.
    """
    return (z - centre).square().sum(-1).mean()


def invariance_slope(global_views: int, local_views: int, *, teacher: bool = False) -> float:
    r"""The ``a`` of the expansion ratio: what the invariance takes of the variance within images, near collapse.

    With the mean of the :math:`V_g` global views as centre, :math:`a = (V_g - 1 + V_l (1 + 1/V_g))/V`, which is
    also the whole term for unit views that have nothing to do with one another; with an EMA teacher's centre
    ``(V - 1)/V``.
    """
    views = global_views + local_views
    if teacher:
        return (views - 1) / views
    return (global_views - 1 + local_views * (1 + 1 / global_views)) / views
