"""What an evaluation found, as Python hands it on and as the command line says it."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from isosphere.errors import UsageError, command, option
from isosphere.evaluation import Estimate, Figure, TaskResult
from isosphere.report import Table, data_uri, evaluation_tables, model_words
from isosphere.training import ENOUGH
from isosphere.workflows.tasks import EASY, TASKS, points


def tables_of(runs: Mapping[str, Mapping[str, TaskResult]]) -> list[Table]:
    """The tables of one run or of several side by side, from the results of their tasks by name."""
    return evaluation_tables(runs, {name: task.layouts for name, task in TASKS.items()})


@dataclass(frozen=True, repr=False)
class Evaluation(Mapping[str, TaskResult]):
    """The results of tasks by name: ``evaluation["knn"].one(model="trained", layer="backbone")``.

    In a notebook it shows its tables; ``print(evaluation)`` prints them. :meth:`records` and :meth:`to_pandas` hold
    every figure.

    Args:
        run: folder of the run. data: the images as they were named. split: how they were split.
        trained_on: the images of the training as a command names them; empty where it cannot be gone on with.
        frozen: of a network that was not trained here, the output that was judged. better: what to type to adapt it.
        unchanged: whether the training ended with the weights of its start.
        longer, spread_out: what to type to train it longer, and to do about embeddings that are nearly one point.
        steps: of the training, 0 where they are not known.
        notes: what a reader should know beside the figures.
        pictures: files that were drawn, by what they show.
        unwritten: why the figures are not in the run's ``evaluation.json``, where that failed.
    """

    results: Mapping[str, TaskResult]
    run: Path
    data: str = ""
    split: str = ""
    trained_on: str = ""
    longer: str = ""
    spread_out: str = ""
    frozen: str = ""
    better: str = ""
    unchanged: bool = False
    steps: int = 0
    notes: tuple[str, ...] = ()
    pictures: Mapping[str, Path] = field(default_factory=dict)
    unwritten: str = ""

    def __getitem__(self, task: str) -> TaskResult:
        if task not in self.results:
            there = ", ".join(self.results) or "nothing"
            raise KeyError(f"{task}: the evaluation holds {there}; for more, name them in tasks=")
        return self.results[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @property
    def figures(self) -> list[tuple[str, Figure]]:
        """Every figure with its task."""
        return [(task, figure) for task, result in self.results.items() for figure in result.figures]

    @property
    def facts(self) -> dict[str, Any]:
        """What was judged, on which images, and what is to be said of it."""
        return {
            "run": str(self.run),
            "data": self.data,
            "split": self.split,
            "notes": [*self.notes],
            "summary": self.summary(),
        }

    def records(self) -> list[dict[str, Any]]:
        """Every figure as plain values: task, model, layer, metric, subset, variant, value, low, high."""
        empty = {"task": "", "model": "", "layer": "", "metric": "", "subset": "", "variant": ""}
        return [{**empty, "task": task, **figure.as_dict()} for task, figure in self.figures]

    def to_pandas(self) -> Any:
        """The records as a DataFrame, one row a figure. Raises: UsageError where pandas is not installed."""
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            raise UsageError(
                "to_pandas needs pandas, which is not installed. Type: pip install pandas, or take records()."
            ) from error
        return pandas.DataFrame(self.records())

    def tables(self) -> list[Table]:
        """The tables of all tasks."""
        return tables_of({"": self.results})

    def table(self) -> str:
        """The tables as aligned text."""
        return "\n\n".join(map(_text, self.tables()))

    def summary(self) -> str:
        """What the figures mean, and what to do next, in a sentence."""
        longer = f" ({self.longer})" if self.longer else ""
        remarks = [result.remark for result in self.results.values() if result.remark]
        first = next((result for result in self.results.values() if result.gain is not None), None)
        if remarks:
            return f"{remarks[0]} {self.spread_out}"
        adapted = f", or adapt it to these images: {self.better}" if self.better else "."
        if self.unchanged:
            said = f"{first.headline}. " if first is not None else ""
            return (
                f"{said}The weights are those that the training began with: no later ones were clearly better. Adapt "
                f"them instead: {self.better}"
            )
        if first is None or first.gain is None:
            other = f"network{adapted}" if self.frozen else f"run, or train longer{longer}."
            return f"Compare with another {other}"
        if self.frozen:
            return _of_frozen(first, first.gain, self.frozen, self.better)
        return _verdict(
            first, first.gain, self.steps, self.longer, command("views", self.trained_on or "DATA")
        )

    def __str__(self) -> str:
        return "\n\n".join(filter(None, [self.table(), *self.notes, self.unwritten, self.summary()]))

    def __repr__(self) -> str:
        return f"Evaluation({', '.join(self.results)}; {len(self.figures)} figures; {self.run})"

    def _repr_html_(self) -> str:
        said = "".join(
            f"<p>{escape(text)}</p>" for text in (*self.notes, self.unwritten, self.summary()) if text
        )
        drawn = "".join(
            f'<img src="{data_uri(picture)}" style="max-width:100%" alt="{escape(name)}">'
            for name, path in self.pictures.items()
            if (picture := _opened(path)) is not None
        )
        return "".join(table.html() for table in self.tables()) + said + drawn


def _opened(path: Path) -> Image.Image | None:
    """The picture, or None where it has gone since."""
    try:
        with Image.open(path) as picture:
            return picture.copy()
    except OSError:
        return None


def _verdict(result: TaskResult, gain: Estimate, steps: int, longer: str, views: str) -> str:
    """What was found beside the best baseline, then what to do."""
    found, again = _found(result, gain), f"train longer{f': {longer}' if longer else '.'}"
    if gain.low > 0:
        return f"{found} To see whether more steps give more, {again}"
    few = (
        f" This run has {steps:,} steps; most folders need {ENOUGH:,} or more." if 0 < steps < ENOUGH else ""
    )
    if gain.high < 0:
        return f"{found}{few} Look at the views ({views}), or {again}"
    return f"{found}{few} Evaluate on more images, or {again}"


def _of_frozen(result: TaskResult, gain: Estimate, judged: str, better: str) -> str:
    """The same of a network that was not trained here, as it is or adapted."""
    other = "backbone" if judged == "adapted" else "adapted"
    itself = result.rival == model_words("trained", other, "frozen")
    train = "Train an encoder on these images (isosphere train): the network may have seen nothing like them."
    if gain.low > 0:
        said = f"The adaptation {'helps' if judged == 'adapted' else 'does not help'} here." if itself else ""
    elif gain.high < 0:
        said = f"Take {option('layer', other)}." if itself else train
    elif EASY in result.hint:  # more of the same would not tell them apart either
        said = f"Label a few images, and compare: {command('compare', 'RUN', labels='FILE')}"
    else:
        said = "Evaluate on more images to tell them apart." + ("" if itself else f" {train}")
    adapt = f"Adapted to these images it may be better: {better}" if better else ""
    return " ".join(filter(None, [_found(result, gain), said, adapt]))


def _found(result: TaskResult, gain: Estimate) -> str:
    """The figure, the difference to the best baseline and, where another row of this network is better than that, to
    the best row.
    """
    if gain.low > 0:
        said = f"{points(gain)} above {result.rival}"
    elif gain.high < 0:
        said = f"{points(gain)} below {result.rival}"
    else:
        said = f"no clear difference from {result.rival} ({points(gain, signed=True)})"
    beside = f"; {result.nearest}" if result.nearest else ""
    return f"{result.headline}: {said}{beside}."


def _text(table: Table) -> str:
    rows = table.text_rows()
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([table.title, *(f"  {line.rstrip()}" for line in lines)])
