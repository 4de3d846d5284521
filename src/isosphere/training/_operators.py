"""How many operators a step launches, and how often the program waits for its device."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PHASES", "LaunchCounter"]

PHASES = ("views", "forward", "loss", "backward", "optimiser")

_READ = "_local_scalar_dense"
_NOTHING = {
    *{"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"},
    *{"_unsafe_view", "_reshape_alias", "detach", "alias", "lift_fresh", _READ},
}
"""Operators that compute nothing; so do those whose result is a view of what they are given."""
_NUMBERS = {
    *{_READ, "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"},
    *{"_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "bincount", "repeat_interleave"},
}
"""Operators that read a number of the device."""
_MASKED = {"index", "index_put", "index_put_"}
"""Operators that read how many entries a mask has."""
_COPIES = {"_to_copy", "copy_", "index"}


class LaunchCounter(TorchDispatchMode):
    """Within the block: operators on the device by phase, about as many kernels, and those for which the program waits
    until the device has done all that it was given.

    An operator of several kernels, a batch norm for example, counts as one. A CPU is never waited for. What passes no
    dispatcher is not seen: ``torch.tensor(..., device=...)``, ``torch.cuda.synchronize``, a compiled network's kernels.

    Args:
        phase: what the step is doing, one of :data:`PHASES`. device: that of the training.
    """

    def __init__(self, phase: Callable[[], str], device: torch.device) -> None:
        super().__init__()
        self._phase, self._device = phase, device
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name, here = func._schema.name.partition("::")[2], self._device.type
        places = {x.device.type for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)}
        if here not in places:
            return result
        copies = name in _COPIES and len(places) > 1 and not _non_blocking(func, args, kwargs)
        if here != "cpu" and (name in _NUMBERS or copies or _counts_a_mask(name, args)):
            self.waits[self._phase()] += 1
        if not (func.is_view or name in _NOTHING):
            self.launches[self._phase()] += 1
        return result


def _counts_a_mask(name: str, args: Any) -> bool:
    """Whether entries by a mask are counted first; where one number is put into them they are not."""
    masks = name in _MASKED and any(x is not None and x.dtype == torch.bool for x in args[1])
    return masks and (name == "index" or args[2].numel() > 1)


def _non_blocking(func: Any, args: Any, kwargs: Any) -> bool:
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | (kwargs or {})
    return bool(given.get("non_blocking"))
