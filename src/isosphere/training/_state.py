"""A training as it stands, and what moves it: one step, the end of an epoch, a checkpoint, a look, a row of figures."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from isosphere.data import Batch, Loader, Views
from isosphere.errors import RemoteError, option
from isosphere.methods import Method
from isosphere.models import evaluation_mode, memory_format
from isosphere.reductions import equal_rows
from isosphere.runs import RunFolder
from isosphere.threads import ThreadChoice, all_threads, is_given
from isosphere.training._beginning import Beginning, encoders_of
from isosphere.training._callbacks import Callbacks, Progress
from isosphere.training._checkpoint import (
    Position,
    load_checkpoint,
    require_finite,
    save_checkpoint,
    write_weights,
)
from isosphere.training._config import Config
from isosphere.training._deterministic import deterministic
from isosphere.training._distributed import agreed, alike, of_all_ranks
from isosphere.training._facts import taught
from isosphere.training._generators import drawing, random_state
from isosphere.training._gradient import Differentiator, Step, pieces_of
from isosphere.training._hardware import check_scale, precision_of, scaler_of
from isosphere.training._meters import WARM_UP, Meter, StepTimer
from isosphere.training._monitor import CollapseMetrics, Observer, measure, verdict
from isosphere.training._operators import PHASES, LaunchCounter
from isosphere.training._optimizer import build_optimizer, set_learning_rate
from isosphere.training._precision import brief, time_step
from isosphere.training._reporting import Records, Reporter, duration, epoch_line
from isosphere.training._schedule import make_plan, slower_later

if TYPE_CHECKING:
    from lightning.fabric import Fabric


MONITORED = 128
"""Images that the monitor looks at after an epoch: enough for its three numbers, little beside an epoch."""

LONG = 10.0
"""Seconds from which on it is worth saying how long a training will take."""

CALLBACK = "a callback"

Probe = Callable[[Method], Mapping[str, float]]


@dataclass(frozen=True)
class Summary:
    """What became of a run: its length, speed, last figures, and what went wrong if anything did.

    ``chosen``: with which weights it ends and why, where there was a choice. ``stopped_by``: what has stopped it before
    its end, after a checkpoint: ``"Ctrl-C"``, another signal's name, ``"another process"``, or ``"a callback"``.
    ``launches``, ``waits``: of a step, operators by phase and waits for its device (with ``train.profile``).
    """

    epochs: float
    steps: int
    images: int
    seconds: float
    images_per_second: float
    last: dict[str, float] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    warning: str | None = None
    chosen: str | None = None
    stopped_by: str | None = None
    shares: dict[str, float] | None = None
    launches: dict[str, int] | None = None
    waits: int | None = None
    step_seconds: float | None = None

    @property
    def interrupted(self) -> str | None:
        """What has stopped it from outside: a signal, not a callback."""
        return None if self.stopped_by == CALLBACK else self.stopped_by


@dataclass
class TrainState:
    """A training as it stands: what learns, how far it has come, what has been seen of it."""

    config: Config
    folder: RunFolder
    method: Method
    loader: Loader
    views: Views
    fabric: "Fabric"
    targets: Tensor | None
    facts: Mapping[str, Any]
    observer: Observer | None
    probe: Probe | None
    ui: Reporter
    callbacks: Callbacks

    # Decided after each step, by all processes together.
    finished: bool = False
    stopped_by: str | None = None
    checkpoint_due: bool = False

    # Figures of the last row and the losses among them, and the latest of monitor and probe.
    figures: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    first_seen: CollapseMetrics | None = None
    warning: str | None = None
    chosen: str | None = None

    def __post_init__(self) -> None:
        config, train, fabric, method = self.config, self.config.train, self.fabric, self.method
        self.layout, self.scaler = memory_format(fabric.device), scaler_of(fabric)
        method.train().to(device=fabric.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(method, config.optim, scaled=self.scaler is not None)
        self.backbone = [p for p in method.encoder.parameters() if p.requires_grad]
        self.facts = {**self.facts, "batches per epoch": len(self.loader), "seed": train.seed}
        self.at = self._first_position()
        self.threads = self._thread_choice()
        self.plan = make_plan(config, len(self.loader))
        self.every = 1 if fabric.device.type == "cpu" else 20
        self.meter = Meter(self.at.sums, every=self.every)
        self.timer = StepTimer(fabric.device, detailed=train.profile, networks=[method.encoder, method.head])
        stepper = fabric.setup_optimizers(self.optimizer)
        assert not isinstance(stepper, tuple)
        self.stepper = stepper
        self._begin_phase(head_alone=self.plan.head_alone(max(0, self.at.step - 1), self.at.elapsed))
        self.beginning = None
        trains = self.config.model.init != "random" and self.plan.steps != 0
        if trains and fabric.is_global_zero and self.observer is not None:
            self.beginning = Beginning(self.folder, method, partial(self._features, self.observer))
        self.records = None
        if fabric.is_global_zero:
            wanted = {"tensorboard": train.tensorboard, "wandb": train.wandb}
            self.records = Records(self.folder, self.ui, step=self.at.step, **wanted)
        self.began, self.clock = replace(self.at), time.perf_counter()
        self.pace, self.steady_since, self.saved_at = 0.0, 0.0, self.clock
        self.agreed = self.at.step, self.at.elapsed
        self.batch_views: list[Tensor] = []
        self.asked = False
        self.counter = LaunchCounter(lambda: self.timer.phase, fabric.device)

    def _first_position(self) -> Position:
        """Where the folder's checkpoint stands, or the very beginning."""
        path = self.folder.checkpoint
        alike(self.fabric, {"a checkpoint to go on from": path.exists(), **self.facts})
        if not path.exists():
            return Position()
        learned = {"method": self.method, "optimizer": self.optimizer, "scaler": self.scaler}
        at = load_checkpoint(path, facts=self.facts, rank=self.fabric.global_rank, **learned)
        self.ui.say(
            f"Resuming after step {at.step:,}: {at.batch} of {len(self.loader)} batches into epoch {at.epoch + 1}."
        )
        return at

    def _thread_choice(self) -> ThreadChoice | None:
        """Where threads of the CPU compute and nobody has said how many: a run that is gone on with has its own number,
        one of an earlier version had all.
        """
        setting, most = self.config.train.threads, all_threads()
        if setting != "auto":
            torch.set_num_threads(setting)
        elif self.fabric.device.type == "cpu" and self.fabric.world_size == 1 and not is_given():
            return ThreadChoice(most, self.at.threads or (most if self.at.step else 0))
        return None

    def _begin_phase(self, *, head_alone: bool) -> None:
        """Let the head learn on a fixed backbone, or all of the network; the ranks are told anew which gradients there
        are to share.
        """
        self.head_alone, self.phase_began, train = head_alone, self.at.step, self.config.train
        for parameter in self.backbone:
            parameter.requires_grad_(not head_alone)
        for encoder in encoders_of(self.method):
            encoder.train(not head_alone)
        self.network = self.fabric.setup_module(Step(self.method))
        pieces = pieces_of(train.batch_size, train.micro_batch)
        parts = self.network, self.method, self.fabric, self.timer
        self.differentiate = Differentiator(*parts, pieces=pieces)

    # --- what the loop does, in its order -------------------------------------------------------------------

    def begin(self) -> None:
        """Look at the network before its first step; given weights have a row of their own."""
        fresh = self.at.step == 0
        if self.beginning is not None:
            self.beginning.begin(fresh=fresh)
        if fresh and self.beginning is not None:
            self.report(self.examine(last=True))
        elif fresh and self.observer is not None and self._monitored:
            with self._watching:
                self.first_seen, _ = self._look(self.observer)
        self.tick()

    def batches(self) -> Iterator[Batch]:
        """The rest of the epoch. Where images behind an address can no longer be read, what was trained is saved."""
        try:
            yield from self.timer.each("data", self.loader.epoch(self.at.epoch, start=self.at.batch))
        except RemoteError:
            if self.fabric.world_size == 1:  # the others would not save with this one
                self.save()
            raise

    def step(self, batch: Batch) -> None:
        """One step of the optimiser on the views of a batch; with ``train.profile`` the operators of the last step
        before the timer begins are counted.
        """
        counted = self.config.train.profile and self.at.step - self.began.step == WARM_UP - 1
        with self.counter if counted else nullcontext():
            self._step(batch)

    def _step(self, batch: Batch) -> None:
        at, optim, timer = self.at, self.config.optim, self.timer
        plan, elapsed, groups = self.plan, self.tick(), self.optimizer.param_groups
        if self.head_alone and not plan.head_alone(at.step, elapsed):
            if self.beginning is not None:
                self.beginning.keep()
            self._begin_phase(head_alone=False)
        factors = plan.factor(at.step, elapsed), plan.backbone_factor(at.step, elapsed)
        set_learning_rate(groups, *(optim.learning_rate * factor for factor in factors))
        with timer("views"):
            seed = self.config.train.seed
            made = self._views_now()(batch.images, index=batch.index, epoch=at.epoch, seed=seed)
            self.batch_views = [view.contiguous(memory_format=self.layout) for view in made]
        shown = taught(self.batch_views, self.targets, batch)
        if self.threads is not None:
            self._settle(self.threads, shown)
        begun = time.perf_counter()
        with drawing, equal_rows():  # the loader gives every rank as many
            losses = self.differentiate(shown)
        if self.threads is not None:
            self.threads.note(time.perf_counter() - begun)
        self.meter.add(at.step + 1, at.epoch + 1, *losses)
        with timer("optimiser"):
            if optim.clip is not None:
                limits = {"max_norm": optim.clip, "error_if_nonfinite": False}
                self.fabric.clip_gradients(self.network, self.stepper, **limits)
            self.stepper.step()
            self.stepper.zero_grad()
            at.step += 1
            self.method.after_step(self.plan.progress(at.step, self.tick()))
        at.batch, at.images = at.batch + 1, at.images + len(batch.index) * self.fabric.world_size
        self.pace = (self.tick() - self.began.elapsed) / max(1, at.step - self.began.step)
        self._expect(at.step - self.phase_began)
        self.ui.step(self.plan.progress(at.step, at.elapsed), self._line())
        self.asked |= self._call("on_step", self.meter.last)

    def _views_now(self) -> Views:
        """The views of this step, which with ``views.progressive`` grow."""
        if not self.config.views.progressive:
            return self.views
        return self.views.scaled(self.plan.share_of_side(self.at.step, self.tick()))

    def _expect(self, steps: int) -> None:
        """Say how long the rest will take, when the first steps of the whole network have shown it, and it is long."""
        few, total = max(WARM_UP, self.every), self.plan.steps
        if self.head_alone or total is None:
            return
        if steps == few:
            self.steady_since = self.at.elapsed
        elif steps == 2 * few:
            left, each = total - self.at.step, (self.at.elapsed - self.steady_since) / few
            if self.config.views.progressive:
                each *= slower_later(self.at.step / total)
            if left * each >= LONG:
                self.ui.say(
                    f"About {duration(left * each)} for the other {left:,} steps, by the first {2 * few}."
                )

    def _settle(self, threads: ThreadChoice, views: list[Tensor]) -> None:
        """Choose the number of threads, where that is due, by passes of some of the images."""
        kind = torch.bfloat16 if precision_of(self.fabric) == "bf16" else None

        def timed() -> float:
            return time_step(self.method, few, kind)

        few = [view[:2] for view in views]
        if threads.is_due:
            few = brief(views, timed())
        if said := threads.settle(timed):
            self.ui.say(
                f"{said} ({option('train.threads', self.at.threads or threads.most)} keeps their number)"
            )
        self.at.threads = threads.number

    def decide(self, signal: str | None) -> None:
        """Agree with the other processes whether this was the last step, and whether a checkpoint is due: before the
        epoch is examined, which at the end of a run takes longer. Not after each step where that waits for a device.
        """
        at, minutes = self.at, self.config.train.checkpoint_minutes
        finished = self.plan.finished(at.step, at.elapsed, self.pace)
        early = at.step - self.began.step < self.every  # the pace is not known yet
        due = early or finished or at.batch == len(self.loader) or at.step % self.every == 0
        if self.fabric.world_size > 1 and not due:
            self.checkpoint_due = False
            return
        waited = time.perf_counter() - self.saved_at
        due = (at.batch == len(self.loader) or minutes > 0) and waited >= 60 * minutes
        flags = signal is not None, self.asked, finished, due
        votes, seconds = agreed(self.fabric, *flags, seconds=self._seconds())
        self.agreed = at.step, seconds
        interrupted, asked, self.finished, self.checkpoint_due = votes
        if not self.finished:
            self.stopped_by = signal or ("another process" if interrupted else CALLBACK if asked else None)

    def end_epoch(self) -> None:
        """Examine the network, write the epoch's row, and let the callbacks see it."""
        at, every = self.at, self.config.train.keep_every
        at.epoch, at.batch = at.epoch + 1, 0
        self.report(self.examine(last=self.stop))
        if every and at.epoch % every == 0 and self.fabric.is_global_zero:
            self.folder.keep_weights(at.epoch, self.method.state_dict())
        (asked,), _ = agreed(self.fabric, self._call("on_epoch", self.losses))
        if asked and not self.stop:
            self.stopped_by = CALLBACK

    def finish(self) -> None:
        """A row for the steps that have none yet, the last checkpoint, and the weights that the run ends with."""
        self.meter.flush()
        if self.at.sums and self.stopped_by is None:
            self.report(self.examine(last=True))
        self.save()
        wanted = self.config.train.load_best and self.stopped_by is None and self.at.step > 0
        if wanted and self.beginning is not None and not self.head_alone:
            chosen = self.beginning.choose()
            self._write_weights(chosen.name)
            self.chosen = f"The run ends with the weights of {chosen.name}: {chosen.why}."

    def close(self) -> None:
        """End the loader's workers, and what shows and records the run."""
        self.loader.close()
        self.ui.close()
        self.timer.close()
        if self.records is not None:
            self.records.close()

    # --- what the loop asks ---------------------------------------------------------------------------------------

    @property
    def stop(self) -> bool:
        """Whether no further step is taken."""
        return self.finished or self.stopped_by is not None

    @property
    def row_due(self) -> bool:
        """Whether a row is due within an epoch; the end has a row of its own."""
        return self.at.step % self.config.train.log_steps == 0 and not self.finished

    @property
    def speed(self) -> float:
        """Images per second since this process began."""
        return (self.at.images - self.began.images) / max(1e-9, self.at.elapsed - self.began.elapsed)

    @property
    def _monitored(self) -> bool:
        """Whether this process has a look after each epoch: the first, where that is wanted and can be."""
        can = self.observer is not None or self.views.recipe.views > 1
        return self.config.train.monitor and self.fabric.is_global_zero and can

    @property
    def _watching(self) -> AbstractContextManager[None]:
        """For what only watches: an operator without a deterministic algorithm stops no training there."""
        return deterministic(self.config.train.deterministic, warn_only=True)

    # --- clock, checkpoint, figures -------------------------------------------------------------------------

    def tick(self) -> float:
        """Bring the clock of the run up to date; its seconds of training, also before it was resumed.

        A schedule that follows the clock must be the same on all ranks: theirs goes on from what they agreed last, at
        the pace of the steps before.
        """
        at = self.at
        if self.config.train.minutes is None or self.fabric.world_size == 1:
            at.elapsed = self._seconds()
        else:
            step, seconds = self.agreed
            at.elapsed = seconds + (at.step - step) * self.pace
        return at.elapsed

    def _seconds(self) -> float:
        """Seconds of training by this process's own clock."""
        return self.began.elapsed + time.perf_counter() - self.clock

    def save(self) -> None:
        """Write a checkpoint and the weights; all processes wait for it."""
        self.meter.flush()
        self.tick()
        check_scale(self.scaler, self.at.step)
        generators = of_all_ranks(self.fabric, random_state())
        if self.fabric.is_global_zero:
            learned = {"method": self.method, "optimizer": self.optimizer, "scaler": self.scaler}
            rest = {"position": self.at, "facts": self.facts, "generators": generators}
            save_checkpoint(self.folder.checkpoint, **learned, **rest)
            self._write_weights()
        self.fabric.barrier()
        self.saved_at = time.perf_counter()

    def _write_weights(self, of: str = "student") -> None:
        write_weights(self.folder, self.method, seed=self.config.train.seed, step=self.at.step, of=of)

    def examine(self, *, last: bool) -> dict[str, float]:
        """What the monitor and the probe see; nothing that training depends on is touched."""
        with self._watching:
            return self._examine(last=last)

    def _examine(self, *, last: bool) -> dict[str, float]:
        found: dict[str, float] = {}
        require_finite(self.method, self.at.step)
        if self._monitored:
            state, found = self._look(self.observer)
            self.first_seen = state if self.at.step == 0 else self.first_seen
            self._warn(state)
        whole = self.at.batch == 0 and self.at.epoch % max(1, self.config.train.knn_epochs) == 0
        if self.probe is not None and (last or whole):
            with evaluation_mode(self.method):
                found |= self.probe(self.method)
        return found

    def _look(self, observer: Observer | None) -> tuple[CollapseMetrics, dict[str, float]]:
        """Collapse metrics and all figures of the observer's images, or of images of the last batch."""
        if observer is not None:
            seen = observer(self.method, autocast=self.fabric.autocast())
            beside = {} if self.beginning is None else self.beginning.compare(seen.features)
            return seen.collapse, {**seen.figures, **beside}
        with self.fabric.autocast():
            state = measure(self.method, [view[:MONITORED] for view in self.batch_views])
        return state, state.as_row()

    def _features(self, observer: Observer) -> Tensor:
        return observer.features(self.method, autocast=self.fabric.autocast())

    def _warn(self, state: CollapseMetrics) -> None:
        """Say what the run is failing at, once."""
        warned = self.warning is not None
        self.warning = verdict(
            state,
            progress=self.plan.progress(self.at.step, self.at.elapsed),
            steps=self.at.step,
            spread_setting=self.method.spread_setting,
            start=self.first_seen,
        )
        if self.warning and not warned:
            self.ui.say(self.warning, warning=True)

    def signal(self) -> dict[str, float]:
        """The share of signal in the gradient of this rank's part of the last batch, where that is asked for; all ranks
        look, since batch norm may be over all of them.
        """
        if not self.config.train.signal:
            return {}
        with drawing, self.fabric.autocast():
            share = self.method.signal_share(self.batch_views)
        return {} if share is None else {"signal_share": share}

    def report(self, found: Mapping[str, float]) -> None:
        """A row of the losses since the last one and of what was found."""
        self.losses = self.meter.take()
        self.figures = {**self.losses, **found}
        self.metrics.update(found)
        if self.records is not None:
            rate = self.optimizer.param_groups[-1]["lr"]  # the last has no scale of its own
            self.records.row(self.at, self.losses, found, rate=rate, speed=self.speed)
            if self.at.batch == 0:
                title = _title(self.at.epoch, self.config.train.epochs)
                self.records.epoch(title, self.losses, found, speed=self.speed)

    def _call(self, moment: Literal["on_step", "on_epoch"], losses: Mapping[str, float]) -> bool:
        """Whether a callback wants to stop."""
        if not self.callbacks:
            return False
        at = self.at
        fraction = self.plan.progress(at.step, at.elapsed)
        seen = Progress(at.step, at.epoch, at.images, at.elapsed, fraction, dict(losses), dict(self.metrics))
        return self.callbacks.call(moment, seen)

    def _line(self) -> str:
        """Where the run stands, what matters most first: time left, speed, epoch, losses, latest metrics, and the share
        of the time spent waiting for data.
        """
        at, title = self.at, _title(self.at.epoch + 1, self.config.train.epochs)
        left = duration(self.plan.remaining(at.step, at.elapsed, self.pace))
        shown = {name: self.metrics[name] for name in ("knn", "cosine") if name in self.metrics}
        return (
            f"{left} left  {self.speed:,.0f} images/s  {epoch_line(title, self.meter.last, shown)}  "
            f"data wait {self.timer.waiting():.0%}"
        )

    def summary(self) -> Summary:
        """What has become of the run."""
        return Summary(
            epochs=self.at.epoch + self.at.batch / len(self.loader),
            steps=self.at.step,
            images=self.at.images,
            seconds=self.at.elapsed,
            images_per_second=self.speed,
            last=self.figures,
            losses=tuple(self.losses),
            warning=self.warning,
            chosen=self.chosen,
            stopped_by=self.stopped_by,
            shares=self.timer.shares() if self.config.train.profile else None,
            launches={phase: self.counter.launches[phase] for phase in PHASES}
            if self.counter.launches
            else None,
            waits=self.counter.waits.total() if self.counter.launches else None,
            step_seconds=self.timer.step_seconds(),
        )


def _title(epoch: int, epochs: int | None) -> str:
    return f"epoch {epoch}" + (f"/{epochs}" if epochs else "")
