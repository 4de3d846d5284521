"""A process group for the device that, as NCCL, refuses tensors of the CPU; gloo carries what it sends.

``torch.distributed.init_process_group("simulated", ...)`` after ``import tests.accelerator.simulated.collectives``.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import _create_work_from_future
from torch.futures import Future

from tests.accelerator.simulated.device import DEVICE, backend

__all__ = ["BACKEND", "DeviceGroup"]

BACKEND = "simulated"
# Torch's flight recorder takes only groups made of its own C++ backends.
os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "0")


@contextmanager
def _unseen() -> Iterator[None]:
    """Copies that are made here only because there is no device: nothing that a GPU would do."""
    backend.silence(True)
    try:
        yield
    finally:
        backend.silence(False)


def _done(result: Any) -> Any:
    future: Future[Any] = Future()
    future.set_result(result)
    return _create_work_from_future(future)


def _check(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        if tensor.device.type != DEVICE.type:
            raise RuntimeError(f"No backend type associated with device type {tensor.device.type}")
        if not tensor.is_contiguous():
            raise ValueError("Tensors must be contiguous")


class DeviceGroup(dist.ProcessGroup):
    """Copies to the CPU, lets gloo do it, copies back; every call has ended when it returns."""

    _device_types = [torch.device(DEVICE.type)]  # noqa: RUF012  (torch's property, by which objects find their way)

    def __init__(self, store: Any, rank: int, world: int, timeout: timedelta) -> None:
        super().__init__(rank, world)
        self._gloo = dist.ProcessGroupGloo(store, rank, world, timeout)

    supports_splitting = False

    def getBackendName(self) -> str:
        return BACKEND

    def _get_backend(self, device: torch.device) -> "DeviceGroup":
        return self

    def _through(self, tensors: list[Tensor], call: Callable[[list[Tensor]], Any]) -> Any:
        _check(tensors)
        with _unseen(), torch.no_grad():
            host = [tensor.to("cpu") for tensor in tensors]
            call(host).wait()
            for tensor, moved in zip(tensors, host, strict=True):
                tensor.copy_(moved)
        return _done(tensors)

    def allreduce(self, tensors: list[Tensor], opts: Any = None) -> Any:
        options = dist.AllreduceOptions() if opts is None else opts
        average = options.reduceOp == dist.ReduceOp.AVG  # gloo has none
        if average:
            options.reduceOp = dist.ReduceOp.SUM
        work = self._through(tensors, lambda host: self._gloo.allreduce(host, options))
        if average:
            for tensor in tensors:
                tensor.div_(self.size())
        return work

    def allreduce_coalesced(self, tensors: list[Tensor], opts: Any = None) -> Any:
        for tensor in tensors:
            self._through([tensor], lambda host: self._gloo.allreduce(host, dist.AllreduceOptions()))
        return _done(tensors)

    def broadcast(self, tensors: list[Tensor], opts: Any = None) -> Any:
        return self._through(
            tensors, lambda host: self._gloo.broadcast(host, opts or dist.BroadcastOptions())
        )

    def allgather(self, outputs: list[list[Tensor]], inputs: list[Tensor], opts: Any = None) -> Any:
        for places, tensor in zip(outputs, inputs, strict=True):
            _check([*places, tensor])
            with _unseen(), torch.no_grad():
                host = [torch.empty_like(place, device="cpu") for place in places]
                self._gloo.allgather([host], [tensor.to("cpu")]).wait()
                for place, moved in zip(places, host, strict=True):
                    place.copy_(moved)
        return _done(outputs)

    def _allgather_base(self, output: Tensor, tensor: Tensor, *options: Any, **more: Any) -> Any:
        return self.allgather([list(output.chunk(self.size()))], [tensor])

    all_gather_single = _allgather_base  # its name from torch 2.15 on

    def barrier(self, opts: Any = None) -> Any:
        self._gloo.barrier(dist.BarrierOptions()).wait()
        return _done(None)

    def send(self, tensors: list[Tensor], target: int, tag: int) -> Any:
        return self._through(tensors, lambda host: self._gloo.send(host, target, tag))

    def recv(self, tensors: list[Tensor], source: int, tag: int) -> Any:
        return self._through(tensors, lambda host: self._gloo.recv(host, source, tag))


def _create(store: Any, rank: int, world: int, timeout: timedelta) -> DeviceGroup:
    return DeviceGroup(store, rank, world, timeout)


dist.Backend.register_backend(BACKEND, _create, devices=[DEVICE.type])
