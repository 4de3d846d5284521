"""``--devices`` and ``--nodes``: the same command, once for each device."""

import os
from collections.abc import Sequence

from isosphere.cli.console import error_console, paragraph
from isosphere.errors import UsageError

__all__ = ["start_together"]

PORT = 29500


def start_together(words: Sequence[str], devices: int, nodes: int, max_restarts: int) -> int:
    """Start the command's processes on this host, and return its exit code when all have ended.

    Raises: UsageError where several hosts do not know of each other.
    """
    from isosphere.training import launch

    def say(text: str) -> None:
        for line in text.splitlines():
            paragraph(error_console(), line, style="red")

    if nodes == 1:
        return launch(words, devices=devices, max_restarts=max_restarts, say=say)
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
