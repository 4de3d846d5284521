"""What ends a training early, as a sentence that says what is left and what to type."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric import Fabric

from isosphere.errors import RunError
from isosphere.training.checkpoint import kept, remedy
from isosphere.training.config import TrainConfig
from isosphere.training.ranks import lost

__all__ = ["explained"]


@contextmanager
def explained(checkpoint: Path, train: TrainConfig, fabric: Fabric) -> Iterator[None]:
    """Turn numbers that are none, a full memory and a lost process into RunErrors that name the last checkpoint."""
    try:
        yield
    except RunError as error:
        if "not finite" not in str(error):
            raise
        raise RunError(f"{error} {kept(checkpoint)} {remedy()}") from None
    except torch.OutOfMemoryError:
        size = train.micro_batch or train.batch_size
        raise RunError(
            "a step does not fit into the device's memory: start anew with a smaller --set train.micro_batch=... or "
            f"--batch-size than {size}. {kept(checkpoint)}"
        ) from None
    except RuntimeError as error:
        if fabric.world_size == 1 or not lost(error):
            raise
        raise RunError(
            f"another process of this run is gone, or has not answered for {train.timeout_minutes:g} minutes "
            f"(process {fabric.global_rank} of {fabric.world_size} noticed). {kept(checkpoint)} Start all of them "
            "again with --resume."
        ) from None
