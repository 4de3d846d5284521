"""A training step by step: prepared, started in its folder, run, and what is said at its end."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from isosphere.atomic import write_bytes
from isosphere.data import Source, located
from isosphere.errors import RunError, UsageError, command, option, plural
from isosphere.evaluation import learn_wccn
from isosphere.models import Encoder, EncoderRecord
from isosphere.runs import RunFolder, changed_since
from isosphere.training import (
    START,
    Callback,
    Config,
    ConsoleReporter,
    Parts,
    Summary,
    contact_sheet,
    duration,
    fit,
    is_first,
    least_steps,
    lengthened,
    open_training_source,
    prepare,
    prepare_without_images,
    require_same_run,
)
from isosphere.workflows._advice import adapt_instead
from isosphere.workflows._gain import Gain, gain_over_start
from isosphere.workflows._probe import KNNProbe, online_knn
from isosphere.workflows._settings import OTHER_BITS, require_stored
from isosphere.workflows._teacher import Teacher

Count = Callable[[int, int], None]


@dataclass
class Training:
    """A training that is prepared: within ``started()`` its folder is there and held, ``run(ui)`` trains in it."""

    parts: Parts
    folder: RunFolder
    resume: bool = False
    note: str | None = None
    """What there is to say about resuming."""
    at_hand: bool = False
    """Whether the images were given as such, not by name."""
    _probe: KNNProbe | None = field(default=None, repr=False)
    _gain: Gain | None = field(default=None, repr=False)

    @property
    def config(self) -> Config:
        """The configuration, complete."""
        return self.parts.config

    @property
    def facts(self) -> dict[str, str]:
        """What is worth knowing before it starts, in plain words."""
        return self.parts.facts

    @property
    def start(self) -> dict[str, str]:
        """What will happen, in five lines, and what is out of the ordinary; :attr:`facts` is the rest."""
        shown = ["expect", *(["teacher"] if self.config.method.distill else [])]
        advice = {"advice": " ".join(self.parts.advice)} if self.parts.advice else {}
        watched = (
            {"watch": "cosine of different images: 0 spread, 1 collapsed"} if self.parts.observer else {}
        )
        return {
            **self.parts.start,
            **watched,
            **{name: self.facts[name] for name in shown if name in self.facts},
            **self.pictures,
            **advice,
        }

    @property
    def pictures(self) -> dict[str, str]:
        """What was decided about the pictures; what is not seen of them only where it could be."""
        named = ("pixels", "panoramas", *(() if self.config.data.whole else ("seen",)))
        return {name: self.facts[name] for name in named if name in self.facts}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth a second thought."""
        return self.parts.warnings

    @contextmanager
    def started(self) -> Iterator[dict[str, str]]:
        """Make the folder, with the configuration and a sheet of views, and hold it within the block; yields the facts
        that this has added.

        Raises: UsageError or RunError for a folder that cannot be used, is being trained, or holds a run of other
            images.
        """
        if not is_first():
            yield {}
            return
        RunFolder.create(self.folder.path, resume=self.resume)
        with self.folder.locked():
            yield self._start()

    def _start(self) -> dict[str, str]:
        parts, folder = self.parts, self.folder
        added: dict[str, str] = {}
        if folder.checkpoint.exists():  # a run that is refused keeps its config.yaml
            seed = self.config.train.seed
            known = {**parts.identity, "batches per epoch": len(parts.loader), "seed": seed}
            require_same_run(folder.checkpoint, known)
            if changed := changed_since(folder.read_environment()):
                added["machine"] = f"now {', '.join(changed)}: {OTHER_BITS}"
        folder.write_config(self.config.as_mapping())
        folder.write_environment()
        typed = self.config.data.source or ""
        where = "" if self.at_hand else located(typed)
        folder.write_images(typed, where, len(parts.images), parts.fingerprint)
        skipped = parts.images.unreadable if isinstance(parts.images, Source) else parts.images.skipped
        if skipped:
            added["left out"] = f"{plural(len(skipped), 'file')}, all in {folder.write_left_out(skipped)}"
        if parts.targets is not None and not folder.targets.exists():
            folder.write_targets(parts.targets)
        if not folder.checkpoint.exists():
            first, picture = next(iter(parts.loader.epoch(0))).images[:8], io.BytesIO()
            contact_sheet(first, parts.views, seed=self.config.train.seed).save(picture, "PNG")
            write_bytes(folder.path / "views.png", picture.getvalue())
        if (watched := online_knn(parts)) is not None:
            self._probe, added["k-NN"] = watched
        self.facts.update(added)
        return added

    def run(self, ui: ConsoleReporter, callbacks: Callback | Sequence[Callback] = ()) -> Summary:
        """Train, and learn the WCCN of the encoder unless it was interrupted; the caller's generators are untouched.

        A process that is not the first trains along and writes nothing.
        """
        parts, first = self.parts, is_first()
        args = self.config, self.folder, parts.method, parts.loader, parts.views, parts.fabric
        given = {"facts": parts.identity, "targets": parts.targets, "callbacks": callbacks}
        if first:
            for line in [*(f"{name}: {value}" for name, value in self.facts.items()), *self.warnings]:
                ui.note(line)
        if not first:
            return fit(*args, **given)
        watch: dict[str, Any] = {"observer": parts.observer, "probe": self._probe, "ui": ui}
        summary = fit(*args, **given, **watch)
        late = getattr(parts.loader, "skipped", {})
        if late:
            names = ", ".join(list(late)[:3])
            were = "was" if len(late) == 1 else "were"
            count = plural(len(late), "image")
            ui.say(f"{count} could not be read and {were} passed over: {names}.", warning=True)
        if not summary.interrupted:
            if self._may_lose and summary.steps and not self.is_too_short(summary):
                right = None if self._probe is None else self._probe.right
                self._gain = gain_over_start(parts, right)
            with closing(ui):
                self._learn_wccn(summary, lambda done, total: ui.step(done / max(1, total), "WCCN"))
        return summary

    def _learn_wccn(self, summary: Summary, progress: Count) -> None:
        """From views of some training images, what a neighbour should overlook; from fewer where the training was so
        short that more would take long beside it.
        """
        data, method = self.config.data, self.parts.method
        width = cast(Encoder, method.encoder).feature_dim
        metric = learn_wccn(
            method.embed,
            self.parts.images,
            self.parts.views,
            canvas=data.canvas_size or 32,
            whole=data.whole,
            count=max(256, min(4 * width, summary.images // 20)),
            seed=self.config.train.seed,
            workers=max(1, data.workers),
            progress=progress,
        )
        metric.keep(self.folder)

    def again(self, **options: Any) -> str:
        """What to type to go on with it."""
        return command("train", self.data, out=self.folder.path, resume=True, **options)

    @property
    def data(self) -> str:
        """The images as a command names them."""
        return "DATA" if self.at_hand else self.config.data.source or "DATA"

    def closing(self, summary: Summary) -> list[tuple[str, bool]]:
        """Sentences on what was done, each with whether it is a warning."""
        steps = plural(summary.steps, "step")
        if summary.interrupted:
            said = f"Stopped by {summary.interrupted} after {steps}; everything is saved. Go on with: "
            return [(said + self.again(), False)]
        if summary.stopped_by:
            said = f"Stopped by {summary.stopped_by} after {steps}. Go on with: {self.again()}"
        elif summary.steps == 0:
            given = self.config.model.init != "random"
            begun = (
                "weights that it was given"
                if given
                else f"untrained encoder of seed {self.config.train.seed}"
            )
            said = f"{self.folder.path} holds the {begun}."
        else:
            loss = f"; loss {summary.last['total']:.4g}" if "total" in summary.last else ""
            said = (
                f"Trained {plural(summary.epochs, 'epoch')} ({steps}) in {duration(summary.seconds)}, "
                f"{summary.images_per_second:,.0f} images/s{loss}."
            )
        chosen = [(summary.chosen, False)] if summary.chosen else []
        warnings = [summary.warning] if summary.warning else []
        more = ", ".join(option(name, value) for name, value in self._more(summary).items())
        if self.is_too_short(summary):
            warnings.append(
                f"Train longer ({more}): this run has {steps}, and {self.config.method.name} needs about "
                f"{least_steps(self.parts.method):,} until its features are better than an untrained network's."
            )
        elif self._gain is not None and not self._gain.clear:
            warnings.append(
                f"Train longer ({more}), or take {option('method', self.parts.method.spread_form)}, which learns from "
                f"the start: after {steps} {self._gain}. {self.config.method.name} has no term that spreads its "
                "embeddings, and its features get worse at first."
            )
        return [(said, False), *chosen, *((warning, True) for warning in warnings)]

    @property
    def _may_lose(self) -> bool:
        """Whether its method may end below the network that it started from: one that has nothing to spread by."""
        return self.parts.method.least_steps > 0 and self.config.model.init == "random"

    def is_worth_judging(self, summary: Summary) -> bool:
        """Whether it is long enough for its method, and above the network that it started from where that was asked."""
        return not self.is_too_short(summary) and (self._gain is None or self._gain.clear)

    def is_too_short(self, summary: Summary) -> bool:
        """Whether it has ended before its method has begun; where it ends with the best weights nothing is lost."""
        train = self.config.train
        asked = (train.minutes or train.epochs) and not train.load_best
        return bool(asked) and summary.stopped_by is None and summary.steps < least_steps(self.parts.method)

    @property
    def instead(self) -> str:
        """What to type where the run has ended with the weights that it began with: adapting them. Else empty."""
        if self.folder.read_chosen().get("weights") != START:
            return ""
        return adapt_instead(self.config.model.encoder, self.config.model.init, self.data)

    def longer(self, summary: Summary) -> str:
        """What to type to go on for longer (:func:`isosphere.training.lengthened`)."""
        return self.again(**self._more(summary))

    def _more(self, summary: Summary) -> dict[str, int]:
        return lengthened(self.config.train, steps=summary.steps, epoch=len(self.parts.loader))


def prepare_training(
    config: Config,
    folder: RunFolder,
    *,
    resume: bool = False,
    note: str | None = None,
    source: Source | None = None,
    progress: Count | None = None,
) -> Training:
    """Open the images, fill in what was left open and build everything; nothing is written.

    Args:
        config, note: of :func:`isosphere.workflows._settings.configure`.
        source: the images, where they are at hand and not named by the configuration.
        progress: called with (images read, images in all).
    """
    if resume and folder.config.exists():
        require_stored(config, folder)
    begun = resume and folder.checkpoint.exists()
    teacher, record = None, _record(folder) if begun else None
    if config.method.distill is not None:
        kept = folder.read_targets() if begun else None
        teacher = Teacher(config.method.distill, config.data.workers, progress, kept)
    parts = prepare(
        config, source=source, record=record, teach=teacher and teacher.targets, progress=progress
    )
    if teacher is not None:
        parts.facts["teacher"] = teacher.fact
    return Training(parts, folder, resume, note, source is not None)


def _record(folder: RunFolder) -> dict[str, Any] | None:
    """What a run says of its encoder. None where that is lost: it is built as at the start, and takes the weights of
    the checkpoint, or is refused; with these the record is written anew.
    """
    try:
        spec = folder.read_spec()
        EncoderRecord.parse(spec, folder.encoder_spec)
    except RunError:
        return None
    return spec


def resolve_without_images(config: Config) -> tuple[Config, dict[str, str]] | None:
    """The configuration completed, and what is known, where the images it names cannot be opened; None if they can."""
    try:
        open_training_source(config, settled=False)
    except UsageError as error:
        resolved, known = prepare_without_images(config)
        return resolved, {"data": f"resolved without images: {error}", **known}
    return None
