"""What a task of an evaluation is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isosphere.data import permutation
from isosphere.errors import UsageError, option, plural
from isosphere.evaluation import TaskResult
from isosphere.report import FROZEN_ENCODER, Layout, model_words
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
    frozen = {"network": "frozen"} if context.run.frozen else {}
    return {"split": context.splits.how, "passes": passes, **several, **frozen}


def unadapted(context: EvaluationContext) -> tuple[str, str] | None:
    """The features of a frozen network as they are, which those that were adapted are held against; else None."""
    return ("trained", "backbone") if context.judged == "adapted" else None


def rival_words(context: EvaluationContext, rival: tuple[str, str]) -> str:
    """Who comes next, as tables name it."""
    return FROZEN_ENCODER if context.run.frozen and rival == ("trained", "backbone") else model_words(*rival)


def views_protocol(context: EvaluationContext) -> dict[str, Any]:
    """Facts of a protocol that has random views."""
    return {
        **common_protocol(context),
        "image_size": context.run.size,
        "views": context.run.config.views.model_dump(mode="json"),
        "view_seed": VIEW_SEED,
    }
