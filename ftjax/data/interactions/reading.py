"""A log of interactions as columns of `pyarrow`: who, what, when, nothing interpreted but the form of the file; no Python object for an event.

Ids are texts from here on: "007" stays "007", and a user whose id looks like a number is a text as well.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from ftjax.config import RecommendationConfig, TextConfig
from ftjax.data.interactions import arrow
from ftjax.data.interactions.lines import SHOWN, Form, check_lines, recognise
from ftjax.data.sources.arrow import map_arrow
from ftjax.data.sources.paths import existing_path
from ftjax.data.sources.shards import common_folder, is_pattern, shards
from ftjax.data.text.columnar import open_parquet
from ftjax.data.text.delimited import given_delimiter
from ftjax.data.text.encodings import LARGEST_FILE, read_text
from ftjax.data.text.packed import plain_name
from ftjax.data.text.table import as_text, read_table, row_name
from ftjax.errors import DataError

_UNIT = "\x1f"
"""ASCII's own separator of fields, in the place of one of several characters, which pyarrow cannot read."""
_TYPED = {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow"}
_OBJECTS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_BLOCK = 2**25
"""Bytes that pyarrow reads at a time: more than the longest line that is allowed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Raw:
    """The columns of a log as they lie in its files.

    Attributes:
      where: the file, or the pattern of several.
      table: a `pyarrow.Table` with a row for each event.
      files: names of the files, and `file`, which one each event is of.
      line: of each event, from 1.
      form: "table", "pairs" or "sequences".
      facts: format, encoding and delimiter, for the report.
      warnings: what was guessed and may be wrong.
      rejected: (name, why) of lines that are not in the form.
    """

    where: str
    table: Any
    files: tuple[str, ...]
    file: Int64[np.ndarray, " events"]
    line: Int64[np.ndarray, " events"]
    form: str
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()

    def name(self, event: int) -> str:
        """What an event is called: its file and its line."""
        return row_name(self.files[int(self.file[event])], int(self.line[event]))


def read_raw(path: str | None, text: TextConfig, config: RecommendationConfig) -> Raw:
    """Read a log, in one file or in several of the same columns (`part-*.csv`).

    Raises:
      ConfigError: no path is set.
      DataError: a file cannot be read, or has other columns than the first.
    """
    if path is not None and is_pattern(path):
        files = shards(path)
        folder = common_folder(files)
        parts = [_read(file, file.relative_to(folder).as_posix(), text, config) for file in files]
        return _joined(path, parts)
    file = existing_path(path, "interactions", "a log of users, items and times: csv, tsv, parquet, jsonl, or a public form such as MovieLens' ratings.csv")
    if file.is_dir():
        held = ", ".join(sorted(entry.name for entry in file.iterdir())[:12]) or "nothing"
        raise DataError(f"data.path={path} is a folder; name the log in it. It holds {held}")
    return _read(file, file.name, text, config)


def _joined(where: str, parts: Sequence[Raw]) -> Raw:
    import pyarrow

    first = parts[0]
    for part in parts:
        if set(part.table.column_names) != set(first.table.column_names):
            raise DataError(
                f"{part.where} has the columns {', '.join(part.table.column_names)}, {first.where} has {', '.join(first.table.column_names)}; "
                "files of one log have the same columns"
            )
    try:
        table = pyarrow.concat_tables([part.table.select(first.table.column_names) for part in parts], promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise DataError(f"{where}: the files have columns of different types: {str(error).splitlines()[0]}") from None
    return Raw(
        where,
        table,
        tuple(part.files[0] for part in parts),
        np.concatenate([np.full(len(part.line), number, np.int64) for number, part in enumerate(parts)]),
        np.concatenate([part.line for part in parts]),
        first.form,
        {**first.facts, "files": len(parts)},
        tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        tuple(entry for part in parts for entry in part.rejected),
    )


def _read(path: Path, name: str, text: TextConfig, config: RecommendationConfig) -> Raw:
    ending = plain_name(path).suffix.lower()
    kind = text.format if text.format != "auto" else _TYPED.get(ending) or _OBJECTS.get(ending)
    if kind in ("parquet", "arrow"):
        table = open_parquet(path) if kind == "parquet" else map_arrow(path)
        return _of_table(path, name, table, {"format": kind})
    check_lines(path)
    if kind in ("json", "jsonl"):
        return _of_objects(path, name, text)
    decoded = read_text(path, text.encoding)
    form = recognise(decoded.text, str(path), config.form, given_delimiter(text), text.header)
    facts = {"format": kind or "text", "encoding": decoded.encoding, "delimiter": SHOWN.get(form.delimiter, form.delimiter), "header": form.header}
    warnings = (decoded.warning,) if decoded.warning else ()
    if form.name == "sequences":
        return dataclasses.replace(_sequences(decoded.text, path, name), facts=facts, warnings=warnings)
    table, line, rejected = _delimited(decoded.text, str(path), form)
    whole = tuple((row_name(name, number), why) for number, why in rejected)
    return Raw(str(path), table, (name,), np.zeros(len(line), np.int64), line, form.name, facts, warnings, whole)


def _of_table(path: Path, name: str, table: Any, facts: Mapping[str, Any]) -> Raw:
    if table.nbytes > LARGEST_FILE:
        raise DataError(f"{path} unpacks to more than {LARGEST_FILE:,} bytes; keep the columns and rows that are needed")
    lines = np.arange(1, table.num_rows + 1, dtype=np.int64)
    return Raw(str(path), table, (name,), np.zeros(len(lines), np.int64), lines, "table", facts)


def _of_objects(path: Path, name: str, text: TextConfig) -> Raw:
    """JSON: every value as a text, so that ids of both kinds, 7 and "007", are what they look like."""
    import pyarrow

    found = read_table(path, text)
    columns = {column: pyarrow.array([_written(value) for value in found.column(column)], pyarrow.string()) for column in found.columns}
    lines = np.array(found.lines, np.int64)
    return Raw(str(path), pyarrow.table(columns), (name,), np.zeros(len(lines), np.int64), lines, "table", found.facts, found.warnings)


def _written(value: Any) -> str | None:
    try:
        return as_text(value)
    except DataError:
        return None


def _delimited(text: str, where: str, form: Form) -> tuple[Any, Int64[np.ndarray, " events"], list[tuple[int, str]]]:
    """The table, the line of each row, and the lines that have another number of fields. Blank lines are no rows."""
    import pyarrow
    from pyarrow import csv

    rejected: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        rejected.append((row.number, f"{row.actual_columns} fields, not {row.expected_columns}" + (f" ({', '.join(form.columns)})" if form.header else "")))
        return "skip"

    delimiter = form.delimiter if len(form.delimiter) == 1 else _UNIT
    quoted = delimiter in (",", ";")
    if quoted and '"' in text:
        text = _without_open_quotes(text, rejected)
    unbalanced = {number for number, _ in rejected}
    body = text if len(form.delimiter) == 1 else text.replace(form.delimiter, _UNIT)
    raw = body.encode("utf-8", "surrogatepass")
    try:
        table = csv.read_csv(
            io.BytesIO(raw),
            # One thread: only then does a row that is skipped know its line.
            read_options=csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=form.columns),
            parse_options=csv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False, ignore_empty_lines=False, invalid_row_handler=skip),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(form.columns, pyarrow.string()), strings_can_be_null=False),
        )
    except pyarrow.ArrowException as error:
        raise DataError(f"{where} cannot be read as a table: {str(error).splitlines()[0]}; is a quote left open?") from None
    rejected.sort()
    wrong = np.array([number for number, _ in rejected if number not in unbalanced], np.int64)
    line = np.setdiff1d(np.arange(1, table.num_rows + len(wrong) + 1, dtype=np.int64), wrong)
    kept = ~_blank(table, raw, line)
    kept[: int(form.header)] = False
    return (table.filter(pyarrow.array(kept)), line[kept], rejected) if not kept.all() else (table, line, rejected)


def _without_open_quotes(text: str, rejected: list[tuple[int, str]]) -> str:
    """The text with blank lines in the place of those whose quotes are not balanced: such a quote would take in all lines up to the next one."""
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if line.count('"') % 2:
            rejected.append((place + 1, "its quotes are not balanced"))
            lines[place] = ""
    return "\n".join(lines)


def _blank(table: Any, raw: bytes, line: np.ndarray) -> np.ndarray:
    """Rows that are blank lines, and not lines of empty fields."""
    empty = np.ones(table.num_rows, bool)
    for column in table.columns:
        empty &= arrow.missing(column)
    if empty.any():
        lines = raw.split(b"\n")
        empty[empty] = [not lines[number - 1].strip() if number <= len(lines) else True for number in line[empty]]
    return empty


def _sequences(text: str, path: Path, name: str) -> Raw:
    """`user item item ...` a line, oldest first: an event for each item."""
    import pyarrow

    users: list[str] = []
    items: list[list[str]] = []
    lines, rejected, seen = [], [], dict[str, int]()
    for number, line in enumerate(text.split("\n"), 1):
        user, *rest = line.split() or [""]
        if not user:
            continue
        if not rest:
            rejected.append((row_name(name, number), f"user {user!r} has no items"))
            continue
        if user in seen:
            raise DataError(f"{path}: line {number} is of user {user!r}, who has line {seen[user]} already; a line holds all items of a user, oldest first")
        seen[user] = number
        users.append(user)
        items.append(rest)
        lines.append(number)
    counts = np.array([len(rest) for rest in items], np.int64)
    columns = {
        "user": pyarrow.array(users, pyarrow.string()).take(pyarrow.array(np.repeat(np.arange(len(users)), counts))),
        "item": pyarrow.array([item for rest in items for item in rest], pyarrow.string()),
    }
    where = np.repeat(np.array(lines, np.int64), counts)
    return Raw(str(path), pyarrow.table(columns), (name,), np.zeros(len(where), np.int64), where, "sequences", {}, (), tuple(rejected))
