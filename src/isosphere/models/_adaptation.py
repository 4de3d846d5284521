"""Frozen features adapted to the images at hand: centred, and compared in the metric of their views."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isosphere.reductions import full_precision, in_float64
from isosphere.statistics import within_covariance, within_root

_TENSORS = ("mean", "basis")
_SHRINKAGE, _STRENGTH, _CENTRING = 0.85, 0.15, 0.5
"""Fixed on textures, objects, galaxies and CIFAR-10 together: ``experiments/pretrained``. No criterion without labels
that was tried chooses as well for a set.
"""
_PRIOR = 100
"""Images' worth of belief that they differ as much in every direction. Without it a few images hide what they do not
show: k-NN falls by 25 points after 8 images, by 6 after 32.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    r"""A transformation of a network's features, fitted by :func:`fit_adaptation`: unit rows, to be compared by cosine.

    With :math:`\hat x = x / |x|`, mean m, centring c and metric M:

    .. math:: x \mapsto z / |z|, \qquad z = (\hat x - c\, m) M

    Shape: ``mean`` (p,), ``basis`` (p, p), the metric; called with ``(m, p)``, or with several passes of the same
    images ``(passes, m, p)``, whose unit rows are averaged and made unit again; ``(m, p)`` out, float32, of the kind
    that came in (torch, numpy). A row whose z is 0 stays 0.
    """

    mean: Tensor
    basis: Tensor
    centring: float
    shrinkage: float
    strength: float
    views: int
    images: int

    @property
    def dim(self) -> int:
        """Numbers of a feature that goes in."""
        return len(self.mean)

    @property
    def state(self) -> dict[str, Tensor]:
        """Tensors by name, as a safetensors file holds them."""
        numbers = {
            f.name: torch.tensor(getattr(self, f.name)) for f in fields(self) if f.name not in _TENSORS
        }
        return {name: getattr(self, name) for name in _TENSORS} | numbers

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Adaptation":
        """That of :attr:`state`. Raises: ValueError for tensors that are not one's."""
        names = [f.name for f in fields(cls)]
        mean, basis = (state.get(name, torch.empty(0)) for name in _TENSORS)
        numbers: dict[str, Any] = {
            name: state[name] for name in names if name in state and name not in _TENSORS
        }
        sound = mean.ndim == 1 and len(mean) > 0 and basis.shape == (len(mean), len(mean))
        whole = len(numbers) == len(names) - len(_TENSORS) and all(x.numel() == 1 for x in numbers.values())
        if not (sound and whole and all(torch.isfinite(x).all() for x in (mean, basis, *numbers.values()))):
            raise ValueError(f"state: got tensors {sorted(state)}, expected those of an adaptation: {names}")
        return cls(mean=mean.float(), basis=basis.float(), **{k: x.item() for k, x in numbers.items()})

    def __call__(self, features: Tensor | NDArray[Any]) -> Any:
        """Unit rows. Raises: ValueError for another shape, or non-finite numbers."""
        x = torch.as_tensor(features)
        if x.ndim not in (2, 3) or x.shape[-1] != self.dim:
            raise ValueError(
                f"features: got shape {tuple(x.shape)}, expected (images, {self.dim}) or (passes, images, {self.dim})"
            )
        if not torch.isfinite(x).all():
            raise ValueError("features: got non-finite numbers, expected finite ones")
        out = self.applied(x)
        return out if isinstance(features, Tensor) else out.numpy()

    def applied(self, features: Tensor) -> Tensor:
        """The same without a look at the numbers, for a network that is traced or compiled."""
        unit = functional.normalize(features.float(), dim=-1)
        unit = functional.normalize(unit.mean(0), dim=-1) if unit.ndim == 3 else unit
        mean, basis = self.mean.to(unit.device), self.basis.to(unit.device)
        with full_precision(unit.device):
            return functional.normalize((unit - self.centring * mean) @ basis, dim=-1)

    def describe(self) -> str:
        """One sentence: what is done to features, and what that rests on."""
        return (
            f"unit features less {self.centring:g} of their mean, after within-class covariance normalisation "
            f"(shrinkage {self.shrinkage:g}), each direction weighted by its ratio of variance between images to that "
            f"between views to the power {self.strength:g}; from {self.views} views of {self.images} images, "
            f"without labels{self._settled()}"
        )

    def _settled(self) -> str:
        own = (self.shrinkage, self.strength, self.centring)
        usual = own == (_SHRINKAGE, _STRENGTH, _CENTRING)
        return ", by settings that were fixed on four other sets" if usual else ""


