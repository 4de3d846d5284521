"""What a task of ``isosphere evaluate`` hands back, and how its figures are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from isosphere.evaluation import Estimate

__all__ = ["Judgement", "Section", "number", "percent"]


@dataclass(frozen=True)
class Section:
    """A further table of a task."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Judgement:
    """One task: its table, its entry in evaluation.json, and whether the encoder has earned its training.

    ``gain`` is the difference on the task's first figure to the best of the others, with its interval, and
    ``rival`` who that is; None for a task that has no winner. A ``remark`` says that the encoder is no good, and takes
    the place of the closing sentence; a ``hint`` says what else can be done with it.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, Estimate]
    protocol: dict[str, Any]
    gain: Estimate | None = None
    rival: str = ""
    headline: str = ""
    remark: str = ""
    hint: str = ""
    more: tuple[Section, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls, sections: Sequence[Section], figures: dict[str, Estimate], protocol: dict[str, Any]
    ) -> "Judgement":
        """A task of several tables, the first of them its own, that has no winner."""
        first, *others = sections
        return cls(first.title, first.columns, first.rows, figures, protocol, more=tuple(others))

    def entry(self) -> dict[str, Any]:
        """The task as evaluation.json keeps it; what is not a number is null."""
        numbers = {
            name: {k: v if math.isfinite(v) else None for k, v in estimate.as_dict().items()}
            for name, estimate in self.figures.items()
        }
        return {**numbers, "protocol": self.protocol}

    def sections(self) -> list[Section]:
        """All tables, the task's own first."""
        return [Section(self.title, self.columns, self.rows), *self.more]


def percent(estimate: Estimate) -> str:
    """A share as a percentage with its interval."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def number(estimate: Estimate) -> str:
    """A figure with its interval, in three digits."""
    if not math.isfinite(estimate.value):
        return "undefined"
    digits = 0 if abs(estimate.value) >= 1000 else 1 if abs(estimate.value) >= 10 else 3
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
