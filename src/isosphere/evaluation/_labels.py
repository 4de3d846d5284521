"""Features and labels as every judge reads them: where there is float64; integers, -1 for unlabelled."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isosphere.reductions import has_float64


def integer_labels(labels: ArrayLike | Tensor, name: str) -> Tensor:
    """Labels as int64 ``(n,)``. Raises: ValueError for another shape, or numbers that are not integers."""
    tensor = torch.as_tensor(labels)
    if tensor.ndim != 1 or tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(
            f"{name}: got {tensor.dtype} of shape {tuple(tensor.shape)}, expected integers of shape (n,)"
        )
    return tensor.long()


def judged(x: ArrayLike | Tensor) -> Tensor:
    """Features as a tensor without a graph, where float64 is: on the CPU for those of a device that has none."""
    tensor = torch.as_tensor(x).detach()
    return tensor if has_float64(tensor.device) else tensor.cpu()


def finite_rows(x: ArrayLike | Tensor, name: str) -> Tensor:
    """Features as float32 or float64 ``(n, p)``. Raises: ValueError for another shape or non-finite numbers."""
    tensor = judged(x)
    if tensor.ndim != 2 or tensor.is_complex():
        raise ValueError(
            f"{name}: got {tensor.dtype} of shape {tuple(tensor.shape)}, expected (n, p) features"
        )
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    if not all(torch.isfinite(part).all() for part in tensor.split(65536)):
        raise ValueError(
            f"{name}: got non-finite numbers, expected finite ones; drop or repair these rows first"
        )
    return tensor


def labelled_rows(x: Tensor, labels: Tensor, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """The rows whose label is known, with their labels, on the features' device.

    Raises: ValueError if features and labels differ in number.
    """
    if len(x) != len(labels):
        raise ValueError(
            f"{names[0]}, {names[1]}: got {len(x)} rows and {len(labels)} labels, expected as many of each"
        )
    labels = labels.to(x.device)
    known = labels >= 0
    return (x, labels) if bool(known.all()) else (x[known], labels[known])
