"""Rows that a person wants left out: a file of ids, as `ftjax data report` writes it or a hand."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ftjax.data.dataset import Rows
from ftjax.data.sources.paths import existing_path
from ftjax.errors import DataError


def read_drop(file: str | None, ids: Collection[str], where: str) -> tuple[frozenset[str], dict[str, Any]]:
    """The ids that the file names, one on a line; `#` at the beginning of a line or after white space begins a comment.

    Args:
      file: `data.drop`.
      ids: of all rows.
      where: the data set, for messages.

    Returns:
      The ids, and what data.json says of them; nothing without a file.

    Raises:
      DataError: the file is not there or is not UTF-8, or a line names no row.
    """
    if file is None:
        return frozenset(), {}
    path = existing_path(file, "data.drop", "a file of ids", "data.drop")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.drop={file} cannot be read: {error}") from None
    known, found = frozenset(ids), dict[str, None]()
    for number, line in enumerate(lines, 1):
        name = _id(line, known)
        if name and name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
            raise DataError(f"{path} line {number}: {where} has no row {name!r}; the nearest id is {close[0]!r}" if close else f"{where} holds no rows")
        if name:
            found[name] = None
    return frozenset(found), {"file": str(path), "rows": len(found), "ids": list(found)}


def _id(line: str, known: Collection[str]) -> str:
    """The id on a line; one that holds ` #` itself is found as it is."""
    plain = line.strip()
    if plain in known or not ("#" in plain[:1] or " #" in plain or "\t#" in plain):
        return plain
    if plain.startswith("#"):
        return ""
    return min(plain.split(" #")[0], plain.split("\t#")[0], key=len).strip()


def without(rows: Rows, file: str | None) -> tuple[Rows, dict[str, Any]]:
    """The rows that the file does not name, and what data.json says of those it does.

    Raises:
      DataError: see `read_drop`.
    """
    ids, report = read_drop(file, rows.ids, rows.where)
    if not ids:
        return rows, report
    kept = [row for row, name in enumerate(rows.ids) if name not in ids]
    return rows_of(rows, kept), report


def rows_of(rows: Rows, kept: Sequence[int]) -> Rows:
    """Only these rows, in this order; whatever there is one of for each row goes with them."""
    columns = {field.name: _of(getattr(rows, field.name), kept) for field in dataclasses.fields(rows) if field.name in _OF_ROWS}
    return dataclasses.replace(rows, **columns, read=lambda row: rows.read(kept[row]))


def _of(column: Any, kept: Sequence[int]) -> Any:
    if isinstance(column, np.ndarray):
        return column[np.asarray(kept, np.int64)]
    return tuple(column[row] for row in kept) if column is not None and len(column) else column


_OF_ROWS = ("ids", "labels", "splits", "groups", "moments")
"""Fields of `Rows` with one value for each row (or none at all)."""
