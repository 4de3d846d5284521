"""Accelerators of any kind (CUDA, Apple's, others): what is sent to them without waiting, their clocks and generators.

A copy that is not asynchronous, and a number that is read, make the program wait until the device has done all that it
was given. A step of a training does neither.
"""

__all__ = [
    "accelerators",
    "constant",
    "free_memory",
    "generator_states",
    "generators_kept",
    "has_room",
    "host_memory",
    "on_device_or_cpu",
    "pins_memory",
    "placed",
    "send",
    "set_generator_states",
    "synchronize",
]

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of these numbers that is kept on the device: only its first use copies anything."""
    if torch.compiler.is_compiling():  # which keeps constants by itself
        return torch.tensor(values, dtype=dtype, device=device)
    return _kept(values, device, dtype)


@lru_cache(maxsize=1024)
def _kept(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # it may be kept for a backward pass later
        return torch.tensor(values, dtype=dtype).to(device)


def pins_memory(device: torch.device) -> bool:
    """Whether copies to a device can run by themselves, from pages that the system may not move."""
    return device.type not in ("cpu", "mps", "meta")


def send(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, by a copy that nobody waits for; it must not be changed afterwards."""
    if x.device.type != "cpu" or not pins_memory(device):
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def free_memory(device: torch.device) -> int | None:
    """Bytes that an accelerator has free, with those that torch holds back for its next tensors. None: a CPU, or where
    a device does not say.
    """
    if device.type in ("cpu", "meta"):
        return None
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    module = _module(device)
    if not hasattr(module, "mem_get_info"):
        return None
    held = module.memory_reserved(device) - module.memory_allocated(device)
    return module.mem_get_info(device)[0] + held


def host_memory() -> int | None:
    """Bytes of memory that this process may have: those of the machine, or the limit of its container or job.
    None where the system does not say.
    """
    known = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    there = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if known else []
    return min([*there, *_memory_limits()], default=None)


def _memory_limits(
    groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Limits of the control groups of Linux that this process is in, and of those around them."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        top, name = (mount / "memory", "memory.limit_in_bytes") if kinds else (mount, "memory.max")
        here = top / place.lstrip("/")
        for folder in (here, *here.parents):
            if folder.is_relative_to(top):
                with suppress(OSError, ValueError):  # "max" is none
                    yield int((folder / name).read_text())


def has_room(size: int, device: torch.device) -> bool:
    """Whether so many bytes take at most half of what an accelerator has free: the rest is for what is computed of
    them. A CPU, and a device that does not say, always has.
    """
    free = free_memory(device)
    return free is None or 2 * size <= free


def placed(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device that has room for it, else where it is."""
    return x if x.device == device or not has_room(x.nbytes, device) else x.to(device)


def on_device_or_cpu(compute: Callable[..., Result], *tensors: Tensor) -> Result:
    """What is computed of tensors where they are or, if that device has too little memory for it, on the CPU."""
    try:
        return compute(*tensors)
    except torch.OutOfMemoryError:
        if all(x.device.type == "cpu" for x in tensors):
            raise
    return compute(*(x.cpu() for x in tensors))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given; a CPU always has."""
    if device.type != "cpu":
        _module(device).synchronize()


def generator_states(*devices: torch.device) -> dict[torch.device, Tensor]:
    """States of torch's default generators, that of the CPU and those of these devices."""
    return {place: _state_of(place) for place in {torch.device("cpu"), *devices} if place.type != "meta"}


def set_generator_states(states: Mapping[torch.device, Tensor]) -> None:
    """Put torch's default generators into the states of :func:`generator_states`."""
    for place, state in states.items():
        if place.type == "cpu":
            torch.set_rng_state(state)
        elif place.type == "mps":
            torch.mps.set_rng_state(state)
        else:
            _module(place).set_rng_state(state, place)


@contextmanager
def generators_kept(*devices: torch.device) -> Iterator[None]:
    """Put torch's default generators back after the block: that of the CPU and those of these devices."""
    states = generator_states(*devices)
    try:
        yield
    finally:
        set_generator_states(states)


def accelerators() -> list[torch.device]:
    """All devices of this machine beside the CPU: those whose generators ``torch.manual_seed`` seeds."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return (
        []
        if found is None
        else [torch.device(found.type, i) for i in range(torch.accelerator.device_count())]
    )


def _state_of(place: torch.device) -> Tensor:
    if place.type == "cpu":
        return torch.get_rng_state()
    return torch.mps.get_rng_state() if place.type == "mps" else _module(place).get_rng_state(place)


def _module(device: torch.device) -> Any:
    """What ``torch.cuda`` is for CUDA."""
    return torch.get_device_module(device)
