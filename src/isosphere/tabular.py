r"""CSV, written and read by the same rules everywhere: whatever a name holds, it reads back as it was.

Cells are quoted as in RFC 4180, those with a carriage return too. The text can always be encoded in UTF-8: a byte of a
name that is no text is written ``\udcff``, as JSON and Python's ``ascii()`` write it.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

from isosphere.reading import UnreadableError

__all__ = ["csv_rows", "csv_text", "decode_name", "encode_name", "padded"]

_LOOKED_AT = 2**16
"""Characters among which the first row is looked for."""


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as lines of text that end in a newline; None is an empty cell."""
    lines = _Lines()
    # The writer quotes the characters of its line terminator, and in Python 3.11 and 3.12 no other ends of lines.
    table = csv.writer(lines, lineterminator="\r\n")
    table.writerows([encode_name(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return "".join(lines)


class _Lines(list[str]):
    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def csv_rows(text: str, *, strict: bool = True) -> list[list[str]]:
    """The rows of a table that are not empty, by commas, tabs or semicolons, whichever the first row has.

    Not `strict`: quotation marks that are not closed end with the text.

    Raises: UnreadableError if it is no table.
    """
    text = text.removeprefix("\ufeff")
    first = re.sub(r'"[^"]*("|$)', "", text[:_LOOKED_AT]).partition("\n")[0]
    delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    try:
        return [list(map(decode_name, row)) for row in table if any(row)]
    except csv.Error as error:
        raise UnreadableError(f"{error}, line {table.line_num}") from None


def padded(rows: Iterable[list[str]], width: int) -> list[list[str]]:
    """Rows with an empty cell for each that is missing; those that are longer stay so."""
    return [[*row, *[""] * (width - len(row))] for row in rows]


def encode_name(name: str) -> str:
    r"""A name in characters that UTF-8 has: a byte that is no text becomes ``\udcff``, and where a name holds such
    words itself, or backslashes before such a byte, each of these backslashes is doubled.
    """
    if "\\" in name:
        name = re.sub(r"\\+(?=udc[89a-f][0-9a-f]|[\udc80-\udcff])", lambda found: 2 * found[0], name)
    return (
        name if name.isascii() else re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", name)
    )


def decode_name(text: str) -> str:
    """The name that :func:`encode_name` wrote."""
    return re.sub(r"(\\+)udc([89a-f][0-9a-f])", _decoded, text) if "\\" in text else text


def _decoded(found: re.Match[str]) -> str:
    half, odd = divmod(len(found[1]), 2)
    return "\\" * half + (chr(0xDC00 + int(found[2], 16)) if odd else f"udc{found[2]}")
