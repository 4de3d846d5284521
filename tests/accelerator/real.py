"""What the simulated accelerator offers to tests, of a real one: torch itself tells where CUDA would be waited for."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.accelerator.place import D

__all__ = ["no_waiting", "record"]


class _Record(TorchDispatchMode):
    """Operators on the device by name, as they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(isinstance(x, Tensor) and x.device.type == D for x in tree_leaves((args, kwargs))):
            self.operators[func._schema.name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def launches(self) -> int:
        return self.operators.total()


@contextmanager
def record() -> Iterator[_Record]:
    """Note the operators on the device within the block."""
    with _Record() as seen:
        yield seen


@contextmanager
def no_waiting() -> Iterator[None]:
    """RuntimeError where the program would wait for a CUDA device."""
    if D != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
