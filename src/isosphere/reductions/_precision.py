"""Statistics do not follow the network's precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

_PRODUCTS: list[Any] = [
    backend.matmul
    for backend in (torch.backends.cuda, torch.backends.mkldnn)
    if hasattr(backend, "matmul") and hasattr(backend.matmul, "fp32_precision")
]
"""Whose settings say how float32 matrices are multiplied, from torch 2.9 on: its older setting cannot be read where one
of them was set.
"""
_precision_of = attrgetter("fp32_precision")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast off, and float32 matrix products to full float32 (no TF32, no bf16), inside the block.

    A compiler sees the first alone: the products of the statistics are inside operators, which run eagerly.
    """
    if torch.compiler.is_compiling():
        with torch.autocast(device.type, enabled=False):
            yield
        return
    older = None if _PRODUCTS else torch.get_float32_matmul_precision()
    before = list(map(_precision_of, _PRODUCTS))
    settled = older == "highest" if older is not None else before == ["ieee"] * len(before)
    # Of a device without autocast torch refuses to say whether it is on.
    there = torch.amp.is_autocast_available(device.type)
    if settled and not (there and torch.is_autocast_enabled(device.type)):
        yield  # within another such block, for the most part
        return
    if older is not None:
        torch.set_float32_matmul_precision("highest")
    for product in _PRODUCTS:
        product.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for product, precision in zip(_PRODUCTS, before, strict=True):
            product.fp32_precision = precision
        if older is not None:
            torch.set_float32_matmul_precision(older)


@contextmanager
def outside_transforms() -> Iterator[None]:
    """Make tensors that are kept: plain ones within ``torch.func`` and inference mode too, random ones included."""
    with torch.inference_mode(False), temporarily_clear_interpreter_stack(), torch.no_grad():
        yield


WITHOUT_FLOAT64 = {"mps"}
"""Apple's GPUs have no such type."""


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64."""
    return device.type not in WITHOUT_FLOAT64


def in_float64(x: Tensor) -> Tensor:
    """The same in float64, where it is or, if that has no float64, on the CPU: for what is looked at."""
    return x.double() if has_float64(x.device) else x.cpu().double()


def wide(x: Tensor) -> Tensor:
    """The same in float32 at least: for statistics of what networks put out."""
    return x if x.dtype == torch.float64 else x.float()


def widest(x: Tensor) -> Tensor:
    """The same in float64 if its device has it, else in float32: for what every step needs of a row or less."""
    return x.double() if has_float64(x.device) else x.float()


def double_on_cpu(x: Tensor) -> Tensor:
    """The same in float64 on a CPU, elsewhere as :func:`wide`: for what every step needs of all pairs, since few GPUs
    are fast in float64.
    """
    return x.double() if x.device.type == "cpu" else wide(x)
