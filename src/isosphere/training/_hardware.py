"""What suits the machine: precision, order in memory, compiled networks, and the Fabric that brings it all."""

import ctypes
import inspect
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isosphere.errors import NotFiniteError, UsageError, option
from isosphere.models import RankBatchNorm
from isosphere.training._distributed import has_meeting, launched, meet

if TYPE_CHECKING:
    from lightning.fabric import Fabric


Precision = Literal["bf16", "fp16", "float32"]
Setting = Literal["auto", "bf16", "fp16", "float32"]

_OF_FABRIC: dict[Precision, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", "float32": "32-true"}

_NEWER = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
OF_RANKS: dict[str, Any] = {
    "forward_sync_buffers" if _NEWER else "broadcast_buffers": False,
    "gradient_as_bucket_view": True,
}
"""Of DistributedDataParallel: buffers are alike on all ranks (batch norm is over all of them), and gradients are not
copied out of what is sent.
"""

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
            f"train.precision = fp16 is for CUDA GPUs, and this run is on {device.type}: leave it out, or give "
            f"{option('train.precision', 'bf16')} or {option('train.precision', 'float32')}."
        )
    if setting == "auto":
        return "bf16" if bf16_is_fast(device) else "float32"
    return setting


def explain_precision(precision: Precision, device: torch.device) -> str:
    """The choice in words, for the start of a run."""
    place = {"cpu": "CPU", "cuda": "GPU", "mps": "Apple GPU"}.get(device.type, device.type)
    if precision == "bf16":
        slow = "" if bf16_is_fast(device) else f"; this {place} emulates bfloat16: float32 would be faster"
        return f"bfloat16 autocast with channels-last on the {place}; views and statistics in float32{slow}"
    if precision == "fp16":
        return f"float16 autocast with a scaled loss on the {place}; views and statistics in float32"
    tf32 = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return f"float32 on the {place}" + ", convolutions in TF32 (PyTorch's default)" * tf32


def precision_of(fabric: "Fabric") -> Precision:
    """What a Fabric computes in."""
    found: list[Precision] = [
        name for name, code in _OF_FABRIC.items() if code == fabric._precision.precision
    ]
    return found[0]


def scaler_of(fabric: "Fabric") -> torch.amp.GradScaler | None:
    """What scales the loss in float16, where small gradients would be zero; None in other precisions."""
    return getattr(fabric._precision, "scaler", None)


def check_scale(scaler: torch.amp.GradScaler | None, step: int) -> None:
    """Raise NotFiniteError if the gradients are not finite however small the scale: then no step is ever taken.

    A step that overflows once in a while is skipped, and the scale halved: that is how the scale is found.
    """
    if scaler is not None and (scale := scaler.get_scale()) < SMALLEST_SCALE:
        raise NotFiniteError(
            f"the gradients are not finite in float16 at step {step}, whatever the scale of the loss ({scale:.1g})."
        )


def device_is_there(kind: str) -> bool:
    """Whether torch finds a device of a kind here: ``cpu``, ``cuda`` or ``mps``; something for ``auto`` there always
    is.
    """
    absent = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    return not absent.get(kind, False)


def require_device(name: str, setting: str = "train.device") -> None:
    """Refuse a device that this machine has not, or this torch cannot use; `setting` is what it was given as.

    Raises: UsageError.
    """
    if name == "auto":
        return
    try:
        kind, number = torch.device(name).type, torch.device(name).index
    except (RuntimeError, TypeError):
        kind, number = "", None
    if kind not in ("cpu", "cuda", "mps"):
        raise UsageError(f"{option(setting)}: got {name!r}, expected cpu, cuda, cuda:1, ... or mps.")
    if not device_is_there(kind):
        raise UsageError(
            f"{option(setting, name)}: torch {torch.__version__} finds no such device here. Leave it out, or "
            f"give {option(setting, 'cpu')}."
        )
    if kind == "cuda" and number is not None and number >= torch.cuda.device_count():
        raise UsageError(
            f"{option(setting, name)}: torch finds {torch.cuda.device_count()} here, counted from cuda:0. Give one of "
            f"them, or {option(setting, 'cuda')}."
        )


def make_fabric(
    device: Literal["auto", "cpu", "cuda", "mps"], precision: Setting, *, timeout_minutes: float = 10.0
) -> "Fabric":
    """A launched Fabric on one device, or on the processes that torchrun, ``--devices`` or srun has started.

    A process that waits `timeout_minutes` for another one gives up.
    """
    from lightning.fabric import Fabric  # slow to import, and needed by training alone
    from lightning.fabric.strategies.ddp import DDPStrategy

    require_device(device)
    devices, nodes = launched()
    patience = timedelta(minutes=timeout_minutes)
    with _quiet(
        "lightning.fabric", "lightning.pytorch"
    ):  # they announce the precision; so do we, with the reason
        if precision in ("auto", "fp16"):
            probe = Fabric(accelerator=device, devices=1, precision="32-true")
            precision = choose_precision(precision, probe.device)
        if has_meeting() and not torch.distributed.is_initialized():  # Fabric takes the group that there is
            meet("nccl" if device != "cpu" and torch.cuda.is_available() else "gloo", patience)
        fabric = Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            strategy=DDPStrategy(timeout=patience, **OF_RANKS) if devices * nodes > 1 else "auto",
            precision=_OF_FABRIC[precision],
        )
        fabric.launch()
    return fabric


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Warnings alone from these loggers; afterwards they are as talkative as before."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)


# --- networks through torch.compile -------------------------------------------------------------------------

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


# --- memory of a CPU's training: what one step frees, the next takes again ----------------------------------

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt``, by their numbers in ``malloc.h``."""
_PAD = 2**26
_SETTINGS_OF_ONES_OWN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and take large blocks in large pages; True if it will.

    A step allocates and frees the same large tensors again and again. By default glibc gives each of them back to
    Linux, which hands the next one out page by page, each cleared first: a step of ``small-conv`` took an eighth
    longer for it on two threads, nearly half as long again on one. The process then never shrinks; it grows to the
    peak it would have had anyway, and a little beyond. For a process of one's own, at its start; other systems, GPUs
    and results are not affected.

    Nothing is changed where the environment has settings of the allocator (``MALLOC_*``, ``GLIBC_TUNABLES``) or
    brings another (``LD_PRELOAD``), or where there is no glibc.
    """
    if (
        any(name.startswith(_SETTINGS_OF_ONES_OWN) for name in os.environ)
        or platform.libc_ver()[0] != "glibc"
    ):
        return False
    # torch asks for large pages if asked to before its first tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    largest = 2**31 - 1
    libc = ctypes.CDLL(None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, largest), (_TOP_PAD, _PAD))
    return all(libc.mallopt(parameter, value) == 1 for parameter, value in settings)
