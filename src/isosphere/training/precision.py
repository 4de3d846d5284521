"""The arithmetic that suits the hardware, and the Fabric that brings it."""

import logging
from datetime import timedelta
from typing import Any, Literal, cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy

from isosphere.errors import RunError, UsageError
from isosphere.training.ranks import launched

__all__ = [
    "Precision",
    "bf16_is_fast",
    "check_scale",
    "choose_precision",
    "make_fabric",
    "memory_format",
    "precision_of",
    "reason",
    "scaler_of",
]

Precision = Literal["bf16", "fp16", "float32"]
Setting = Literal["auto", "bf16", "fp16", "float32"]

_OF_FABRIC: dict[Precision, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", "float32": "32-true"}

SMALLEST_SCALE = 2.0**-10
"""Scale of the loss below which it is not the scale that makes the gradients overflow."""


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 in hardware.

    A CPU needs avx512_bf16 or amx_bf16: without them bfloat16 is emulated and slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _cpu_has_bf16()
    return False


def _cpu_has_bf16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = cast(dict[str, Any], capabilities())
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(probe() for probe in probes if probe is not None)


def choose_precision(setting: Setting, device: torch.device) -> Precision:
    """The precision of the network; views and statistics stay in float32 in any case.

    Raises: UsageError for fp16 anywhere but on a CUDA GPU: Fabric would quietly take bfloat16 on a CPU.
    """
    if setting == "fp16" and device.type != "cuda":
        raise UsageError(
            f"train.precision = fp16 is for CUDA GPUs, and this run is on {device.type}: leave it out, or type --set "
            "train.precision=bf16 or train.precision=float32."
        )
    if setting == "auto":
        return "bf16" if bf16_is_fast(device) else "float32"
    return setting


def memory_format(device: torch.device) -> torch.memory_format:
    """The order of image tensors in memory: channels last where convolutions prefer it (CPU and CUDA)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def reason(precision: Precision, device: torch.device) -> str:
    """The choice in words, for the start of a run."""
    place = {"cpu": "CPU", "cuda": "GPU", "mps": "Apple GPU"}.get(device.type, device.type)
    if precision == "bf16":
        slow = "" if bf16_is_fast(device) else f"; this {place} emulates bfloat16: float32 would be faster"
        return f"bfloat16 autocast with channels-last on the {place}; views and statistics in float32{slow}"
    if precision == "fp16":
        return f"float16 autocast with a scaled loss on the {place}; views and statistics in float32"
    return f"float32 on the {place}"


def precision_of(fabric: Fabric) -> Precision:
    """What a Fabric computes in."""
    found: list[Precision] = [
        name for name, code in _OF_FABRIC.items() if code == fabric._precision.precision
    ]
    return found[0]


def scaler_of(fabric: Fabric) -> torch.amp.GradScaler | None:
    """What scales the loss in float16, where small gradients would be zero; None in other precisions."""
    return getattr(fabric._precision, "scaler", None)


def check_scale(scaler: torch.amp.GradScaler | None, step: int) -> None:
    """Raise RunError if the gradients are not finite however small the scale: then no step is ever taken.

    A step that overflows once in a while is skipped, and the scale halved: that is how the scale is found.
    """
    if scaler is not None and (scale := scaler.get_scale()) < SMALLEST_SCALE:
        raise RunError(
            f"the gradients are not finite in float16 at step {step}, whatever the scale of the loss ({scale:.1g})."
        )


def make_fabric(
    device: Literal["auto", "cpu", "cuda", "mps"], precision: Setting, *, timeout_minutes: float = 10.0
) -> Fabric:
    """A launched Fabric on one device, or on the processes that torchrun, ``--devices`` or srun has started.

    A process that waits `timeout_minutes` for another one gives up.
    """
    for package in (
        "lightning.fabric",
        "lightning.pytorch",
    ):  # they announce the precision; so do we, with the reason
        logging.getLogger(package).setLevel(logging.WARNING)
    open_choice = precision in ("auto", "fp16")
    probe = Fabric(accelerator=device, devices=1, precision="32-true") if open_choice else None
    chosen: Any = choose_precision(precision, probe.device) if probe is not None else precision
    devices, nodes = launched()
    patience = timedelta(minutes=timeout_minutes)
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=patience) if devices * nodes > 1 else "auto",
        precision=_OF_FABRIC[chosen],
    )
    fabric.launch()
    return fabric
