"""The rows of a table with a model's answers beside them: every row and column that was read comes out again, in its order, and nothing is overwritten."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftjax.commands.shown import encodable
from ftjax.evaluation import check_output
from ftjax.files import write_text

SUFFIX = "_predicted"
EVERY = "probabilities"
"""What an answer calls the probability of every class, by name; each becomes a column of its own."""


def beside(rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its answer after its own columns; an answer's name that the rows have already gets `_predicted`, and a number if need be.

    What an answer only repeats of every row (the words of a sentence) is left out.

    Args:
      rows: as they were read.
      answers: `{"id", "label", "probability", ...}` of each row; the id is not repeated.

    Raises:
      ValueError: there is not one answer for each row; a bug of the caller.
    """
    flat = [_flat(answer) for answer in answers]
    same = {name for name in (flat[0] if flat else ()) if all(name in row and row[name] == answer.get(name) for row, answer in zip(rows, flat, strict=True))}
    flat = [{name: value for name, value in answer.items() if name not in same} for answer in flat]
    taken = set().union(*(row.keys() for row in rows)) if rows else set()
    names: dict[str, str] = {}
    for name in dict.fromkeys(name for answer in flat for name in answer):
        names[name] = _free(name, taken)
        taken.add(names[name])
    return [{**row, **{names[name]: value for name, value in answer.items()}} for row, answer in zip(rows, flat, strict=True)]


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer without its id, and with a column for each class."""
    every = answer.get(EVERY)
    by_class = {f"probability of {name}": value for name, value in every.items()} if isinstance(every, Mapping) else {}
    return {name: value for name, value in answer.items() if name != "id" and not (name == EVERY and isinstance(every, Mapping))} | by_class


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    wanted, number = f"{name}{SUFFIX}", 2
    while wanted in taken:
        wanted, number = f"{name}{SUFFIX}_{number}", number + 1
    return wanted


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as `.csv` or `.jsonl`, through a temporary file and a rename; in a CSV nothing is an empty cell and a list is JSON.

    Raises:
      ConfigError: the ending is neither.
      OSError: the folder cannot be written; an old file is untouched.
    """
    check_output(path)
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows) if path.suffix.lower() == ".jsonl" else _csv(rows))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO(newline="")
    # Quoting every text is the one setting that protects a lone carriage return on every Python.
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([encodable(name) for name in columns])
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        value = json.dumps(value, ensure_ascii=False)
    return encodable(value) if isinstance(value, str) else value
