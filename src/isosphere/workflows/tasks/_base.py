"""What a task of an evaluation is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isosphere.data import ViewRecipe, permutation
from isosphere.errors import UsageError, option, plural
from isosphere.evaluation import Estimate, TaskResult, paired_difference
from isosphere.report import Layout, model_words
from isosphere.workflows._context import VIEW_SEED, EvaluationContext, Need

PAIRED = 10_000
"""Test images of which all pairs are measured, at the most: the time grows with the square, and ranks depend on the
number: more would be another measure.
"""
SHARES = frozenset(
    {"accuracy", "balanced_accuracy", "recall", "recall@1", "recall@3", "recall@5", "recall@10", "map"}
)
"""Metrics that are shares, shown in percent."""


@dataclass(frozen=True)
class Task:
    """One question put to an encoder.

    Args:
        about: what is measured, in a line for ``--help`` and documentation.
        run: from the context to figures; it judges, and computes no features itself.
        needs: what it will ask the context for, so that images are decoded once for all tasks.
        layouts: of its tables.
        needs_labels: refused without.
        least: test images that it needs.
        quick: whether it belongs to an evaluation for which no tasks were named, if there are images enough.
        check: raises UsageError where it cannot be done, before any image is read.
    """

    name: str
    about: str
    run: Callable[[EvaluationContext], TaskResult]
    needs: Callable[[EvaluationContext], list[Need]]
    layouts: Sequence[Layout]
    needs_labels: bool = False
    least: int = 0
    quick: Callable[[EvaluationContext], bool] = lambda context: False
    check: Callable[[EvaluationContext], None] = lambda context: None

    def too_few(self, context: EvaluationContext) -> str:
        """What to say where there are too few test images for it; empty where they suffice."""
        count = len(context.splits.test)
        if count >= self.least:
            return ""
        there = "there is 1" if count == 1 else f"there are {count}"
        return f"the task {self.name} needs at least {plural(self.least, 'test image')}, and {there}"

    def require(self, context: EvaluationContext) -> None:
        """Raises: UsageError where the task cannot be done with these images, or with this run."""
        if self.needs_labels and not context.splits.labelled:
            raise UsageError(
                f"the task {self.name} needs labels. {context.splits.without_labels()} Or leave {option('tasks')} out, "
                f"or give {option('tasks', 'retrieval,geometry')}."
            )
        if few := self.too_few(context):
            raise UsageError(f"{few}: leave it out.")
        self.check(context)


def measured_rows(context: EvaluationContext) -> Tensor:
    """The test images whose pairs are measured, int64: all, or as many as a minute is enough for, drawn by a seed."""
    count = context.count("test")
    if count <= PAIRED:
        return torch.arange(count)
    return permutation(count, VIEW_SEED, 0)[:PAIRED].sort().values


def common_protocol(context: EvaluationContext) -> dict[str, Any]:
    """Facts of every task's protocol."""
    passes = context.run.passes
    several = {"seen": f"{passes} passes of each image"} if passes > 1 else {}
    network = {"network": context.run.standing} if context.run.standing else {}
    return {
        **{"split": context.splits.how, "passes": passes, "judged": context.judged},
        **several,
        **network,
    }


def verdict(
    context: EvaluationContext, scored: Mapping[tuple[str, str], Tensor], judged: tuple[str, str]
) -> dict[str, Any]:
    """What a result says of the row that is judged against the others: ``gain`` and ``rival``, the best of what is not
    this network or, of a network that is frozen, its other output; and ``nearest``, where another row of the table is
    better than that one.

    `scored`: for each row by model and layer a score an image; of equals the first is named.
    """
    frozen = {("trained", layer) for layer in ("adapted", "backbone")} if context.run.frozen else set()

    def best(rows: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
        return max(rows, key=lambda row: float(scored[row].mean())) if rows else None

    def gain(row: tuple[str, str]) -> Estimate:
        return paired_difference(scored[judged], scored[row])

    others = [row for row in scored if row != judged]
    rival = best([row for row in others if row[0] != "trained" or row in frozen])
    nearest = best(others)
    if rival is None or nearest is None:
        return {}
    found: dict[str, Any] = {"gain": gain(rival), "rival": model_words(*rival, context.run.standing)}
    if scored[nearest].mean() > scored[rival].mean():
        row = model_words(*nearest, context.run.standing)
        found["nearest"] = f"{points(gain(nearest), signed=True)} against the best other row, {row}"
    return found


def points(gain: Estimate, *, signed: bool = False) -> str:
    """A difference of shares with its interval: ``1.2 points [0.2, 2.2]``, whichever way it is, or with its sign."""
    low, value, high = (100 * x for x in (gain.low, gain.value, gain.high))
    if signed:
        return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"
    if value < 0:
        low, value, high = -high, -value, -low
    return f"{value:.1f} points [{low:.1f}, {high:.1f}]"


def views_protocol(context: EvaluationContext) -> dict[str, Any]:
    """Facts of a protocol that has random views."""
    return {
        **common_protocol(context),
        "image_size": context.run.size,
        "views": context.run.config.views.model_dump(mode="json"),
        "views_said": _views_said(context.run.views.recipe),
        "view_seed": VIEW_SEED,
    }


def _views_said(recipe: ViewRecipe) -> str:
    """The views in words: what their distance depends on most, whatever the recipe is called."""
    low, high = recipe.scale
    colours = ", ".join(f"{x:g}" for x in (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue))
    said = [f"crops of {low:.0%} to {high:.0%}", f"colours by {colours}"]
    said += [f"grey {recipe.grey:g}"] if recipe.grey else []
    said += [f"turned by up to {recipe.rotation:g} degrees"] if recipe.rotation else []
    return f"views: {', '.join(said)}"
