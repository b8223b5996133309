"""Prompts of a file for a finished model, read as its training data were: the same columns, the system message, an instruction's input, or plain text."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.language.forms import KEYS, Asked, asked, given_columns
from ftjax.data.language.preprocessing import LanguagePreprocessing
from ftjax.data.sources.paths import existing_path
from ftjax.data.text.encodings import read_text
from ftjax.data.text.table import Table, read_table, row_name
from ftjax.errors import ConfigError, DataError, did_you_mean

_SHOWN = 20
_ASKING = ("messages", "prompt")


@dataclasses.dataclass(frozen=True, eq=False)
class Prompts:
    """Rows of a file.

    Attributes:
      rows: as they were read.
      asked: what each asks.
      names: of the rows, for messages.
      warnings: what was guessed of the file, and what is otherwise than in training.
    """

    rows: list[dict[str, Any]]
    asked: list[Asked]
    names: list[str]
    warnings: tuple[str, ...] = ()


def read_prompts(path: str | os.PathLike[str], text: TextConfig, preprocessing: LanguagePreprocessing) -> Prompts:
    """Every row of a table, or one prompt a line of a `.txt` file (empty lines are none).

    The columns are those that `text` names, else those of the training data; a column called messages or prompt (text, of plain passages) stands in for one
    that is not there.

    Raises:
      ConfigError: `text` names a column that nothing would read.
      DataError: the file cannot be read, a row is not in the table's form or asks nothing, or no column asks; the message names it.
    """
    file = existing_path(str(path), "", "a file of prompts", "input")
    _check_keys(text, preprocessing.form)
    if file.suffix.lower() == ".txt":
        return _lines(file, text, preprocessing.form)
    trained = dict(preprocessing.columns)
    # A first line with the name that the model was trained on is the header, whatever the name looks like.
    known = next((trained[role] for role in ("text", *_ASKING) if role in trained), None)
    table = read_table(file, dataclasses.replace(text, text=text.text or text.messages or text.prompt or known))
    if table.rejected:
        shown = "\n".join(f"  line {line}: {why}" for line, why in table.rejected[:_SHOWN])
        raise DataError(f"{file}: {len(table.rejected)} rows are not in the table's form, and every row must come out again:\n{shown}")
    if not table.rows:
        raise DataError(f"{file} holds no rows")
    columns = _columns(table, text, trained, preprocessing.form)
    rows = [dict(zip(table.columns, cells)) for cells in table.rows]
    names = [row_name(file.name, line) for line in table.lines]
    return Prompts(rows, [_asked(preprocessing.form, columns, row, name) for row, name in zip(rows, names)], names, _warnings(table, columns, trained))


def _lines(file: Path, text: TextConfig, form: str) -> Prompts:
    decoded = read_text(file, text.encoding)
    lines = [(number, line) for number, line in enumerate(decoded.text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{file} is empty")
    role = "text" if form == "passage" else "prompt"
    names = [f"{file.name}:{number}" for number, _ in lines]
    return Prompts([{role: line} for _, line in lines], [asked(form, {role: line}) for _, line in lines], names, (decoded.warning,) if decoded.warning else ())


def _asked(form: str, columns: dict[str, str], row: dict[str, Any], name: str) -> Asked:
    try:
        return asked(form, {role: row[column] for role, column in columns.items()})
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _check_keys(text: TextConfig, form: str) -> None:
    """Refuse columns that answer a question nobody asks here."""
    read = ("text",) if form == "passage" else (*_ASKING, "system")
    for role in KEYS:
        if getattr(text, role) is not None and role not in read:
            raise ConfigError(f"text.{role}: predict reads no such column for this model; allowed: {', '.join(f'text.{name}' for name in read)}")


def _columns(table: Table, text: TextConfig, trained: dict[str, str], form: str) -> dict[str, str]:
    """Role -> column of what is asked."""
    given = given_columns(table, text)
    roles = ("text",) if form == "passage" else _ASKING
    usual = (("text", "text"), ("text", "prompt")) if form == "passage" else tuple((role, role) for role in _ASKING)
    choices = (*((role, given[role]) for role in roles if role in given), *((role, trained[role]) for role in roles if role in trained), *usual)
    found = next(((role, column) for role, column in choices if column in table.columns), None)
    if found is None:
        told = ", ".join(map(repr, table.columns))
        wanted = next((trained[role] for role in roles if role in trained), None)
        why = f"no column {wanted!r}, which the model was trained on: {did_you_mean(wanted, table.columns)}" if wanted else "which column asks cannot be seen"
        raise DataError(f"{table.where}: {why} (its columns: {told}); name one with text.{roles[-1]}")
    beside = ({"input"} if found[0] == "prompt" else set()) | ({"system"} if form != "passage" else set())
    others = {role: column for role, column in (trained | given).items() if role in beside and column in table.columns and column != found[1]}
    return {found[0]: found[1]} | others


def _warnings(table: Table, columns: dict[str, str], trained: dict[str, str]) -> tuple[str, ...]:
    if "system" not in trained or "system" in columns:
        return table.warnings
    return (*table.warnings, f"{table.where} has no column {trained['system']!r}, from which training took system messages; its prompts are written without")
