"""Networks through ``torch.compile``, where there is a compiler."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import nn

from isosphere.models import RankBatchNorm

__all__ = ["compile_networks", "compiler_missing", "eager"]

NETWORKS = ("encoder", "head", "predictor", "teacher")


def compile_networks(method: nn.Module, setting: bool | Literal["auto"], device: torch.device) -> str | None:
    """Compile the networks of a method in place, and say in words what was done; None if nothing was asked for.

    Names and values of the state dict stay. Random numbers (dropout) are those of the uncompiled network. ``"auto"``
    compiles on a CUDA GPU alone: on a CPU it gained 6 % of a step and took most of a minute (docs/scaling.md). Where
    there is no compiler the networks stay as they are. Nothing is compiled before the first step.
    """
    if setting is False or (setting == "auto" and device.type != "cuda"):
        return None
    if (missing := compiler_missing(device)) is not None:
        return f"no: {missing}; the networks run uncompiled"
    for part in method.modules():
        if isinstance(part, RankBatchNorm):  # its sums over ranks stay outside the graph
            part.forward = cast(Any, torch.compiler.disable(part.forward))
    networks = [getattr(method, name, None) for name in NETWORKS]
    found = [network for network in networks if isinstance(network, nn.Module)]
    for network in found:
        network.compile(dynamic=False, options={"fallback_random": True})
    return f"{', '.join(n for n, module in zip(NETWORKS, networks, strict=True) if module in found)}, at the first step"


def compiler_missing(device: torch.device) -> str | None:
    """Why ``torch.compile`` does not work here, found by compiling an addition; None if it does."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except Exception as error:  # whatever the compiler's chain of tools raises
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[0][:120] if lines else type(error).__name__
        return f"torch.compile fails here ({said}); a CPU needs a C++ compiler, a GPU needs triton"
    finally:
        torch.compiler.reset()
    return None


@contextmanager
def eager(module: nn.Module) -> Iterator[None]:
    """Run compiled networks as they were written: a look at a few images in another mode is not worth a compilation."""
    if all(part._compiled_call_impl is None for part in module.modules()):
        yield  # and torch's compiler, slow to import, stays away
        return
    with torch.compiler.set_stance("force_eager"):
        yield
