"""CSV: what is written reads back, here and by other readers, whatever a name holds."""

import csv
import io
import itertools

import pytest

from isosphere.reading import UnreadableError
from isosphere.tabular import csv_rows, csv_text, decode_name, encode_name

NAMES = [
    "plain.png",
    "a\rb.png",
    "cr\r",
    "a\nb.png",
    "a\r\nb.png",
    "a\tb.png",
    "semi;colon.png",
    "com,ma.png",
    'q"uote.png',
    '"quoted"',
    "=1+1.png",
    "#hash.png",
    " blanks ",
    "\ufeffmark.png",
    "byte\udcff.png",
    r"byte\udcff.png",
    r"byte\\udcff.png",
    "byte\\\udcff.png",
    "\x1b[31m\u2028.png",
    "",
]


def test_every_name_reads_back():
    rows = [["path", "label"], *([name, str(i)] for i, name in enumerate(NAMES))]
    text = csv_text(rows)
    assert csv_rows(text.encode("utf-8").decode("utf-8")) == rows
    others = list(csv.reader(io.StringIO(text, newline="")))  # as any other reader has it
    assert others == [[encode_name(cell) for cell in row] for row in rows]
    assert csv_rows(csv_text([["path"], ["a\tb;c"]])) == [["path"], ["a\tb;c"]]
    assert csv_text([["a", None, 1.5, True]]) == "a,,1.5,True\n"


def test_different_names_are_written_differently():
    names = [
        "".join(parts) for n in range(5) for parts in itertools.product(["\\", "udcff", "\udcff"], repeat=n)
    ]
    written = list(map(encode_name, names))
    assert len(set(written)) == len(set(names))
    assert list(map(decode_name, written)) == names
    assert "".join(written).isascii()
    assert encode_name("byte\udcff") == r"byte\udcff"
    assert encode_name(r"C:\data\udder.png") == r"C:\data\udder.png"


@pytest.mark.parametrize(
    "text",
    [
        "path;label\r\na.png;1\r\n",
        "path\tlabel\ra.png\t1\r",
        "\ufeffpath,label\n\na.png,1",
        'path,label\n"a.png","1"\n,\n',
    ],
)
def test_tables_of_other_programs(text):
    assert csv_rows(text) == [["path", "label"], ["a.png", "1"]]


def test_what_is_no_table():
    with pytest.raises(UnreadableError, match=r"unexpected end of data, line 2"):
        csv_rows('path\n"a.png')
    assert csv_rows('path\n"a.png', strict=False) == [["path"], ["a.png"]]
