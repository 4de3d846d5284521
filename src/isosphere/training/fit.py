"""The training loop, to be read in one sitting."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor

from isosphere.errors import RunError
from isosphere.runs import RunFolder
from isosphere.training.checkpoint import (
    Position,
    load_checkpoint,
    require_finite,
    save_checkpoint,
)
from isosphere.training.config import Config
from isosphere.training.export import write_weights
from isosphere.training.failures import explained
from isosphere.training.gradient import Differentiator, Step, pieces_of
from isosphere.training.interrupt import Interrupt
from isosphere.training.meter import Meter
from isosphere.training.monitor import Gauge, measure, undisturbed, verdict
from isosphere.training.observe import Observer
from isosphere.training.optimizer import build_optimizer, set_learning_rate
from isosphere.training.precision import check_scale, memory_format, scaler_of
from isosphere.training.profile import StepTimer
from isosphere.training.ranks import agreed, alike, common
from isosphere.training.records import Records
from isosphere.training.schedule import Plan
from isosphere.training.ui import Reporter, SilentReporter, duration, loss_line

__all__ = ["Summary", "fit"]

MONITORED = 128
"""Images that the monitor looks at after an epoch: enough for its three numbers, little beside an epoch."""

Probe = Callable[[Any], Mapping[str, float]]


@dataclass(frozen=True)
class Summary:
    """What became of a run: its length, speed, last figures, and what went wrong if anything did."""

    epochs: float
    steps: int
    images: int
    seconds: float
    images_per_second: float
    last: dict[str, float] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    warning: str | None = None
    interrupted: str | None = None
    shares: dict[str, float] | None = None
    step_seconds: float | None = None


def fit(
    config: Config,
    folder: RunFolder,
    method: Any,
    loader: Any,
    views: Any,
    fabric: Fabric,
    *,
    observer: Observer | None = None,
    probe: Probe | None = None,
    ui: Reporter | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Summary:
    """Train `method` on the views of the loader's batches until the plan is done, and leave the run in
    `folder`.

    A checkpoint in the folder is continued: a run that was interrupted or killed ends with the same bits as
    one that was not (with a limit in minutes the schedule follows the clock, and no two runs are the same).
    `facts`, such as the number of images, must then be what they were. `probe(method)` is called after each
    `train.knn_epochs` epochs and at the end, in evaluation mode; its figures join the epoch's row, as those of the
    `observer` do after each epoch (without one the monitor looks at images of the last batch). None of them can
    change training: generators and modes are put back.

    Raises: RunError when the loss or a weight is not finite (the last good checkpoint is kept), or when a
    file cannot be written or read.
    """
    ui = ui or SilentReporter()
    train, layout = config.train, memory_format(fabric.device)
    method.train().to(device=fabric.device, memory_format=layout)
    scaler = scaler_of(fabric)
    optimizer = build_optimizer(method, config.optim, scaled=scaler is not None)
    network, stepper = fabric.setup(Step(method), optimizer)

    facts = {**(facts or {}), "batches per epoch": len(loader), "seed": train.seed}
    at = Position()
    alike(fabric, {"a checkpoint to go on from": folder.checkpoint.exists(), **facts})
    if folder.checkpoint.exists():
        at = load_checkpoint(
            folder.checkpoint, method=method, optimizer=optimizer, facts=facts, scaler=scaler
        )
        ui.say(
            f"Resuming after step {at.step:,}: {at.batch} of {len(loader)} batches into epoch {at.epoch + 1}."
        )
    plan = make_plan(config, len(loader))
    meter = Meter(at.sums, every=1 if fabric.device.type == "cpu" else 20)
    timer = StepTimer(fabric.device, detailed=train.profile, networks=[method.encoder, method.head])
    pieces = pieces_of(train.batch_size, train.micro_batch)
    differentiate = Differentiator(network, method, fabric, timer, pieces=pieces)
    records = (
        Records(folder, ui, step=at.step, tensorboard=train.tensorboard, wandb=train.wandb)
        if fabric.is_global_zero
        else None
    )
    start, start_seconds, start_images, start_step = time.perf_counter(), at.elapsed, at.images, at.step
    saved = start
    figures: dict[str, float] = {}
    warning: str | None = None
    first: Gauge | None = None
    named: tuple[str, ...] = ()
    gauges: dict[str, float] = {}

    def tick() -> float:
        """Bring the clock of the run up to date; seconds of training so far, those of earlier sittings
        included.
        """
        at.elapsed = start_seconds + time.perf_counter() - start
        if train.minutes is not None:
            at.elapsed = common(fabric, at.elapsed)
        return at.elapsed

    def speed() -> float:
        return (at.images - start_images) / max(1e-9, at.elapsed - start_seconds)

    def save() -> None:
        nonlocal saved
        meter.flush()
        tick()
        check_scale(scaler, at.step)
        if fabric.is_global_zero:
            state: dict[str, Any] = {"method": method, "optimizer": optimizer, "scaler": scaler}
            save_checkpoint(folder.checkpoint, **state, position=at, facts=facts)
            write_weights(folder, method, seed=train.seed, step=at.step)
        fabric.barrier()
        saved = time.perf_counter()

    def observe(batch_views: list[Tensor]) -> tuple[Gauge, dict[str, float]]:
        """Gauge and figures of the observer's images, or where there is none of images of the last batch."""
        if observer is not None:
            seen = observer(method, autocast=fabric.autocast())
            return seen.gauge, seen.figures
        with fabric.autocast():
            state = measure(method, [view[:MONITORED] for view in batch_views[:2]])
        return state, state.as_row()

    def examine(batch_views: list[Tensor], *, last: bool) -> dict[str, float]:
        """What the monitor and the probe see; nothing that training depends on is touched."""
        nonlocal warning
        found: dict[str, float] = {}
        require_finite(method, at.step)
        if train.monitor and fabric.is_global_zero:
            state, figures = observe(batch_views)
            found |= figures
            said, progress = warning, plan.progress(at.step, at.elapsed)
            warning = verdict(
                state, progress=progress, steps=at.step, lever=getattr(method, "lever", None), start=first
            )
            if warning and not said:
                ui.say(warning, warning=True)
        if probe is not None and (last or (at.batch == 0 and at.epoch % max(1, train.knn_epochs) == 0)):
            with undisturbed(method):
                found |= probe(method)
        return found

    def report(extra: Mapping[str, float]) -> None:
        nonlocal figures, named
        losses = meter.take()
        figures, named = {**losses, **extra}, tuple(losses)
        gauges.update({name: extra[name] for name in ("knn", "cosine") if name in extra})
        if records is not None:
            rate = optimizer.param_groups[0]["lr"]
            records.row(at, losses, extra, rate=rate, speed=speed())
            if at.batch == 0:
                records.epoch(_title(at, train.epochs), losses, extra, speed=speed())

    try:
        with explained(folder.checkpoint, train, fabric), Interrupt() as interrupt, closing(ui):
            batch_views: list[Tensor] = []
            if observer is not None and train.monitor and fabric.is_global_zero and at.step == 0:
                first, _ = observe(batch_views)
            stop = any(agreed(fabric, bool(interrupt.requested), plan.finished(at.step, tick())))
            # Decided after each step, by all ranks together, and nowhere else: so the end is known when it is examined.
            while not stop:
                epoch = at.epoch
                for batch in timer.each("data", loader.epoch(epoch, start=at.batch)):
                    factor = plan.factor(at.step, tick())
                    set_learning_rate(optimizer.param_groups, config.optim.learning_rate * factor)
                    with timer("views"):
                        batch_views = views(batch.images, index=batch.index, epoch=epoch, seed=train.seed)
                        batch_views = [view.contiguous(memory_format=layout) for view in batch_views]
                    meter.add(at.step + 1, epoch + 1, *differentiate(batch_views))
                    with timer("optimiser"):
                        if config.optim.clip is not None:
                            limits = {"max_norm": config.optim.clip, "error_if_nonfinite": False}
                            fabric.clip_gradients(network, stepper, **limits)
                        stepper.step()
                        stepper.zero_grad()
                        at.step += 1
                        method.after_step(plan.progress(at.step, tick()))

                    at.batch, at.images = at.batch + 1, at.images + len(batch.index) * fabric.world_size
                    pace = (tick() - start_seconds) / max(1, at.step - start_step)
                    ui.step(
                        plan.progress(at.step, at.elapsed),
                        _line(
                            at, train.epochs, {**meter.last, **gauges}, speed(), plan, pace, timer.waiting()
                        ),
                    )
                    due = _due(saved, train.checkpoint_minutes, end_of_epoch=at.batch == len(loader))
                    finished = plan.finished(at.step, at.elapsed, pace)
                    stop, finished, due = agreed(fabric, bool(interrupt.requested) or finished, finished, due)
                    if at.batch == len(loader):
                        at.epoch, at.batch = epoch + 1, 0
                        report(examine(batch_views, last=stop))
                        if train.keep_every and at.epoch % train.keep_every == 0 and fabric.is_global_zero:
                            folder.keep_weights(at.epoch, method.state_dict())
                    elif at.step % train.log_steps == 0 and not finished:  # the end has a row of its own
                        report({})
                    if stop or due:
                        save()
                    if stop:
                        break
            meter.flush()
            if at.sums and not interrupt.requested:
                report(examine(batch_views, last=True))
            save()
    finally:
        if records is not None:
            records.close()
    return Summary(
        epochs=at.epoch + at.batch / len(loader),
        steps=at.step,
        images=at.images,
        seconds=at.elapsed,
        images_per_second=speed(),
        last=figures,
        losses=named,
        warning=warning,
        interrupted=interrupt.requested if not plan.finished(at.step, at.elapsed) else None,
        shares=timer.shares() if train.profile else None,
        step_seconds=timer.step_seconds(),
    )


