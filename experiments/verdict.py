"""What a claim's results say: a word, a sentence, the figures as tables, and what they leave open."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import variance

__all__ = ["Figures", "Verdict", "pooled_deviation"]


@dataclass(frozen=True)
class Figures:
    """A table of figures under its caption."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> Iterator[str]:
        """The caption and the table; columns in which no row has a figure are left out."""
        kept = [i for i in range(len(self.header)) if i == 0 or any(row[i] for row in self.rows)]
        yield f"{self.caption}:\n"
        yield _line(self.header[i] for i in kept)
        yield "|---" * len(kept) + "|"
        yield from (_line(row[i] for i in kept) for row in self.rows)


@dataclass(frozen=True)
class Verdict:
    """``word``: holds, does not hold, in part, ...; ``sentence``: why, without its full stop; ``undecided``: what
    would decide what these results cannot.
    """

    word: str
    sentence: str
    tables: Sequence[Figures]
    undecided: str

    def markdown(self) -> str:
        """The sentence, the tables, and what is left open."""
        tables = ["\n".join(table.markdown()) for table in self.tables if table.rows]
        return "\n\n".join([f"{self.sentence}.", *tables, f"*Left open*: {self.undecided}."])


def pooled_deviation(cells: Iterable[Sequence[float]]) -> float:
    """Standard deviation of one training of a cell from another, over the cells that have several; 0 without any."""
    repeated = [values for values in cells if len(values) > 1]
    degrees = sum(len(values) - 1 for values in repeated)
    squares = sum((len(values) - 1) * variance(values) for values in repeated)
    return (squares / degrees) ** 0.5 if degrees else 0.0


def _line(cells: Iterable[str]) -> str:
    """A row of a table; a bar within a cell would end it."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
