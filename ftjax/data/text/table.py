"""A table of texts and labels as it lies in a file: columns with names, rows that know their line, nothing interpreted yet."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.text.columnar import read_arrow, read_parquet
from ftjax.data.text.delimited import read_delimited
from ftjax.data.text.encodings import read_text
from ftjax.data.text.packed import plain_name
from ftjax.errors import DataError

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
SUFFIXES = (*_FORMATS, ".txt")
Rejected = tuple[tuple[int | str, str], ...]
"""(line, why) of rows that cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The rows of one file.

    Attributes:
      where: the file.
      columns: names; the numbers "0", "1", ... where there is no header.
      rows: the values of each row in the order of the columns: strings, numbers, booleans, lists, or None where there is none.
      lines: where each row begins, from 1 (in a Parquet file or a JSON array: its number); its whole name where the rows are of several files.
      facts: format, encoding, delimiter and header, for the report.
      warnings: what was guessed and may be wrong.
      rejected: rows that are not in the table's form.
    """

    where: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    lines: Sequence[int] | Sequence[str]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    rejected: Rejected = ()

    def column(self, name: str) -> list[Any]:
        """The values of a column."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


def read_table(path: Path, config: TextConfig) -> Table:
    """Read a file as a table, by its format or its content.

    Raises:
      ConfigError: a setting that does not fit.
      DataError: the file cannot be read; the message names the line.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file")
    kind = config.format if config.format != "auto" else _FORMATS.get(plain_name(path).suffix.lower())
    start = _start(path) if kind is None else b""
    if kind in ("parquet", "arrow") or start.startswith((b"PAR1", b"ARROW1")):
        kind = kind or ("parquet" if start.startswith(b"PAR1") else "arrow")
        columns, rows = read_parquet(path) if kind == "parquet" else read_arrow(path)
        return Table(str(path), columns, rows, list(range(1, len(rows) + 1)), {"format": kind})
    decoded = read_text(path, config.encoding)
    warnings = (decoded.warning,) if decoded.warning else ()
    facts = {"encoding": decoded.encoding}
    if not decoded.text.strip():
        raise DataError(f"{path} is empty")
    if kind is None and decoded.text.lstrip()[0] in "{[" and config.delimiter is None:
        kind = "json"
    if kind in ("json", "jsonl"):
        objects = _json_lines(decoded.text, str(path)) if kind == "jsonl" else _json(decoded.text, str(path))
        return _of_objects(str(path), objects, {"format": kind, **facts}, warnings)
    found = read_delimited(decoded.text, str(path), config, kind)
    return Table(str(path), found.columns, found.rows, found.lines, {**found.facts, **facts}, (*warnings, *found.warnings), found.rejected)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(6)


def _json(text: str, where: str) -> list[tuple[int, Mapping[str, Any]]]:
    """An array of objects, an object that holds one, or one object a line."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return _json_lines(text, where)
    if isinstance(value, dict):
        lists = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise DataError(f"{where} holds {type(value).__name__}; allowed are an array of objects and one object a line")
    return [(number, _object(row, where, f"row {number}")) for number, row in enumerate(value, 1)]


def _json_lines(text: str, where: str) -> list[tuple[int, Mapping[str, Any]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append((number, _object(json.loads(line), where, f"line {number}")))
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"{where}: line {number} is no JSON: {error}") from None
    return rows


def _object(value: Any, where: str, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f'{where}: {place} is {json.dumps(value)[:60]}, not an object with named fields such as {{"text": ..., "label": ...}}')
    return value


def _of_objects(where: str, objects: Sequence[tuple[int, Mapping[str, Any]]], facts: Mapping[str, Any], warnings: tuple[str, ...]) -> Table:
    columns = tuple(dict.fromkeys(key for _, row in objects for key in row))
    rows = [tuple(row.get(column) for column in columns) for _, row in objects]
    return Table(where, columns, rows, [line for line, _ in objects], facts, warnings)


def row_name(file: str, line: int | str) -> str:
    """What a row is called: after its file and its line, unless it has a name already."""
    return line if isinstance(line, str) else f"{file}:{line}"


def as_text(value: Any) -> str | None:
    """A cell as a person would write it; None where it is missing (empty texts stay texts).

    Raises:
      DataError: a list or an object, or half of a surrogate pair.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"it is {json.dumps(value, default=str)[:60]}, not a text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError("it holds half of a surrogate pair, which is no character")
    return value
