"""The device for Lightning: ``fabric("bf16")`` is a launched Fabric on it, as ``Fabric("cuda")`` is on a GPU."""

from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.accelerators import Accelerator
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.strategies import DDPStrategy, SingleDeviceStrategy

from tests.accelerator.simulated.device import DEVICE

__all__ = ["SimulatedAccelerator", "fabric"]


class SimulatedAccelerator(Accelerator):
    """One device in each process, always there."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        return list(range(int(devices)))

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [DEVICE for _ in devices]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "simulated"


class _Ranks(DDPStrategy):
    """Lightning takes any device but the CPU for one of CUDA, and asks for its streams."""

    def _determine_ddp_device_ids(self) -> None:
        return None


def fabric(precision: str = "float32", *, devices: int = 1, **options: Any) -> Fabric:
    """A launched Fabric on the device.

    Args:
        precision: float32, bf16 or fp16. devices: processes, which a launcher has started (``RANK``, ``LOCAL_RANK``,
            ``WORLD_SIZE``, ... in the environment, as torchrun sets them). options: of DistributedDataParallel.
    """
    plugins = []
    if precision in ("bf16", "fp16"):
        kind: Any = {"bf16": "bf16-mixed", "fp16": "16-mixed"}[precision]
        scaler = torch.amp.GradScaler("simulated") if precision == "fp16" else None
        plugins.append(MixedPrecision(kind, device="simulated", scaler=scaler))
    strategy: Any = SingleDeviceStrategy(device=DEVICE, accelerator=SimulatedAccelerator())
    if devices > 1:
        from tests.accelerator.simulated.collectives import BACKEND

        strategy = _Ranks(accelerator=SimulatedAccelerator(), process_group_backend=BACKEND, **options)
    made = Fabric(strategy=strategy, devices=devices, plugins=plugins)
    made.launch()
    return made
