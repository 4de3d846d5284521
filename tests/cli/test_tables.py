"""Tables on terminals of 80 columns: nothing is cut, whatever does not fit beside it stands below."""

import io
import re
import warnings

import pytest
from rich.console import Console

from isosphere.cli.console import table
from isosphere.cli.faults import warnings_in_words


def shown(columns, rows, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True, highlight=False)
    table(console, "title", columns, rows)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_is_cut(width):
    columns = ["features", *(f"Recall@{k}" for k in range(6))]
    rows = [
        [f"a row with a long name {i}", *(f"{i}{k}.0 [{i}{k}.1, {i}{k}.2]" for k in range(6))]
        for i in range(9)
    ]
    text = shown(columns, rows, width)
    assert all(cell in text for row in rows for cell in row[1:])
    assert all(column in text for column in columns)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_in_a_file_numbers_end_within_80_columns_and_words_stay_whole():
    written = Console(file=io.StringIO(), width=80, highlight=False)
    rows = [["kl-vmf", *(f"{k}.0 [{k}.1, {k}.2]" for k in range(6))], ["mmd", *("1.0" for _ in range(6))]]
    table(written, "title", ["features", *(f"Recall@{k}" for k in range(6))], rows)
    lines = written.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  kl-vmf") for line in lines) == 2
    path = "a/long/path/" * 9
    table(written, "title", ["rank", "cosine", "image"], [["1", "1.0000", path]])
    assert f"1     1.0000  {path}\n" in written.file.getvalue()


def test_names_stay_and_words_are_wrapped():
    """A column of long words leaves room for the names of the rows."""
    rows = [["kl-vmf", "KL of a kernel density estimate " * 4, "a paper with a long title " * 3]]
    text = shown(["name", "about", "paper"], rows)
    assert "kl-vmf" in text
    assert " ".join(text.split()).count("estimate") == 4


def test_warnings_of_our_own_are_sentences(capsys):
    given = {"category": UserWarning, "lineno": 7}
    with warnings.catch_warnings(), warnings_in_words():
        warnings.simplefilter("always")
        warnings.warn_explicit("it is slow", filename="/any/isosphere/data/_remote.py", **given)
        warnings.warn_explicit("it is old", filename="/any/other/thing.py", **given)
    assert capsys.readouterr().err.splitlines()[0] == "isosphere: it is slow"
