"""What is reported of a run: to a person, to metrics.csv, to TensorBoard and to Weights & Biases."""

import contextlib
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from PIL import Image
from rich.console import Console
from rich.text import Text
from torch import Tensor
from torch.nn import functional

from isosphere.atomic import append_text, explain_failed_writes
from isosphere.data import Pictures, Views, visible_channels
from isosphere.errors import printable
from isosphere.runs import RunFolder
from isosphere.training._bar import Bar
from isosphere.training._checkpoint import Position


class Reporter(Protocol):
    """What `fit` tells while it runs."""

    def say(self, text: str, *, warning: bool = False) -> None:
        """One sentence that stays on the screen and in the log."""
        ...

    def step(self, progress: float, line: str) -> None:
        """Where the run stands, after a step: shown, not kept."""
        ...

    def row(self, line: str) -> None:
        """The figures of an epoch, kept."""
        ...

    def close(self) -> None:
        """Take the progress bar down."""
        ...


class SilentReporter:
    """Says nothing: for library use and for ranks other than the first."""

    def say(self, text: str, *, warning: bool = False) -> None: ...

    def step(self, progress: float, line: str) -> None: ...

    def row(self, line: str) -> None: ...

    def close(self) -> None: ...


_WITHIN_EPOCH = 60.0
"""Seconds after which a line is written within an epoch, where there is no terminal."""


class ConsoleReporter:
    """Writes to a rich console, and to train.log without colours.

    On a terminal: a bar with per cent, time left, images/s, and loss parts as there is room, and above it a line for an
    epoch, at most one a second. Elsewhere: a line for an epoch, but not more often than every `quiet` seconds, so that
    a run of a thousand short epochs does not fill a log; and one a minute within a long epoch.
    """

    def __init__(self, console: Console, log: Path | None = None, *, quiet: float = 10.0) -> None:
        self.console = console
        self._log = log
        self._quiet = min(1.0, quiet) if console.is_terminal else quiet
        self._last_line: float | None = None
        self._held: str | None = None
        self._last_paint = time.perf_counter()
        self._bar: Bar | None = None

    def say(self, text: str, *, warning: bool = False) -> None:
        self.note(text)
        shown = Text(printable(text), style="yellow" if warning else "")
        self.console.print(shown, soft_wrap=not self.console.is_terminal)

    def step(self, progress: float, line: str) -> None:
        now = time.perf_counter()
        if not self.console.is_terminal:
            if now - self._last_paint >= max(_WITHIN_EPOCH, self._quiet):
                self._last_paint = now
                self.console.print(Text(f"{progress:.0%}  {line}"), soft_wrap=True)
            return
        if self._bar is None:
            self._bar = Bar(self.console)
            self._bar.start()
        elif now - self._last_paint < 0.1:
            return
        self._last_paint = now
        self._bar.show(progress, line)

    def row(self, line: str) -> None:
        self.note(line)
        now = time.perf_counter()
        if self._last_line is not None and now - self._last_line < self._quiet:
            self._held = line
            return
        self._last_line, self._held = now, None
        self._print(line, now)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._held is not None:
            self._print(self._held, time.perf_counter())
            self._held = None

    def _print(self, line: str, now: float) -> None:
        if not self.console.is_terminal:
            self._last_paint = now
        self.console.print(Text(line), soft_wrap=True)

    def note(self, text: str) -> None:
        """A line of the log alone."""
        if self._log is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            append_text(self._log, f"{stamp}  {printable(text)}\n")


def duration(seconds: float) -> str:
    """Seconds in the unit a person would choose: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


_SHOWN = {
    "cosine": "cosine {:.3f}",
    "two_view_recall": "two-view recall {:.1%}",
    "neighbours_kept": "neighbours kept {:.1%}",
    "knn": "k-NN {:.1%}",
}
"""Figures that stand in the line of an epoch, where there are any; metrics.csv has all."""


def epoch_line(
    title: str, losses: Mapping[str, float], extra: Mapping[str, float], speed: float = 0.0
) -> str:
    """What is said of an epoch, within 80 columns."""
    parts = [title, *([f"loss {losses['total']:.4g}"] if "total" in losses else [])]
    parts += [words.format(extra[name]) for name, words in _SHOWN.items() if name in extra]
    return "  ".join([*parts, *([f"{speed:,.0f} images/s"] if losses and speed else [])])


# --- figures in files ---------------------------------------------------------------------------------------


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
        self._metrics.rewind(step if step else -1)  # a row of epoch 0 too is written again
        self._events = None
        if tensorboard and find_spec("tensorboard") is not None:
            self._events = _event_writer(folder.path, purge_step=step + 1, flush_secs=10)
        self._remote = None
        if wandb is not None:
            client: Any = import_module("wandb")
            name = folder.path.resolve().name
            self._remote = client.init(
                project=wandb,
                name=name,
                id=folder.remote_id(name if step else None),
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
        """One row: position, learning rate, images/s, means of the losses, and what monitor and probe found."""
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
        self._ui.row(epoch_line(title, losses, extra, speed))

    def close(self) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):  # the run has ended, and its checkpoint is written
                self._events.close()
        if self._remote is not None:
            self._remote.finish()


def _event_writer(path: Path, **options: Any) -> Any:
    """TensorBoard's writer; its file is named after ``host``, not after this machine: runs are handed on."""
    from tensorboard.summary.writer import event_file_writer
    from torch.utils.tensorboard import SummaryWriter

    real = event_file_writer.socket
    event_file_writer.socket = SimpleNamespace(gethostname=lambda: "host")
    try:
        return SummaryWriter(path, **options)
    finally:
        event_file_writer.socket = real


# --- the views of a run as a picture ------------------------------------------------------------------------

GAP, MARGIN = 4, 16


def _whole_cell(image: Tensor, cell: int) -> Tensor:
    """An image within a white square of ``cell`` pixels, its shape kept. Shape: (3, h, w), result (3, cell, cell)."""
    longest = max(image.shape[1:])
    height, width = (max(1, round(cell * side / longest)) for side in image.shape[1:])
    square = image.new_ones(len(image), cell, cell)
    top, left = (cell - height) // 2, (cell - width) // 2
    square[:, top : top + height, left : left + width] = functional.interpolate(
        image[None], size=(height, width), mode="nearest-exact"
    )[0]
    return square


def contact_sheet(
    images: Tensor | Pictures, views: Views, *, seed: int = 0, epochs: int = 3, cell: int = 96
) -> Image.Image:
    """One row an image: the image itself, then its views in as many epochs.

    Shape: `images` uint8 (n, channels, h, w), or pictures of several shapes, of which three channels are shown, or one.
    Enlarged without smoothing, so that pixels are seen as the network sees them.
    """
    recipe = views.recipe
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (recipe.mean, recipe.std))
    index = torch.arange(len(images), device=images.device)
    columns = [torch.stack([_whole_cell(image.cpu().float() / 255, cell) for image in images])]
    for epoch in range(epochs):
        drawn = views(images, index=index, epoch=epoch, seed=seed)
        columns += [(view.cpu() * std + mean).clamp(0, 1) for view in drawn]
    cells = [
        functional.interpolate(visible_channels(column), size=(cell, cell), mode="nearest-exact")
        for column in columns
    ]
    grid = torch.ones(3, len(images) * (cell + GAP) + GAP, len(cells) * (cell + GAP) + MARGIN)
    for c, column in enumerate(cells):
        for r, picture in enumerate(column):
            top, left = GAP + r * (cell + GAP), c * (cell + GAP) + (MARGIN if c else GAP)
            grid[:, top : top + cell, left : left + cell] = picture
    pixels = (grid * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels)
