"""What an encoder is worth, beside what costs nothing: behind ``isosphere evaluate`` and ``Run.evaluate``."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from isosphere.data import as_name, left_out, set_aside, survey
from isosphere.deploy import Layer
from isosphere.errors import IsosphereError, RunError, UsageError, command, option, plural
from isosphere.evaluation import FeatureCache, Solver, TaskResult, read_results, update_results
from isosphere.report import loss_curves
from isosphere.runs import RunFolder, read_metrics
from isosphere.workflows._advice import better, images_of, longer, spread_out, steps_of
from isosphere.workflows._context import EvaluationContext
from isosphere.workflows._galleries import draw_label_neighbours, draw_view_neighbours
from isosphere.workflows._keywords import keywords_checked
from isosphere.workflows._progress import Callback, progress_bar
from isosphere.workflows._ranks import process_group
from isosphere.workflows._result import Evaluation
from isosphere.workflows._splits import changed_images, choose_ood, choose_splits, named, own_images
from isosphere.workflows._teacher import called
from isosphere.workflows._trained import Trained
from isosphere.workflows.tasks import choose_tasks, left_out_tasks, named_tasks


@keywords_checked
def evaluate(
    run: Trained | str | Path,
    data: Any = None,
    *,
    test: Any = None,
    tasks: str | Sequence[str] | None = None,
    ood: Any = (),
    labels: Sequence[int] | None = None,
    limit: int | None = None,
    strict: bool = False,
    probe: str = "lbfgs",
    layer: str | Sequence[str] = (),
    network: str | None = None,
    passes: int | None = None,
    baselines: bool = True,
    cache: bool = True,
    workers: int = 2,
    progress: bool | Callback = True,
) -> Evaluation:
    """Judge the encoder of a run, with 95 % intervals, beside the untrained one and fixed features.

    The figures go to ``evaluation.json`` in the run's folder, task by task, with pictures beside it (not those of an
    epoch, ``isosphere.load(path, epoch=10)``, nor of a teacher); where they cannot be written, the result says so.
    Memory grows by features alone: images are decoded as they are read.

    Args:
        run: a run or its folder.
        data: images, as :func:`isosphere.train` takes them; None: those that it was trained on.
        test: test images; None: the data's test part, else every fifth image. At hand and with labels:
            ``isosphere.data.as_source(array, labels=[...])``.
        tasks: names (:data:`isosphere.workflows.TASKS`); None: what is quick and the data allow.
        ood: a set of images of another kind, a list of sets, or a mapping of sets by name. A list of pictures is one
            set, a list of names several.
        labels: of `data`, where it has none of its own: integers, -1 for none.
        limit: so many training and test images, drawn by the run's seed.
        strict: refuse unreadable images instead of leaving them out.
        probe: how the linear probe is fitted: ``lbfgs``, ``adamw``, ``sgd``.
        layer: the output that is held against the others, one of ``run.layers``; of a ViT, judge also the class tokens
            of its last N blocks: ``last4``.
        network: ``student``, the network that learned, or ``teacher``, the slow copy of a method that has one; None: as
            the run says, which is the student.
        passes: how often each image passes through the network: features are averaged over it, its mirror image and
            slight crops. None: as often as the run says, which is once.
        baselines: the untrained network, pixels, whitened PCA, for textures a descriptor. Without them nothing says
            whether the training has paid, and a linear probe is done in a small part of the time.
        cache: keep features in the run's folder, and take those that are there.
        workers: processes that decode images.
        progress: a bar, or a callback ``(images done, images in all)``.

    Started by a launcher, the processes share the decoding and encoding; rank 0 has the result, the others an
    :class:`Evaluation` without tasks.

    Raises: UsageError for images, tasks or options that do not go together; RunError if nothing can be read.
    """
    asked, solver = named_tasks(tasks), _solver(probe)
    if not isinstance(run, Trained):
        RunFolder.require_first(run, data, command("evaluate", data, run))
        run = Trained.read(run, cache=cache)
    run = run if network is None else run.of_role(network)
    run = run if passes is None else run.looking(passes)
    judged, layers = _layers(run, layer)
    data, test = as_name(data), as_name(test)
    data = own_images(run) if data is None else data
    changed = changed_images(run, data)
    read_results(run.folder)  # a file that could not be added to is noticed before the work
    seed = run.config.train.seed
    splits = choose_splits(data, test, labels=labels, seed=seed, limit=limit)
    others = choose_ood(ood, seed=seed, limit=limit)
    kept = FeatureCache(run.folder.path / "features") if cache else None
    with process_group() as ranks, progress_bar("Computing features", progress and ranks.first) as bar:
        context = EvaluationContext(
            run,
            splits,
            others,
            ranks=ranks,
            cache=kept,
            strict=strict,
            workers=workers,
            layers=layers,
            judged=judged,
            probe=solver,
            baselines=baselines,
            progress=bar,
        )
        if not ranks.first:
            context.serve()
            return Evaluation({}, run.folder.path)
        results, unwritten = _judge(context, asked, named(data))
        pictures, undrawn = _draw(context, results)
    return Evaluation(
        results,
        run.folder.path,
        named(data),
        splits.how,
        trained_on=images_of(run, data),
        longer=longer(run, data),
        spread_out=spread_out(run, data),
        frozen=_frozen(context),
        better=better(run, data),
        unchanged=run.standing == "unchanged",
        steps=steps_of(run),
        notes=(*([changed] if changed else []), *_notes(context, results, asked, named(data)), *undrawn),
        pictures=pictures,
        unwritten=unwritten,
    )


def _judge(context: EvaluationContext, asked: Any, data: str) -> tuple[dict[str, TaskResult], str]:
    """Task by task, and why the figures could not be written. All that there are go to the file when a task is done, so
    that a failure later loses nothing, and a disk that is full keeps nothing from being judged. The file is the last
    weights': those of an epoch are evaluated beside it.
    """
    tasks = choose_tasks(context, asked)
    for task in tasks:
        context.plan(task.needs(context))
    results: dict[str, TaskResult] = {}
    folder, unwritten = context.run.folder, ""
    kept = context.run.is_last and folder.writable
    for task in tasks:
        found = task.run(context)
        parts = {need.part for need in task.needs(context)} - {"described"} or {"train", "test"}
        results[task.name] = replace(
            found,
            data=data,
            weights=context.run.judged(context.identity("trained")),
            images={part: context.content(part) for part in sorted(parts)},
        )
        try:
            if kept:
                update_results(folder, results.values())
            unwritten = ""
        except RunError as error:
            unwritten = f"The figures could not be kept: {error}"
    return results, unwritten


def _draw(context: EvaluationContext, results: dict[str, TaskResult]) -> tuple[dict[str, Path], list[str]]:
    """The pictures that can be drawn here, and why others cannot be."""
    folder = context.run.folder
    if find_spec("matplotlib") is None or not context.run.is_last or not folder.writable:
        return {}, []
    wanted: dict[str, Callable[[Path], object]] = {}
    if "retrieval" in results:
        wanted["neighbours"] = partial(draw_view_neighbours, context)
    elif "knn" in results:
        wanted["neighbours"] = partial(draw_label_neighbours, context)
    if len(read_metrics(folder.metrics)) >= 2:
        wanted["curves"] = partial(loss_curves, folder.metrics, title=folder.path.name)
    drawn: dict[str, Path] = {}
    undrawn: list[str] = []
    for name, draw in wanted.items():
        path = folder.path / f"{name}.png"
        try:
            draw(path)
            drawn[name] = path
        except (OSError, RunError) as error:
            undrawn.append(f"{path.name} is not drawn: {error}")
    return drawn, undrawn


def _notes(
    context: EvaluationContext, results: dict[str, TaskResult], asked: Any, data: str
) -> tuple[str, ...]:
    found = [context.note] if context.note else []
    if context.run.role == "teacher":
        found.append(
            "Judged: the teacher, the slow copy of the network. Its figures are not kept in the run's folder."
        )
    if (teacher := context.run.config.method.distill) is not None:
        with suppress(IsosphereError):  # it may be gone by now
            found.append(
                f"What it has learned from, on these images: {command('evaluate', called(teacher), data)}"
            )
    if context.cache is not None and context.cache.wrong:
        found.append(
            f"{plural(context.cache.wrong, 'file')} of kept features did not hold what this encoder computes, or "
            "was damaged: the features were computed anew."
        )
    if not context.run.folder.writable:
        found.append(f"{context.run.folder.path} cannot be written to: the figures are not kept.")
    if before := context.splits.unreadable:
        found.append(left_out(before, "the images, before the split,"))
    for part, everything in context.skipped.items():
        skipped = [item for item in everything if part not in ("train", "test") or item not in before]
        if skipped and part != "described":
            whose = {"train": "the training images", "test": "the test images"}.get(part, part)
            found.append(left_out(skipped, whose))
    asides = (set_aside(context.splits.train), set_aside(context.splits.test))
    found += [aside for aside in dict.fromkeys(asides) if aside]
    found += context.copies()
    if asked is None:
        if not context.splits.labelled:
            found.append(f"{context.splits.without_labels()} Without labels accuracy is not measured.")
        found += left_out_tasks(context)
    if context.white is not None:
        found += filter(None, (f"Pixels: {context.white.reason}.", context.white.caution))
    found += survey(context.splits.test.read_as(context.run.reading)).sentences
    found.append(f"Split: {context.splits.how}.")
    return (*found, *(result.hint for result in results.values() if result.hint))


def _layers(run: Trained, asked: str | Sequence[str]) -> tuple[Layer | None, list[str]]:
    """The output that is judged, and the blocks of a ViT that are judged beside it.

    Raises: UsageError for an output that the run does not have, or two of them.
    """
    names = list(dict.fromkeys([asked] if isinstance(asked, str) else asked))
    blocks = [name for name in names if re.fullmatch(r"last\d+", name)]
    outputs: list[Layer] = [run.check_layer(name) for name in names if name not in blocks]
    if len(outputs) > 1:
        raise UsageError(
            f"{option('layer')}: got {' and '.join(outputs)}, expected one, which is held against the others: evaluate "
            "twice."
        )
    return (outputs[0] if outputs else None), blocks


def _frozen(context: EvaluationContext) -> str:
    """Of a network that was not trained here, the output that was judged; else nothing."""
    return context.judged if context.run.frozen else ""


def _solver(name: str) -> Solver:
    for known in get_args(Solver):
        if name == known:
            return known
    raise UsageError(f"{option('probe')}: got '{name}', expected lbfgs, adamw or sgd.")
