"""A device that is not there, to find what a GPU would have shown.

Importing it registers the device ``simulated`` with torch. Its tensors lie in ordinary memory and the CPU computes
every operator; but tensors of the device and of the CPU do not mix where CUDA would refuse it, and everything that a
GPU would make the program wait for is noted, with the line of Python that asked for it::

    from tests.accelerator import simulated
    with simulated.record() as seen:
        step()  # of a model on device "simulated"
    print(seen)
"""

from tests.accelerator.simulated.device import DEVICE, memory_peak, reset_peak
from tests.accelerator.simulated.recording import (
    WAITS,
    Event,
    Record,
    Waiting,
    no_waiting,
    record,
    without_float64,
)

__all__ = [
    "DEVICE",
    "WAITS",
    "Event",
    "Record",
    "Waiting",
    "memory_peak",
    "no_waiting",
    "record",
    "reset_peak",
    "without_float64",
]
