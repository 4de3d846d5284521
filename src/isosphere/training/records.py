"""Where the figures of a run go: metrics.csv, TensorBoard, the screen."""

import contextlib
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from isosphere.atomic import explain_failed_writes
from isosphere.runs import RunFolder
from isosphere.training.checkpoint import Position
from isosphere.training.ui import Reporter, loss_line

__all__ = ["Records"]


class Records:
    """Writes each row to metrics.csv, to an events file beside it where tensorboard is installed and wanted, and to
    Weights & Biases where a project is named.

    Rows after `step` are dropped on opening: a resumed run writes them again.
    """

    def __init__(
        self, folder: RunFolder, ui: Reporter, *, step: int, tensorboard: bool, wandb: str | None = None
    ) -> None:
        self._ui, self._folder = ui, folder
        self._metrics = folder.open_metrics()
        self._metrics.rewind(step)
        self._events = None
        if tensorboard and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(folder.path, purge_step=step + 1, flush_secs=10)
        self._remote = None
        if wandb is not None:
            client: Any = import_module("wandb")
            # One run of theirs for one folder of ours, also when it is resumed.
            name = folder.path.resolve().name
            self._remote = client.init(
                project=wandb,
                name=name,
                id=name,
                resume="allow",
                dir=str(folder.path),
                config=folder.read_config(),
            )

    def row(
        self,
        at: Position,
        losses: Mapping[str, float],
        extra: Mapping[str, float],
        *,
        rate: float,
        speed: float,
    ) -> None:
        """One row: position, learning rate, images/s, means of the losses, and what the monitor and the probe
        found.
        """
        values = {**losses, **extra, "learning_rate": rate, "images_per_second": speed}
        self._metrics.append({"epoch": at.epoch, "step": at.step, **values, "seconds": at.elapsed})
        if self._events is not None:
            with explain_failed_writes(self._folder.path / "events"):
                for name, value in values.items():
                    self._events.add_scalar(name, value, at.step)
        if self._remote is not None:
            self._remote.log({**values, "epoch": at.epoch}, step=at.step)

    def epoch(
        self, title: str, losses: Mapping[str, float], extra: Mapping[str, float], *, speed: float
    ) -> None:
        """The line of an epoch on the screen and in the log."""
        shown = {name: extra[name] for name in ("cosine", "alignment", "zscore", "knn") if name in extra}
        self._ui.row(f"{title}  {loss_line(losses)}  {loss_line(shown)}  {speed:,.0f} images/s")

    def close(self) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):  # the run has ended, and its checkpoint is written
                self._events.close()
        if self._remote is not None:
            self._remote.finish()
