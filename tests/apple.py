"""A device as Apple's GPUs are, played by the CPU: it has no float64, and mixes with no tensor of the CPU.

It is called ``meta``, since torch looks for the hardware of any other name.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

NAME = "meta"
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Apple(Tensor):
    """A tensor that says that it lies on the device; its numbers lie on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Apple":
        if held.dtype in (torch.float64, torch.complex128):
            raise TypeError("the device has no float64")
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=NAME
        )
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Apple({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class AppleGPU(TorchDispatchMode):
    """Within the block what is made on the device is an :class:`Apple`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, (args, kwargs))
    there = [isinstance(x, Apple) for x in found]
    if (
        func not in _COPIES
        and any(there)
        and any(x.ndim > 0 and not t for x, t in zip(found, there, strict=True))
    ):
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found two")
    wanted = kwargs.get("device")
    on_device = any(there) if wanted is None else torch.device(wanted).type == NAME
    if func is torch.ops.aten.copy_.default:
        on_device = there[0]
    held = {id(x): x.held for x in found if isinstance(x, Apple)}
    args, kwargs = tree_map(lambda x: held.get(id(x), x), (args, kwargs))
    if wanted is not None:
        kwargs["device"] = "cpu"
    made = func(*args, **kwargs)
    if not on_device:
        return made
    back = {id(x.held): x for x in found if isinstance(x, Apple)}  # what was changed in place is itself
    return tree_map_only(Tensor, lambda x: back[id(x)] if id(x) in back else Apple(x), made)
