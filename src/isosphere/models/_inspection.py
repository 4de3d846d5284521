"""A look at a network that leaves no trace in it, nor in the process."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from isosphere.devices import generators_kept


@contextmanager
def evaluation_mode(module: nn.Module | None, *, device: torch.device | None = None) -> Iterator[None]:
    """Within the block: evaluation mode, no gradients, compiled networks as they were written.

    Afterwards, also after an error, every submodule has its own former mode, and torch's generators, of the CPU and
    of the devices that hold the module, are where they were: a look never changes a training. A look in another
    mode is not worth a compilation.

    Args:
        module: None for a function without modules: gradients and generators are taken care of.
        device: a further device whose generator is kept, of which the module's own parameters do not tell.
    """
    modules = [] if module is None else list(module.modules())
    modes = [(part, part.training) for part in modules]
    held = {p.device for p in ([] if module is None else module.parameters())}
    if device is not None:
        held.add(device)
    try:
        if module is not None:
            module.eval()
        with generators_kept(*held), torch.no_grad(), _uncompiled(modules):
            yield
    finally:
        for part, training in modes:
            part.training = training


def _uncompiled(modules: list[nn.Module]) -> AbstractContextManager[object]:
    """Compiled networks as they were written; where there are none torch's compiler, slow to import, stays away."""
    if all(part._compiled_call_impl is None for part in modules):
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
