"""Accelerators of any kind (CUDA, Apple's, others): what is sent to them without waiting, their clocks and generators.

A copy that is not asynchronous, and a number that is read, make the program wait until the device has done all that it
was given. A step of a training does neither.
"""

__all__ = [
    "accelerators",
    "constant",
    "generator_states",
    "generators_kept",
    "pins_memory",
    "send",
    "set_generator_states",
    "synchronize",
]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


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