def _number(value: float) -> torch.dtype:
    return torch.int64 if isinstance(value, int) else torch.float64


def fit_adaptation(
    views: NDArray[Any] | Tensor,
    *,
    shrinkage: float = _SHRINKAGE,
    strength: float = _STRENGTH,
    centring: float = _CENTRING,
) -> Adaptation:
    r"""Adapt a frozen network's features to these images, from embeddings of some views of each. No label is needed:
    what views change in an image is what a neighbour should overlook, what sets many images apart is what it should
    look at.

    .. math:: M = W_s^{-1/2} \sum_j \lambda_j^{a}\, u_j u_j^\top, \qquad
              W_s^{-1/2} B\, W_s^{-1/2} u_j = \lambda_j u_j

    with W the covariance of an image's views, shrunk by s (:func:`isosphere.statistics.within_root`), and B that of the
    images, so that :math:`\lambda_j` is the ratio that linear discriminant analysis looks at, each image a class of its
    own; of n images it counts as :math:`(n \lambda_j + 100 \bar\lambda) / (n + 100)`.

    Args:
        views: ``(V, n, p)``: embeddings of at least two views of at least two images, by any model; best of some
            hundreds of images or more.
        shrinkage: s in (0, 1]; 1 leaves the features' own directions.
        strength: a, at least 0; 0 is within-class covariance normalisation alone.
        centring: c, the share of the mean that is subtracted (SimpleShot: 1).

    Raises: ValueError in one sentence for what cannot be fitted.

    Numerics: float64, on the CPU where the device has none; two eigen-decompositions of size p. Depends on the order of
    the images and of the views only in rounding.

    *References*: Hatch, Kajarekar and Stolcke, 2006 (WCCN); Wang et al., 1911.04623 (SimpleShot: centring). Figures:
    ``experiments/pretrained``.
    """
    for name, value, high in (
        ("shrinkage", shrinkage, 1),
        ("strength", strength, float("inf")),
        ("centring", centring, 1),
    ):
        if not 0 <= value <= high or (name == "shrinkage" and value == 0):
            raise ValueError(f"{name}: got {value}, expected a number from 0 to {high}")
    x = _unit(views)
    mean = x.mean((0, 1))
    with full_precision(x.device):
        root = within_root(x, shrinkage)
        basis = root @ _between(x @ root, strength)
    where = views.device if isinstance(views, Tensor) else None
    return Adaptation(
        mean=mean.float().to(where),
        basis=basis.float().to(where),
        centring=float(centring),
        shrinkage=float(shrinkage),
        strength=float(strength),
        views=x.shape[0],
        images=x.shape[1],
    )


def _unit(views: NDArray[Any] | Tensor) -> Tensor:
    """Unit rows in float64. Raises: ValueError for what is no views of images."""
    x = in_float64(torch.as_tensor(views).detach())
    if x.ndim != 3 or x.shape[0] < 2 or x.shape[1] < 2 or x.shape[2] < 1:
        raise ValueError(
            f"views: got shape {tuple(x.shape)}, expected (views, images, features), at least 2 views of 2 images"
        )
    if not torch.isfinite(x).all():
        raise ValueError("views: got non-finite numbers, expected finite ones")
    if not (length := x.norm(dim=2, keepdim=True)).all():
        view, image = (length == 0).nonzero()[0, :2].tolist()
        raise ValueError(
            f"views: got a feature of zeros (view {view}, image {image}), which has no direction"
        )
    return x / length


def _between(seen: Tensor, strength: float) -> Tensor:
    """Each principal direction of the images by its variance between them, to a power: ``(p, p)``."""
    means = seen.mean(0) - seen.mean((0, 1))
    # The covariance of means holds that of views over their number.
    between = means.T @ means / (len(means) - 1) - within_covariance(seen) / len(seen)
    variance, directions = torch.linalg.eigh(between)
    variance = variance.clamp(min=0)
    prior = _PRIOR / (_PRIOR + len(means))
    variance = (1 - prior) * variance + prior * variance.mean()
    return (directions * variance**strength) @ directions.T
