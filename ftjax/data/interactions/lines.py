"""The bytes of a log before anything is made of them: no line may be longer than a limit, and which of the public forms the lines have.

The guard reads a piece at a time, so that a file whose only line has a gigabyte is refused before it is held.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from ftjax.data.interactions.names import ITEMS, RATINGS, TIMES, USERS, is_known, plain
from ftjax.data.text.packed import unpacked_pieces
from ftjax.errors import DataError

LONGEST_LINE = 16 * 2**20
"""Bytes of a line: a user with two million items is no user."""
_LOOK = 200
_CANDIDATES = ("\t", ",", ";", "|")
SHOWN = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", " ": "space", "::": "::"}


@dataclasses.dataclass(frozen=True)
class Form:
    """How the lines of a log are to be read.

    Attributes:
      name: "table", "pairs" or "sequences".
      delimiter: between the fields.
      header: whether the first line names the columns.
      columns: their names; numbers where there is no header.
    """

    name: str
    delimiter: str
    header: bool
    columns: tuple[str, ...]


def check_lines(path: Path, longest: int = LONGEST_LINE) -> None:
    """No line of the (unpacked) file is longer than `longest` bytes.

    Raises:
      DataError: one is; the message names it. It has been read up to the limit and not kept.
    """
    line, open_bytes = 1, 0
    for piece in unpacked_pieces(path):
        breaks = piece.count(b"\n")
        first = piece.find(b"\n") if breaks else len(piece)
        if open_bytes + first > longest:
            raise DataError(
                f"{path}: line {line} has more than {longest:,} bytes; a log has a line for each event, or each user: is it another kind of file, "
                "or are its line breaks lost?"
            )
        line += breaks
        open_bytes = len(piece) - piece.rfind(b"\n") - 1 if breaks else open_bytes + len(piece)


def recognise(text: str, where: str, wanted: str, delimiter: str | None, header: bool | None) -> Form:
    """Which form the lines have.

    Args:
      text: of the file.
      where: the file.
      wanted: `recommendation.form`; "auto": found out.
      delimiter: `text.delimiter`; None: found out.
      header: `text.header`; None: found out.

    Raises:
      DataError: there are no lines, or they have none of the forms.
    """
    head = list(itertools.islice((line.strip() for line in text.split("\n") if line.strip()), _LOOK))
    if not head:
        raise DataError(f"{where} is empty")
    between = delimiter or _delimiter(head, wanted)
    if between is None:
        widths = {len(line.split()) for line in head}
        form = wanted if wanted != "auto" else "pairs" if widths == {2} else "sequences"
        # Lines of three or four words each may as well be a table without a header.
        unclear = wanted == "auto" and len(head) > 1 and len(widths) == 1 and 2 < max(widths) <= 4
        if (min(widths) < 2 and wanted != "sequences") or (form == "pairs" and widths != {2}) or unclear:
            raise DataError(
                f"{where}: its lines ({head[0][:60]!r}) are neither a table of events with columns, nor `user item`, nor `user item item ...`; "
                "say recommendation.form, and text.delimiter='space' for a table whose columns are separated by spaces"
            )
        return Form(form, " ", False, ("user", "item"))
    if wanted == "sequences":
        raise DataError(f"{where}: recommendation.form='sequences' separates by spaces, and these lines have {SHOWN.get(between, between)}s: {head[0][:60]!r}")
    rows = [_fields(line, between) for line in head]
    named = header if header is not None else _has_header(rows)
    columns = tuple(cell.strip().strip('"').lstrip("\ufeff") or str(number) for number, cell in enumerate(rows[0]))
    return Form("pairs" if wanted == "pairs" else "table", between, named, columns if named else tuple(map(str, range(len(rows[0])))))


def _delimiter(head: Sequence[str], wanted: str) -> str | None:
    """What separates columns; None: spaces, so the lines are pairs or sequences."""
    if all(line.count("::") == head[0].count("::") > 0 for line in head):
        return "::"
    for candidate in _CANDIDATES:
        widths = [len(_fields(line, candidate)) for line in head]
        regular = sum(width == widths[0] for width in widths) >= 0.9 * len(widths)
        if widths[0] > 1 and (regular or sum(map(is_known, _fields(head[0], candidate))) > 1):
            return candidate
    return " " if wanted == "table" else None


def _fields(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1 or '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        return line.split(delimiter)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """A first line of known names, or one that is no number above a column of numbers."""
    if any(map(is_known, rows[0])):
        return True
    below = rows[1] if len(rows) > 1 else []
    return any(not _number(cell) and _number(other) for cell, other in zip(rows[0], below)) and not any(map(_number, rows[0]))


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def looks_like_a_log(lines: Sequence[str]) -> str | None:
    """Why the first lines of a file are those of a log of interactions; None: they are not.

    Columns of users and items, and of times or ratings, make one, unless there is a text to be read beside them; so do the forms without a header.
    """
    head = [line.strip() for line in lines[:-1][:_LOOK] if line.strip()]
    if not head:
        return None
    between = next((candidate for candidate in _CANDIDATES if candidate in head[0]), None)
    found = {plain(cell) for cell in _fields(head[0], between)} if between else set[str]()
    if found & set(USERS) and found & set(ITEMS) and found & {*TIMES, *RATINGS} and not found & {"text", "review", "reviewtext", "label", "comment"}:
        return "it has columns of users and items"
    if all(line.count("::") == head[0].count("::") >= 2 for line in head):
        return "lines like those of MovieLens' ratings.dat"
    if all(len(line.split()) > 1 and line.replace(" ", "").replace("\t", "").replace(".", "").isdecimal() for line in head):
        return "lines of numbers"
    return None
