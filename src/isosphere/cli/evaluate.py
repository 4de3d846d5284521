"""``isosphere evaluate``: what an encoder is worth, beside what costs nothing."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isosphere.cli.console import (
    NoCache,
    counting,
    error_console,
    facts,
    output_console,
    paragraph,
    shell,
    table,
)
from isosphere.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from isosphere.cli.exam import Exam
    from isosphere.cli.tasks import Judgement
    from isosphere.cli.team import Team
    from isosphere.evaluation.linear import Solver

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Images, as for isosphere train.", show_default=False)
    ],
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Test images.", show_default="DATA's test part, else every fifth image"
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Of knn, linear, ridge, retrieval, ood, geometry, unlabelled, checkpoints.",
            show_default="what is quick and the data allow",
        ),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="Images of another kind; may be repeated.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Use so many training and test images.", show_default="all")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse unreadable images instead of skipping them.")
    ] = False,
    probe: Annotated[
        str, typer.Option(metavar="lbfgs|adamw|sgd", help="How the linear probe is fitted.")
    ] = "lbfgs",
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="lastN",
            help="Of a ViT, judge also the class tokens of its last N blocks; may be repeated.",
            show_default=False,
        ),
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Judge the encoder of a run, with 95 % intervals, beside the untrained one and fixed features.

    isosphere evaluate RUN PICTURES

    With labels (a folder for each class): k-nearest-neighbour accuracy. Without: whether an image's other
    view is found among a hundred, and how the embeddings lie on the sphere. With --ood: whether images of
    another kind are told from unseen ones of this. Figures go to evaluation.json in
    the run's folder, with pictures beside it. Started by torchrun, the processes share the decoding and
    encoding of the images.
    """
    asked, solver = _parse_tasks(tasks), _parse_probe(probe)
    from isosphere.cli.exam import Exam, load_run
    from isosphere.cli.sets import choose_outside, choose_sets
    from isosphere.cli.tasks import TASKS, default_tasks
    from isosphere.cli.team import assembled
    from isosphere.evaluation import FeatureCache

    console = output_console()
    loaded = load_run(run)
    sets = choose_sets(data, test, seed=loaded.config.train.seed, limit=limit)
    outside = choose_outside(ood or [], seed=loaded.config.train.seed, limit=limit)
    done: dict[str, Judgement] = {}
    cache = None if no_cache else FeatureCache(loaded.folder.path / "features")
    with assembled() as team, counting(_bar(team), "Computing features") as progress:
        exam = Exam(
            loaded,
            sets,
            device=team.device,
            progress=progress,
            outside=outside,
            strict=strict,
            cache=cache,
            layers=list(dict.fromkeys(layer or [])),
            probe=solver,
            team=team,
        )
        if not team.first:
            exam.serve()
            return
        names = asked or [name for name in default_tasks(exam) if name != "geometry" or len(exam.test) >= 20]
        if "unlabelled" in names and loaded.folder.kept_epochs():
            names = list(dict.fromkeys([*names, "checkpoints"]))
        for name in names:
            done[name] = TASKS[name](exam)
    loaded.folder.update_evaluation({name: {**made.entry(), "data": data} for name, made in done.items()})
    for made in done.values():
        for section in made.sections():
            table(console, section.title, section.columns, section.rows)
            console.print()
    if exam.note:
        paragraph(console, exam.note, style="yellow")
    if not sets.labelled and asked is None:
        paragraph(
            console, "The images have no labels (no folder for each class): accuracy cannot be measured."
        )
    paragraph(console, f"Division: {sets.division}.")
    for made in done.values():
        if made.hint:
            paragraph(console, made.hint)
    facts(console, _pictures(exam, done))
    paragraph(console, _closing(loaded.folder.path, data, done))


def _bar(team: "Team") -> "Console":
    """Where progress is shown: by the first process alone."""
    console = error_console()
    console.quiet = not team.first
    return console


def _parse_tasks(text: str | None) -> list[str] | None:
    known = ("knn", "linear", "ridge", "retrieval", "ood", "geometry", "unlabelled", "checkpoints")
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"There is no task '{name}'.{nearest(name, known)} Known: {','.join(known)}.")
    if not names:
        raise UsageError(f"--tasks is empty: give some of {','.join(known)}, or leave it out.")
    return list(dict.fromkeys(names))


def _parse_probe(name: str) -> "Solver":
    if name == "lbfgs":
        return "lbfgs"
    if name == "adamw":
        return "adamw"
    if name == "sgd":
        return "sgd"
    raise UsageError(f"--probe: got '{name}', expected lbfgs, adamw or sgd.")


def _pictures(exam: "Exam", done: "dict[str, Judgement]") -> dict[str, str]:
    """Draw what can be drawn, and say where it is."""
    folder = exam.run.folder
    written = {"figures": str(folder.evaluation)}
    if find_spec("matplotlib") is None:
        return {**written, "pictures": "not drawn: pip install 'isosphere[report]'"}
    from isosphere.cli.gallery import draw_label_neighbours, draw_view_neighbours
    from isosphere.report import loss_curves
    from isosphere.runs import read_metrics

    gallery = folder.path / "neighbours.png"
    if "retrieval" in done:
        draw_view_neighbours(exam, gallery)
        written["neighbours"] = str(gallery)
    elif "knn" in done:
        draw_label_neighbours(exam, gallery)
        written["neighbours"] = str(gallery)
    if len(read_metrics(folder.metrics)) >= 2:
        written["curves"] = str(
            loss_curves(folder.metrics, folder.path / "curves.png", title=folder.path.name)
        )
    return written


def _closing(run: Path, data: str, done: "dict[str, Judgement]") -> str:
    """One sentence on what the figures mean and what to type next."""
    remarks = [made.remark for made in done.values() if made.remark]
    judged = next((made for made in done.values() if made.gain is not None), None)
    longer = shell("isosphere", "train", data, "--out", run, "--resume", "--epochs", "N")
    if remarks:
        return f"{remarks[0]} Train longer ({longer}), or anew with a larger --set method.weight=..."
    if judged is None or judged.gain is None:
        return f"Compare with another run, or train longer: {longer}"
    low, value, high = (100 * x for x in (judged.gain.low, judged.gain.value, judged.gain.high))
    margin = f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"
    if judged.gain.low > 0:
        return (
            f"{judged.headline}, {margin} against the next best, {judged.rival}: the training has "
            "paid; to see "
            f"whether more of it pays further, type {longer}"
        )
    if judged.gain.high < 0:
        return (
            f"{judged.headline}, {margin} against {judged.rival}, which is better: this encoder is not "
            "worth using "
            f"yet; train longer ({longer}) or look at its views: {shell('isosphere', 'views', data)}"
        )
    return (
        f"{judged.headline}, which cannot be told from {judged.rival} (difference {margin}): train longer "
        f"({longer}) or "
        "evaluate on more images."
    )
