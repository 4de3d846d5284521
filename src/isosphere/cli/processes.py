"""``--devices`` and ``--nodes``: the same command, once for each device."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from isosphere.cli.console import error_console, paragraph
from isosphere.errors import UsageError

if TYPE_CHECKING:
    from isosphere.training import Config

__all__ = ["start_together", "wanted"]

PORT = 29500


def wanted(config: "Config", asked: int | None) -> tuple[int, int] | None:
    """Processes here and hosts that are still to be started; None for one process, or where they have been.

    Raises: UsageError for another number of devices than a launcher has started, or than there are.
    """
    from isosphere.training import is_launched, launched

    train = config.train
    if is_launched():
        here, _ = launched()
        if asked is not None and asked != here:
            raise UsageError(
                f"--devices {asked}: a launcher (torchrun or srun) has started {here} processes on this host. Leave "
                "--devices out."
            )
        return None
    devices, nodes = train.devices or 1, train.nodes or 1
    if devices * nodes == 1:
        return None
    import torch

    found = torch.cuda.device_count() if train.device in ("auto", "cuda") else 0
    if found and devices > found:
        raise UsageError(f"--devices {devices}: this host has {found} GPUs. Type --devices {found}.")
    if train.batch_size is not None and train.batch_size % (devices * nodes):
        raise UsageError(
            f"a batch of {train.batch_size} cannot be shared equally by {devices * nodes} processes: type --batch-size "
            f"{max(1, round(train.batch_size / (devices * nodes))) * devices * nodes}."
        )
    return devices, nodes


def start_together(words: Sequence[str], devices: int, nodes: int) -> int:
    """Start the command's processes on this host, and return its exit code when all have ended.

    Raises: UsageError where several hosts do not know of each other.
    """
    from isosphere.training import launch

    def say(text: str) -> None:
        paragraph(error_console(), text, style="red")

    if nodes == 1:
        return launch(words, devices=devices, say=say)
    environment = os.environ
    if "MASTER_ADDR" not in environment or "NODE_RANK" not in environment:
        raise UsageError(
            f"--nodes {nodes}: each host runs the same command and has to know the first one. Type there, with "
            f"the host's own number for K (0 on the first): MASTER_ADDR=FIRST_HOST MASTER_PORT={PORT} NODE_RANK=K "
            "isosphere train ...; under SLURM srun isosphere train ... does it by itself."
        )
    node = int(environment["NODE_RANK"])
    if not 0 <= node < nodes:
        raise UsageError(f"NODE_RANK is {node}, and --nodes {nodes} has hosts 0 to {nodes - 1}.")
    port = int(environment.get("MASTER_PORT", str(PORT)))
    address = environment["MASTER_ADDR"]
    return launch(words, devices=devices, nodes=nodes, node=node, address=address, port=port, say=say)
