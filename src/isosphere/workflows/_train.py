"""A training in one call, from keywords to a run; the command line takes the same steps and prints between them."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from numpy.typing import ArrayLike
from rich.console import Console
from rich.text import Text

from isosphere.data import ImageSet, Source, as_name, as_source
from isosphere.errors import UsageError, option, printable
from isosphere.runs import RunFolder
from isosphere.training import STOPPED_BY, Callback, Config, ConsoleReporter, build, is_first, restarts
from isosphere.workflows._progress import has_widgets
from isosphere.workflows._run import Run, load
from isosphere.workflows._settings import (
    FLAGS,
    check_processes,
    configure,
    dotted,
    nothing_left,
    refuse_unknown,
    require_out,
    safe_workers,
)
from isosphere.workflows._training import prepare_training, resolve_without_images


def train(
    data: Any = None,
    out: str | Path | None = None,
    *,
    method: str | Mapping[str, Any] | None = None,
    discrepancy: str | None = None,
    ema: float | None = None,
    encoder: str | None = None,
    init: str | Path | None = None,
    distill: str | Path | None = None,
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
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
    labels: ArrayLike | None = None,
    **sections: Any,
) -> Run:
    """Train an encoder on images, without labels: ``run = isosphere.train("PICTURES", out="runs/a", epochs=50)``.

    Args:
        data: as on the command line (``"PICTURES"``, ``"textures:wood"``), a list of files, of folders or
            of PIL images, an array uint8 (n, h, w, 3), a torch ``Dataset``, or a ``Source``.
        out: folder of the run.
        method, discrepancy, ema, encoder, init, distill: as the flags of ``isosphere train``.
        epochs, minutes, batch_size, image_size, seed, preset, strict, profile, device: likewise; left out, as there.
        config: a YAML file, or a configuration such as ``run.config``, that the other keywords change.
        set: any keys, dotted: ``set={"data.limit": 1000}``.
        resume: go on with the run in `out`.
        dry_run: print what would be done, write nothing, and return the untrained run, with its whole ``config``.
        devices, nodes: of a process that torchrun or srun has started; several are started by the command line.
        callbacks: :class:`isosphere.training.Callback`, which see losses and metrics and may stop the training.
        progress: a bar and the closing sentences on standard error, or in the notebook; False: silence.
        labels: one an image, -1 for none; training never sees them, a k-NN accuracy is watched.
        sections: sections of the configuration: ``optim={"learning_rate": 1e-3}``, ``views={"rotation": 15}``; keys of
            ``data`` and ``method``, which are keywords of their own, go to `set`.

    The folder holds what ``isosphere train`` leaves there. Nothing of the process is changed: generators of torch,
    signal handlers and settings of the allocator are as before.

    Raises:
        UsageError: it cannot be trained so.
        RunError: the training fails.
        KeyboardInterrupt: after Ctrl-C, when all is saved; SystemExit after SIGTERM. An exception of a callback or of
            a dataset comes as it is. After all but the first ``resume=True`` goes on from the last checkpoint.
    """
    data = as_name(data)
    given = {name: value for name, value in locals().items() if name in FLAGS}
    refuse_unknown(sections, inspect.signature(train).parameters)
    if not dry_run:
        require_out(out, data)
    named = isinstance(data, (str, Path, Mapping)) or data is None
    source = None if named and labels is None else source_at_hand(data, labels)
    if source is not None:
        given["data"] = str(data) if named else source.name
    file = config if isinstance(config, (str, Path)) else None
    flags, sets = dotted(given, sections, set or {}, None if file else config)
    folder = None if out is None else RunFolder(out)
    resume = resume or restarts()[0] > 0
    chosen, note = configure(flags, folder, resume=resume, file=file, sets=sets, preset=preset)
    if (more := check_processes(chosen, devices)) is not None:
        raise UsageError(
            f"{option('devices', more[0])}, {option('nodes', more[1])} and {option('train.max_restarts')}: a call in "
            "Python trains in its own process. Start the script by torchrun, which has --max-restarts too, or train "
            f"on the command line: isosphere train ... --devices {more[0]}."
        )
    if is_first() and folder is not None:
        RunFolder.vacant(folder.path, resume=resume or dry_run)
    chosen, console = safe_workers(chosen), console_for(progress and is_first())
    named_only = source is None and resume and not dry_run
    if named_only and folder is not None and (done := nothing_left(chosen, folder)):
        console.print(Text(done), soft_wrap=True)
        return load(folder.path, device=device)
    if dry_run and source is None and preset and (known := resolve_without_images(chosen)) is not None:
        _show(console, known[1], known[0])
        return Run.of(folder or RunFolder("untrained"), known[0], build(known[0])[1].eval())
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
        return Run.of(training.folder, training.config, training.parts.method.eval())
    with training.started() as added:
        ui = ConsoleReporter(console, training.folder.log if is_first() else None)
        for text in (note, added.get("machine")):
            if text:
                ui.say(text)
        for text in training.warnings:
            reading.say(text, warning=True)
        for name, said in training.pictures.items():
            reading.say(f"{name}: {said}")
        summary = training.run(ui, callbacks)
    for text, warning in training.closing(summary):
        ui.say(text, warning=warning)
    if summary.interrupted == "Ctrl-C":
        raise KeyboardInterrupt
    if summary.interrupted:
        raise SystemExit(STOPPED_BY.get(summary.interrupted, 1))
    training.parts.fabric.barrier()  # the others read what the first has written last
    return replace(load(training.folder.path, device=str(training.parts.fabric.device)), images=source)


def source_at_hand(data: Any, labels: ArrayLike | None) -> Source:
    """Images at hand, with a name that says what they are; those of a name, where they have labels."""
    if isinstance(data, (str, Path, Source, ImageSet)) or not hasattr(data, "__len__"):
        return as_source(data, labels=labels, split="train")
    words = {"ndarray": "array", "Tensor": "array", "tuple": "list"}
    word = words.get(type(data).__name__, type(data).__name__)
    return as_source(data, labels=labels, name=f"{word} of {len(data):,} images", split="train")


def _show(console: Console, facts: Mapping[str, str], config: Config) -> None:
    text = "\n".join(printable(f"{name}: {value}") for name, value in facts.items())
    shown = yaml.safe_dump(config.as_mapping(), sort_keys=False, allow_unicode=True)
    console.print(Text(f"{text}\n\n{printable(shown.rstrip(), lines=True)}"), soft_wrap=True)


def console_for(shown: bool) -> Console:
    """Standard error, or the output of the cell of a notebook; silent unless `shown`."""
    if not shown:
        return Console(stderr=True, quiet=True, force_terminal=False)
    console = Console(stderr=True, highlight=False)
    # In a notebook a bar is a widget.
    moving = console.is_jupyter and has_widgets()
    return Console(stderr=True, highlight=False, force_terminal=True) if moving else console
