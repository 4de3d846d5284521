"""A training from its settings to a run: for the command line step by step, for Python in one call."""

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from numpy.typing import ArrayLike
from rich.console import Console

from isosphere.data import ImageSet, Source
from isosphere.deploy.pictures import as_source
from isosphere.errors import UsageError, command, option
from isosphere.evaluation import learn_wccn
from isosphere.models import Encoder
from isosphere.runs import RunFolder, write_bytes
from isosphere.training import (
    Config,
    ConsoleReporter,
    Parts,
    Summary,
    build,
    contact_sheet,
    duration,
    fit,
    is_first,
    loss_line,
    open_training_source,
    prepare,
    prepare_without_images,
    require_same_run,
)
from isosphere.workflows._run import Run, load, run_of
from isosphere.workflows.probe import online_knn
from isosphere.workflows.settings import (
    FLAGS,
    check_processes,
    configure,
    dotted,
    refuse_unknown,
    require_out,
    safe_workers,
)

__all__ = ["Training", "prepare_training", "resolve_without_images", "train"]

Count = Callable[[int, int], None]


@dataclass
class Training:
    """A training that is prepared: ``start()`` makes its folder, ``run(ui)`` trains and returns what became of it."""

    parts: Parts
    folder: RunFolder
    resume: bool = False
    note: str | None = None
    """What there is to say about resuming."""
    at_hand: bool = False
    """Whether the images were given as such, not by name."""
    _probe: Any = field(default=None, repr=False)

    @property
    def config(self) -> Config:
        """The configuration, complete."""
        return self.parts.config

    @property
    def facts(self) -> dict[str, str]:
        """What is worth knowing before it starts, in plain words."""
        return self.parts.facts

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth a second thought."""
        return self.parts.warnings

    def start(self) -> dict[str, str]:
        """Make the folder, with the configuration and a sheet of views; the facts that this has added.

        Raises: UsageError or RunError for a folder that cannot be used, or holds a run of other images.
        """
        if not is_first():
            return {}
        RunFolder.create(self.folder.path, resume=self.resume)
        parts, folder = self.parts, self.folder
        if folder.checkpoint.exists():  # a run that is refused keeps its config.yaml
            seed = self.config.train.seed
            known = {**parts.identity, "batches per epoch": len(parts.loader), "seed": seed}
            require_same_run(folder.checkpoint, known)
        folder.write_config(self.config.as_mapping())
        folder.write_environment()
        if not folder.checkpoint.exists():
            first, picture = next(iter(parts.loader.epoch(0))).images[:8], io.BytesIO()
            contact_sheet(first, parts.views, seed=self.config.train.seed).save(picture, "PNG")
            write_bytes(folder.path / "views.png", picture.getvalue())
        watched = online_knn(parts)
        if watched is None:
            return {}
        self._probe, self.facts["k-NN"] = watched
        return {"k-NN": watched[1]}

    def run(self, ui: ConsoleReporter, callbacks: Sequence[Any] = ()) -> Summary:
        """Train, and learn the WCCN of the encoder unless it was interrupted; the caller's generators are untouched.

        A process that is not the first trains along and writes nothing.
        """
        parts, first = self.parts, is_first()
        args = self.config, self.folder, parts.method, parts.loader, parts.views, parts.fabric
        if first:
            for line in [*(f"{name}: {value}" for name, value in self.facts.items()), *self.warnings]:
                ui.note(line)
        more: dict[str, Any] = {"callbacks": callbacks} if callbacks else {}
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        with torch.random.fork_rng(devices=list(devices)):
            torch.manual_seed(self.config.train.seed)
            if not first:
                return fit(*args, facts=parts.identity, **more)
            more |= {"observer": parts.observer, "probe": self._probe, "ui": ui}
            summary = fit(*args, facts=parts.identity, **more)
        late = getattr(parts.loader, "skipped", {})
        if late:
            names = ", ".join(list(late)[:3])
            ui.say(f"{len(late)} images could not be read and were passed over: {names}.", warning=True)
        if not summary.interrupted:
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
        if summary.interrupted:
            said = f"Stopped by {summary.interrupted} after {summary.steps:,} steps; everything is saved. Go on with: "
            return [(said + self.again(), False)]
        if summary.steps == 0:
            said = f"{self.folder.path} holds the untrained encoder of seed {self.config.train.seed}."
        else:
            losses = {k: summary.last[k] for k in summary.losses}
            said = (
                f"Trained {summary.epochs:.4g} epochs ({summary.steps:,} steps) in {duration(summary.seconds)}, "
                f"{summary.images_per_second:,.0f} images/s. {loss_line(losses)}"
            )
        return [(said, False), *([(summary.warning, True)] if summary.warning else [])]


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
        config, note: of :func:`isosphere.workflows.settings.configure`.
        source: the images, where they are at hand and not named by the configuration.
        progress: called with (images read, images in all).
    """
    return Training(
        prepare(config, source=source, progress=progress), folder, resume, note, source is not None
    )


def resolve_without_images(config: Config) -> tuple[Config, dict[str, str]] | None:
    """The configuration completed, and what is known, where the images it names cannot be opened; None if they can."""
    try:
        open_training_source(config)
    except UsageError as error:
        resolved, known = prepare_without_images(config)
        return resolved, {"data": f"resolved without images: {error}", **known}
    return None


