"""Tables of an evaluation's figures: one way from records to rows, for the command line, notebooks and pages."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from string import Formatter
from typing import Any

from isosphere.evaluation import Figure, TaskResult
from isosphere.report._conditions import conditions, conditions_note, differing, ood_images, shared

ABSENT, UNDEFINED = "\u2013", "undefined"

_MODELS = {
    "trained/adapted": "adapted features",
    "trained/head": "its head",
    "trained/method": "the method's own score",
    "pixels": "raw pixels",
    "pca": "PCA-whitened pixels",
    "largest-class": "always naming the largest class",
    "descriptor": "fixed rotation-invariant descriptor",
}
_NETWORKS = {"": "trained", "frozen": "frozen", "unchanged": "unchanged"}
"""What the network of a run is called, by the fact ``network`` of a protocol: trained here, used as it was given, or
ended with the weights of its start.
"""
_LAYERS = {"backbone": "encoder", "wccn": "encoder, WCCN", "whitened": "encoder, whitened"}


@dataclass(frozen=True)
class Cell:
    """A value and its interval as text."""

    value: str
    interval: str = ""
    best: bool = False

    @property
    def text(self) -> str:
        """Both: ``76.5 [75.2, 77.8]``."""
        return f"{self.value} {self.interval}".strip()


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """A table with a title and a note on how its figures were made. `first` is the heading of the names."""

    title: str
    first: str
    columns: list[str]
    rows: list[Row]
    note: str = ""

    def text_rows(self) -> list[list[str]]:
        """The headings and then the rows, as plain text."""
        rows = [[row.name, *(cell.text for cell in row.cells)] for row in self.rows]
        return [[self.first, *self.columns], *rows]

    def html(self) -> str:
        """The same for a notebook or a page, escaped."""

        def cell(x: Cell) -> str:
            interval = f' <span class="interval">{escape(x.interval)}</span>' if x.interval else ""
            value = f"<b>{escape(x.value)}</b>" if x.best else escape(x.value)
            return f'<td class="number">{value}{interval}</td>'

        heads = "".join(f'<th class="number">{escape(column)}</th>' for column in self.columns)
        rows = "\n".join(
            f'<tr><th scope="row">{escape(row.name)}</th>{"".join(map(cell, row.cells))}</tr>'
            for row in self.rows
        )
        note = f'<p class="note">{escape(self.note)}</p>\n' if self.note else ""
        return (
            f'<h3>{escape(self.title)}</h3>\n{note}<div class="scroll"><table>\n'
            f"<thead><tr><th>{escape(self.first)}</th>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
        )

    _repr_html_ = __html__ = html  # a notebook asks for the one, a template for the other


@dataclass(frozen=True)
class Layout:
    """How the figures of a task are laid out in a table.

    Title and words are filled in from the protocol by the rules of ``str.format``: ``"k-NN accuracy, %; k = {k}"``,
    ``"R@1 of {all[candidates_per_query]}"``. Where a key is not known (an older file lacks it, or runs differ in it)
    the clause between semicolons or the words in brackets are left out; elsewhere the number before a word is, and else
    an ellipsis stands for it. ``{foreign}`` is the number of images of the table's subset.

    Args:
        title: of the table.
        rows, columns: fields of a figure that tell rows and columns apart.
        each: a table for every value of these fields, which stands for ``{each}`` in the title.
        only: the figures that are shown; a task with tables of two kinds has two layouts.
        percent: metrics that are shares: shown in percent, and more of them is better but for `lower`.
        lower: metrics of which less is better. One that is in neither has no best run.
        words: a metric, variant or subset in words, or two fields together (``recall@1/all``), which goes before each
            alone. What is not named is written as it is, a subset as the protocol's ``sets`` name it; what has no words
            ("") is not written.
        corner: heading of the first column.
        most: rows at the most; 0 for all.
    """

    title: str
    rows: tuple[str, ...] = ("model", "layer")
    columns: tuple[str, ...] = ("metric", "variant")
    each: tuple[str, ...] = ()
    only: Callable[[Figure], bool] | None = None
    percent: frozenset[str] = frozenset()
    lower: frozenset[str] = frozenset()
    words: Mapping[str, str] = field(default_factory=dict)
    corner: str = "features"
    most: int = 0


def lay_out(layouts: Sequence[Layout], results: Mapping[str, TaskResult]) -> list[Table]:
    """The tables of one task of one run or of several, whose results are given by their names.

    One run: rows and columns as the layout says. Several: a column a run, the best figure of trained models marked;
    the wider candidates of a retrieval, and other models where the layout has models for columns, are left out. Runs
    that were not evaluated on the same images in the same way have none marked, and the note says so. A task without a
    layout is shown as it is kept.
    """
    return [table for layout in layouts or [_plain(results)] for table in _tables(layout, results)]


def model_words(model: str, layer: str = "", network: str = "") -> str:
    """A model and its layer as tables name them: ``trained encoder``, ``its head``, ``raw pixels``.

    `network`: what the run's is, ``frozen`` or ``unchanged``, where it was not trained.
    """
    key = f"{model}/{layer}" if layer else model
    if key in _MODELS:
        return _MODELS[key]
    if found := re.fullmatch(r"last(\d+)", layer):
        blocks = int(found[1])
        tokens = (
            f"class tokens of its last {blocks} blocks" if blocks > 1 else "class token of its last block"
        )
        return tokens if model == "trained" else f"{model}, {tokens}"
    said = _NETWORKS[network] if model == "trained" else model
    return f"{said} {_LAYERS.get(layer, layer)}".strip()


def number(value: float, *, percent: bool = False) -> str:
    """A value with as many digits as it is worth: a share in percent with one decimal, others with three or fewer."""
    if not math.isfinite(value):
        return UNDEFINED
    digits = 1 if percent else 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return _fixed(100 * value if percent else value, digits)


def _plain(results: Mapping[str, TaskResult]) -> Layout:
    """For a task that nobody knows: a row for all that a figure is of, a column a metric, a table a subset."""
    task = next((result.task for result in results.values()), "")
    subsets = any(figure.subset for result in results.values() for figure in result.figures)
    title = f"{task}: {{each}}" if subsets else task
    return Layout(title, rows=("model", "layer", "variant"), columns=("metric",), each=("subset",))


def _tables(layout: Layout, results: Mapping[str, TaskResult]) -> Iterable[Table]:
    several = len(results) > 1
    figures = [(run, f) for run, r in results.items() for f in r.figures if _shown(layout, f, several)]
    for part in dict.fromkeys(_key(f, layout.each) for _, f in figures):
        held = [(run, f) for run, f in figures if _key(f, layout.each) == part]
        there = {run: results[run] for run, _ in held}
        facts = shared([result.protocol for result in there.values()])
        words = {name: _filled(text, facts) for name, text in layout.words.items()}
        networks = {run: str(result.protocol.get("network", "")) for run, result in there.items()}
        words |= _network_words(set(networks.values()), facts.get("layer"))
        subset = dict(zip(layout.each, part, strict=True)).get("subset", "")
        each = _name(layout.each, part, {**words, **facts.get("sets", {})})
        title = _filled(layout.title, {**facts, "each": each, "foreign": ood_images(facts, subset)})
        evaluated = {run: conditions(result, subset) for run, result in there.items()}
        if several:
            alike = not differing(evaluated.values())
            columns, made = _rows_by_run(layout, held, list(results), words, alike=alike)
            if len(set(networks.values())) > 1:
                columns = [
                    f"{run} ({_NETWORKS[networks[run]]})" if run in networks else run for run in columns
                ]
        else:
            columns, made = _rows_by_column(layout, held, words)
        corner = _filled(layout.corner, facts).replace("\u2026", "embeddings")  # of runs that differ in them
        yield Table(title, corner, columns, made[: layout.most or None], conditions_note(evaluated))


def _network_words(networks: Collection[str], layer: object) -> dict[str, str]:
    """The encoder of runs whose networks are these, in each layer: of several kinds none is named, the columns say it.

    `layer`: of the only one, where a task looks at one.
    """
    if set(networks) == {""}:
        return {}
    kind = next(iter(networks)) if len(networks) == 1 else None
    words = {
        f"trained/{name}": said if kind is None else model_words("trained", name, kind)
        for name, said in _LAYERS.items()
    }
    alone = words.get(f"trained/{layer}") or model_words("trained", str(layer or "backbone"), kind or "")
    return {**words, "trained": alone}


def _shown(layout: Layout, figure: Figure, several: bool) -> bool:
    if several and (figure.variant == "all" or ("model" in layout.columns and figure.model != "trained")):
        return False
    return layout.only is None or layout.only(figure)


def _rows_by_column(
    layout: Layout, figures: Sequence[tuple[str, Figure]], words: Mapping[str, str]
) -> tuple[list[str], list[Row]]:
    at = {(_key(f, layout.rows), _key(f, layout.columns)): f for _, f in figures}
    rows, columns = (list(dict.fromkeys(keys)) for keys in zip(*at, strict=True))
    made = [
        Row(_name(layout.rows, row, words), [_cell(layout, at.get((row, column))) for column in columns])
        for row in rows
    ]
    return [_name(layout.columns, column, words) for column in columns], made


def _rows_by_run(
    layout: Layout,
    figures: Sequence[tuple[str, Figure]],
    runs: list[str],
    words: Mapping[str, str],
    *,
    alike: bool,
) -> tuple[list[str], list[Row]]:
    at = {(_key(f, layout.rows), _key(f, layout.columns), run): f for run, f in figures}
    one = len({column for _, column, _ in at}) == 1  # goes without saying
    made = []
    for row, column in dict.fromkeys((row, column) for row, column, _ in at):
        said = [_name(layout.rows, row, words), "" if one else _name(layout.columns, column, words)]
        held = [at.get((row, column, run)) for run in runs]
        best = _best(layout, held) if alike else None
        cells = [_cell(layout, f, best=f is not None and f.value == best) for f in held]
        made.append(Row(", ".join(filter(None, said)), cells))
    return runs, made


def _best(layout: Layout, figures: Sequence[Figure | None]) -> float | None:
    """The best value of trained models in a row, where it tells runs apart."""
    found = [f for f in figures if f is not None and math.isfinite(f.value)]
    directed = all(f.model == "trained" and f.metric in layout.percent | layout.lower for f in found)
    if not directed or len({f.value for f in found}) < 2:
        return None
    choose = min if found[0].metric in layout.lower else max
    return choose(f.value for f in found)


def _cell(layout: Layout, figure: Figure | None, *, best: bool = False) -> Cell:
    if figure is None:
        return Cell(ABSENT)
    percent = figure.metric in layout.percent
    low, high = figure.estimate.low, figure.estimate.high
    value = number(figure.value, percent=percent)
    if value == UNDEFINED or not (math.isfinite(low) and math.isfinite(high)):
        return Cell(value, best=best)
    # The bounds have the decimals of the value, whatever their size.
    scale, digits = 100 if percent else 1, len(value.partition(".")[2])
    return Cell(value, f"[{_fixed(scale * low, digits)}, {_fixed(scale * high, digits)}]", best)


def _fixed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # no minus before zeros


def _key(figure: Figure, fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(getattr(figure, name) for name in fields)


def _name(fields: Sequence[str], key: Sequence[str], words: Mapping[str, str]) -> str:
    """A key in words: two parts together where they have words together, then each alone."""
    parts = [(name, value) for name, value in zip(fields, key, strict=True) if value]
    said = []
    while parts:
        (name, value), rest = parts[0], parts[1:]
        pair = f"{value}/{rest[0][1]}" if rest else ""
        if pair in words:
            said.append(words[pair])
            rest = rest[1:]
        elif name == "model":
            layer = rest[0][1] if rest and rest[0][0] == "layer" else ""
            said.append(model_words(value, layer) if layer else words.get(value, model_words(value)))
            rest = rest[bool(layer) :]
        else:
            said.append(words.get(value, value))
        parts = rest
    return ", ".join(filter(None, said))


class _Filler(Formatter):
    """Like ``str.format``, but a key that is missing or of another kind becomes an ellipsis."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        try:
            return super().get_field(field_name, args, kwargs)
        except (AttributeError, IndexError, KeyError, TypeError):
            return None, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        try:
            return "\u2026" if value is None else super().format_field(value, format_spec)
        except (TypeError, ValueError):
            return str(value)


def _filled(text: str, protocol: Mapping[str, Any]) -> str:
    filled = (_Filler().vformat(clause, (), protocol) for clause in text.split(";"))
    first, *others = (re.sub(r" \([^()]*\u2026[^()]*\)", "", clause) for clause in filled)
    first = re.sub(r"\u2026 (?=[a-z])", "", first)
    return ";".join([first, *(clause for clause in others if "\u2026" not in clause)])
