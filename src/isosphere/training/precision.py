"""The arithmetic that suits the hardware, and the Fabric that brings it."""

import logging
from typing import Any, Literal, cast

import torch
from lightning.fabric import Fabric

from isosphere.training.ranks import launched

__all__ = ["bf16_is_fast", "choose_precision", "make_fabric", "memory_format", "reason"]

Precision = Literal["bf16", "float32"]


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


def choose_precision(setting: Literal["auto", "bf16", "float32"], device: torch.device) -> Precision:
    """The precision of the network; views and statistics stay in float32 in any case."""
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
    return f"float32 on the {place}"


def make_fabric(
    device: Literal["auto", "cpu", "cuda", "mps"], precision: Literal["auto", "bf16", "float32"]
) -> Fabric:
    """A launched Fabric on one device, or on the processes that torchrun has started."""
    for package in (
        "lightning.fabric",
        "lightning.pytorch",
    ):  # they announce the precision; so do we, with the reason
        logging.getLogger(package).setLevel(logging.WARNING)
    probe = Fabric(accelerator=device, devices=1, precision="32-true") if precision == "auto" else None
    chosen = choose_precision(precision, probe.device) if probe is not None else precision
    devices, nodes = launched()
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        precision="bf16-mixed" if chosen == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric
