"""A table in several files: read in the order of their names, all with the same columns, every row called after its file and its line there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.sources.shards import common_folder
from ftjax.data.text.table import Rejected, Table, row_name
from ftjax.errors import DataError


def read_joined(files: Sequence[Path], where: str, config: TextConfig, read: Callable[[Path, TextConfig], Table]) -> Table:
    """One table of all files. What is found out of the first one (delimiter, header) holds for the others.

    Args:
      files: in order.
      where: the pattern that stands for them.
      config: columns and format.
      read: reads one file.

    Raises:
      DataError: a file cannot be read, or has other columns than the first.
    """
    folder = common_folder(list(files))
    first = read(files[0], config)
    config = _settled(config, first)
    tables = [first, *(read(file, config) for file in files[1:])]
    rows: list[Sequence[Any]] = []
    lines: list[str] = []
    rejected: Rejected = ()
    for file, table in zip(files, tables):
        name = file.relative_to(folder).as_posix()
        rows += _in_order(table, first)
        lines += [row_name(name, line) for line in table.lines]
        rejected += tuple((row_name(name, line), why) for line, why in table.rejected)
    warnings = tuple(dict.fromkeys(warning for table in tables for warning in table.warnings))
    return Table(where, first.columns, rows, lines, _facts(tables), warnings, rejected)


def _settled(config: TextConfig, first: Table) -> TextConfig:
    """What the first file showed."""
    header, delimiter = first.facts.get("header"), first.facts.get("delimiter")
    return dataclasses.replace(
        config,
        header=config.header if config.header is not None else header,
        delimiter=config.delimiter if config.delimiter is not None else delimiter,
    )


def _in_order(table: Table, first: Table) -> Sequence[Sequence[Any]]:
    """A table's rows with the columns in the order of the first one."""
    if table.columns == first.columns:
        return table.rows
    if set(table.columns) != set(first.columns):
        only = [f"{one.where} has {', '.join(map(repr, extra))}" for one, other in ((first, table), (table, first)) if (extra := _beyond(one, other))]
        hint = "; is there a header in the first one only? Say text.header" if "header" in first.facts else ""
        raise DataError(f"{first.where} and {table.where} have different columns: only {', only '.join(only)}{hint}")
    places = [table.columns.index(name) for name in first.columns]
    return [[row[place] for place in places] for row in table.rows]


def _beyond(one: Table, other: Table) -> list[str]:
    return [name for name in one.columns if name not in other.columns]


def _facts(tables: Sequence[Table]) -> dict[str, Any]:
    """What was found out of the files; where they differ, all of it."""
    keys = dict.fromkeys(key for table in tables for key in table.facts)
    values = {key: list(dict.fromkeys(table.facts.get(key) for table in tables)) for key in keys}
    return {key: found[0] if len(found) == 1 else ", ".join(map(str, found)) for key, found in values.items()}