def train(
    data: Any = None,
    out: str | Path | None = None,
    *,
    method: str | Mapping[str, Any] | None = None,
    encoder: str | None = None,
    init: str | Path | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    seed: int | None = None,
    preset: str | None = None,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    set: Mapping[str, Any] | None = None,
    resume: bool = False,
    strict: bool | None = None,
    dry_run: bool = False,
    profile: bool | None = None,
    device: str | None = None,
    devices: int | None = None,
    nodes: int | None = None,
    callbacks: Sequence[Any] = (),
    progress: bool = True,
    labels: ArrayLike | None = None,
    **sections: Any,
) -> Run:
    """Train an encoder on images, without labels: ``run = isosphere.train("PICTURES", out="runs/a", epochs=50)``.

    Args:
        data: as on the command line (``"PICTURES"``, ``"textures:wood"``), a list of files or of PIL images, an array
            uint8 (n, h, w, 3), a torch ``Dataset``, or a ``Source``.
        out: folder of the run.
        method, encoder, init, epochs, minutes, batch_size, image_size, seed, preset, strict, profile, device: as the
            flags of ``isosphere train``; what is left out is chosen as there.
        config: a YAML file, or a configuration such as ``run.config``, that the other keywords change.
        set: any keys, dotted: ``set={"data.limit": 1000}``.
        resume: go on with the run in `out`.
        dry_run: print what would be done, write nothing, and return the untrained run, with its whole ``config``.
        devices, nodes: of a process that torchrun or srun has started; several are started by the command line.
        callbacks: :class:`isosphere.training.Callback` or the like; see :func:`isosphere.training.fit`.
        progress: a bar and the closing sentences on standard error, or in the notebook; False: silence.
        labels: one an image, -1 for none; training never sees them, a k-NN accuracy is watched.
        sections: sections of the configuration: ``optim={"learning_rate": 1e-3}``, ``views={"rotation": 15}``.

    The folder holds what ``isosphere train`` leaves there. Nothing of the process is changed: generators of torch,
    signal handlers and settings of the allocator are as before.

    Raises: UsageError for what cannot be trained with; RunError where the training fails; KeyboardInterrupt after
        Ctrl-C and SystemExit after SIGTERM, when all is saved. An exception of a callback or of a dataset comes as it
        is. After all but the first ``resume=True`` goes on from the last checkpoint.
    """
    given = {name: value for name, value in locals().items() if name in FLAGS}
    refuse_unknown(sections, inspect.signature(train).parameters)
    if not dry_run:
        require_out(out, data)
    named = isinstance(data, (str, Path, Mapping)) or data is None
    source = None if named and labels is None else _source(data, labels)
    if source is not None:
        given["data"] = str(data) if named else source.name
    file = config if isinstance(config, (str, Path)) else None
    flags, sets = dotted(given, sections, set or {}, None if file else config)
    folder = None if out is None else RunFolder(out)
    chosen, note = configure(flags, folder, resume=resume, file=file, sets=sets, preset=preset)
    if (more := check_processes(chosen, devices)) is not None:
        raise UsageError(
            f"{option('devices', more[0])} and {option('nodes', more[1])}: a call in Python trains in its own process. "
            "Start the script by torchrun, or train on the command line: isosphere train ... --devices "
            f"{more[0]}."
        )
    if is_first() and folder is not None:
        RunFolder.vacant(folder.path, resume=resume or dry_run)
    chosen, console = safe_workers(chosen), _console(progress and is_first())
    if dry_run and source is None and preset and (known := resolve_without_images(chosen)) is not None:
        _show(console, known[1], known[0])
        return run_of(folder or RunFolder("untrained"), known[0], build(known[0])[1].eval())
    with closing(ConsoleReporter(console)) as reading:
        training = prepare_training(
            chosen,
            folder or RunFolder("untrained"),
            resume=resume,
            note=note,
            source=source,
            progress=lambda done, total: reading.step(done / max(1, total), "Reading images"),
        )
    if dry_run:
        _show(console, training.facts, training.config)
        return run_of(training.folder, training.config, training.parts.method.eval())
    training.start()
    ui = ConsoleReporter(console, training.folder.log if is_first() else None)
    if note:
        ui.say(note)
    for text in training.warnings:
        reading.say(text, warning=True)
    summary = training.run(ui, callbacks)
    for text, warning in training.closing(summary):
        ui.say(text, warning=warning)
    if summary.interrupted == "Ctrl-C":
        raise KeyboardInterrupt
    if summary.interrupted:
        raise SystemExit(1)
    training.parts.fabric.barrier()  # the others read what the first has written last
    return replace(load(training.folder.path, device=str(training.parts.fabric.device)), images=source)


def _source(data: Any, labels: ArrayLike | None) -> Source:
    """Images at hand, with a name that says what they are; those of a name, where they have labels."""
    if isinstance(data, (str, Path, Source, ImageSet)) or not hasattr(data, "__len__"):
        return as_source(data, labels=labels, split="train")
    words = {"ndarray": "array", "Tensor": "array", "tuple": "list"}
    word = words.get(type(data).__name__, type(data).__name__)
    return as_source(data, labels=labels, name=f"{word} of {len(data):,} images", split="train")


def _show(console: Console, facts: Mapping[str, str], config: Config) -> None:
    text = "\n".join(f"{name}: {value}" for name, value in facts.items())
    shown = yaml.safe_dump(config.as_mapping(), sort_keys=False, allow_unicode=True)
    console.print(f"{text}\n\n{shown.rstrip()}", markup=False, soft_wrap=True)


def _console(shown: bool) -> Console:
    """Standard error, or the output of the cell of a notebook; silent unless `shown`."""
    if not shown:
        return Console(stderr=True, quiet=True, force_terminal=False)
    console = Console(stderr=True, highlight=False)
    # In a notebook a bar is a widget, where there are any.
    widgets = console.is_jupyter and find_spec("ipywidgets") is not None
    return Console(stderr=True, highlight=False, force_terminal=True) if widgets else console
