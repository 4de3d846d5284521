"""``precision: auto``: a step in each precision that the machine has, timed on it; the faster one is taken."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from isosphere.devices import generators_kept, synchronize
from isosphere.methods import Method
from isosphere.models import memory_format
from isosphere.training._distributed import common
from isosphere.training._hardware import Precision, bf16_is_fast

if TYPE_CHECKING:
    from lightning.fabric import Fabric


CLEARLY = 1.2
"""So many times as fast bfloat16 must be to be taken: what is nearly level would be chosen by the noise of a clock."""

SECONDS, MOST_ROWS, REPEATED = 0.2, 16, 3
"""On a CPU: of one timed step, images in it at the most, and steps of which the fastest counts; one where two images
take longer.
"""


def measure_precision(method: Method, views: list[Tensor], fabric: "Fabric") -> tuple[Precision, str]:
    """The precision in which the networks' passes forward and backward are faster, and what was measured, in words.

    Float32 where bfloat16 has no hardware, and where it is not clearly faster. Matrix products gain from it, depthwise
    convolutions on a CPU lose. All ranks take the first one's choice. The method is left as it was, the generators of
    random numbers too.

    Args:
        views: of this rank's part of a batch; on a CPU of some of its images.
    """
    if not bf16_is_fast(fabric.device):
        return "float32", ""
    try:
        repeated = REPEATED
        if fabric.device.type == "cpu":
            trial = common(fabric, time_step(method, [view[:2] for view in views], None))
            views = brief(views, trial)
            repeated = REPEATED if trial <= SECONDS else 1
        taken: dict[torch.dtype | None, float] = {}
        for kind in (None, torch.bfloat16)[repeated == 1 :]:  # a long trial has warmed float32
            time_step(method, views, kind)
        for _ in range(repeated):  # in turns, so that whatever else the machine does is borne by both
            for kind in (None, torch.bfloat16):
                taken[kind] = min(taken.get(kind, float("inf")), time_step(method, views, kind))
    except torch.OutOfMemoryError:  # the batch does not fit; whoever looks at it next says so
        return "bf16", ""
    ratio = common(fabric, taken[None] / taken[torch.bfloat16])
    said = f"; measured here: bfloat16 is {ratio:.2g} times as fast as float32"
    return ("bf16" if ratio >= CLEARLY else "float32"), said


def brief(views: list[Tensor], trial: float) -> list[Tensor]:
    """As many of the images as take `SECONDS`, where two of them have taken `trial` seconds."""
    rows = min(MOST_ROWS, max(2, int(2 * SECONDS / max(trial, 1e-6))))
    return [view[:rows] for view in views]


def time_step(method: Method, views: list[Tensor], kind: torch.dtype | None) -> float:
    """Seconds of one pass forward and backward through the networks, under autocast to `kind`; leaves no trace."""
    buffers = [(buffer, buffer.clone()) for buffer in method.buffers()]
    views = [view.contiguous(memory_format=memory_format(view.device)) for view in views]
    device, learning = views[0].device, [p for p in method.parameters() if p.requires_grad]
    with generators_kept(device), torch.enable_grad():
        begun = _now(device)
        with _autocast(device, kind):
            outputs = method.outputs(views)
        total = torch.stack([out.float().square().mean() for out in outputs if out.requires_grad]).sum()
        torch.autograd.grad(total, learning, allow_unused=True)
        seconds = _now(device) - begun
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    return seconds


def _autocast(device: torch.device, kind: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()