def make_plan(config: Config, batches: int) -> Plan:
    """The length and the warm-up of a run of so many batches an epoch."""
    train = config.train
    if batches < 1:
        raise RunError(
            "there is not one whole batch to train on: give a smaller --batch-size or more images."
        )
    return Plan(
        steps=None if train.minutes is not None else (train.epochs or 0) * batches,
        seconds=None if train.minutes is None else 60.0 * train.minutes,
        warmup_steps=round(config.optim.warmup_epochs * batches),
        final_fraction=config.optim.final_fraction,
    )


def _due(saved: float, minutes: float, *, end_of_epoch: bool) -> bool:
    """Whether a checkpoint is to be written: at the end of an epoch, or within a long one, when its time has
    come.
    """
    return (end_of_epoch or minutes > 0) and time.perf_counter() - saved >= 60 * minutes


def _title(at: Position, epochs: int | None) -> str:
    return f"epoch {at.epoch}" + (f"/{epochs}" if epochs else "")


def _line(
    at: Position,
    epochs: int | None,
    figures: Mapping[str, float],
    speed: float,
    plan: Plan,
    pace: float,
    waiting: float,
) -> str:
    """Where the run stands: time left, speed, share of the time spent waiting for data, loss and last gauges."""
    shown = _title(Position(epoch=at.epoch + 1), epochs)
    left = duration(plan.remaining(at.step, at.elapsed, pace))
    return f"{shown}  {left} left  {speed:,.0f} images/s  data wait {waiting:.0%}  {loss_line(figures)}"
