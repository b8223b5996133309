"""From tables to labelled examples: each row's text, second text and label as the task wants them; rows that cannot be used are named with their line."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftjax.config import DataConfig, TextConfig
from ftjax.data.dataset import SPLITS
from ftjax.data.moments import Moment
from ftjax.data.text.columns import Binding, bind
from ftjax.data.text.places import Places
from ftjax.data.text.squad import Answer
from ftjax.data.text.table import Table, as_text, row_name
from ftjax.data.text.tags import to_iob2
from ftjax.errors import DataError

_SHOWN = 20
"""Rows that an error lists."""


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """What the files hold, row by row.

    Attributes:
      where: the path of the configuration.
      ids: `file:line` (question_answering: the question's own id, if it has one), unique.
      splits: the split of the file each row is from.
      texts: strings; lists of words for token_classification.
      pairs: the second texts, or None.
      labels: by task: a string, a tuple of strings (multi_label), a float, a tuple of tags, a tuple of `Answer`, or None (sentence_embedding).
      rejected: rows that were left out, `{"file", "why"}`.
      facts: columns, encoding, delimiter and files, for the report.
      warnings: what was guessed and may be wrong.
      groups: what rows that stay together have in common (`data.group`); empty where it is not asked for.
      moments: when each row is from (`data.time`); empty where it is not asked for.
    """

    where: str
    ids: Sequence[str]
    splits: Sequence[str]
    texts: Sequence[Any]
    pairs: Sequence[str] | None
    labels: Sequence[Any]
    rejected: Sequence[Mapping[str, str]]
    facts: Mapping[str, Any]
    warnings: Sequence[str]
    groups: Sequence[str] = ()
    moments: Sequence[Moment] = ()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)


def read_examples(tables: Mapping[str, Table], data: DataConfig, text: TextConfig, task: str) -> Examples:
    """The examples of all splits.

    Args:
      tables: of each split.
      data: the source and what bad rows do.
      text: columns, where they are not to be guessed.
      task: its name.

    Raises:
      DataError: a column is missing, a whole split has no label, or (with `data.bad_files="error"`) a row cannot be used: all are listed.
    """
    bindings = {split: _bound(table, data, text, task, split) for split, table in tables.items()}
    if len({binding.pair is None for binding in bindings.values()}) > 1:
        told = ", ".join(f"{tables[split].where}: {'none' if binding.pair is None else repr(binding.pair)}" for split, binding in bindings.items())
        raise DataError(f"some files have a second text and others none ({told}); say text.text and text.text_pair")
    names = file_names(tables)
    rows: list[tuple[str, str, Any, str | None, Any]] = []
    places: list[tuple[str | None, Moment | None]] = []
    rejected: list[dict[str, str]] = []
    warnings: list[str] = []
    for split in filter(tables.__contains__, SPLITS):
        table, reader = tables[split], _Reader(tables[split], bindings[split], text, task)
        place_of = Places(table, data)
        warnings += [*table.warnings, *reader.warnings]
        _check_labelled(reader, split)
        rejected += [{"file": row_name(names[split], line), "why": why} for line, why in table.rejected]
        for row, line in enumerate(table.lines):
            try:
                found = (row_name(names[split], line), split, *reader(row))
                places.append(place_of(row))
                rows.append(found)
            except DataError as error:
                rejected.append({"file": row_name(names[split], line), "why": str(error)})
    check_rejected(str(data.path), rejected, len(rows), data.bad_files)
    ids, splits, texts, pairs, labels = (list(column) for column in zip(*rows)) if rows else ([], [], [], [], [])
    if task == "question_answering":
        ids = _question_ids(ids, tables)
    paired = any(binding.pair is not None for binding in bindings.values())
    groups, moments = ([part for part in column if part is not None] for column in (zip(*places) if places else ((), ())))
    return Examples(
        str(data.path),
        ids,
        splits,
        texts,
        pairs if paired else None,
        labels,
        rejected,
        _facts(tables, bindings),
        tuple(dict.fromkeys(warnings)),
        groups,
        moments,
    )


def _bound(table: Table, data: DataConfig, text: TextConfig, task: str, split: str) -> Binding:
    """The columns of a file; those of CoNLL and SQuAD have fixed names."""
    if task == "question_answering":
        return Binding("question", "context", ("answers",), "id", (), {"text": "in SQuAD's form", "text_pair": "in SQuAD's form", "label": "in SQuAD's form"})
    if data.source == "conll":
        return Binding("words", None, ("tags",), None, (), {"text": "the first field of a line", "label": "the last field of a line"})
    try:
        return bind(table, text, task)
    except DataError as error:
        hint = f"; a {split} file without labels tests nothing: leave it out, then rows of the training file are kept for it" if split != "train" else ""
        raise DataError(f"{error}{hint}") from None


class _Reader:
    """One table's rows as (text, second text, label)."""

    def __init__(self, table: Table, binding: Binding, text: TextConfig, task: str) -> None:
        self.table, self.binding, self.text, self.task = table, binding, text, task
        self.places = {name: number for number, name in enumerate(table.columns)}
        self.warnings: list[str] = []
        self.tags: list[list[str]] = []
        self.bad_tags: Mapping[int, tuple[int, str]] = {}
        if task == "token_classification":
            self._read_tags()
        self.separator = _separator(table, binding, text) if task == "multi_label" else None

    def __call__(self, row: int) -> tuple[Any, str | None, Any]:
        """The text, the second text and the label of a row.

        Raises:
          DataError: why it cannot be used.
        """
        if self.task == "token_classification":
            return self._words(row), None, self._tags(row)
        pair = None if self.binding.pair is None else self._text(row, self.binding.pair, "its second text")
        return self._text(row, self.binding.text, "its text"), pair, self.label(row)

    def label(self, row: int) -> Any:
        """The label of a row, as the task wants it."""
        values = [self.table.rows[row][self.places[name]] for name in self.binding.labels]
        if self.task in ("sentence_embedding", "question_answering"):
            return values[0] if values else None
        if self.task == "multi_label":
            return _several(values, self.binding.labels, self.separator)
        return _PARSERS[self.task](values[0])

    def _text(self, row: int, column: str, what: str) -> str:
        try:
            value = as_text(self.table.rows[row][self.places[column]])
        except DataError as error:
            raise DataError(f"{what} cannot be read: {error}") from None
        if value is None or not value.strip():
            raise DataError(f"{what} is empty")
        return value

    def _words(self, row: int) -> list[str]:
        words = self.table.rows[row][self.places[self.binding.text]]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise DataError("its words are no list of texts")
        return words

    def _read_tags(self) -> None:
        given = [self._given_tags(row) for row in range(len(self.table.rows))]
        scheme = to_iob2([tags or [] for tags in given])
        self.tags, self.bad_tags = scheme.tags, scheme.problems
        if scheme.note is not None:
            self.warnings.append(f"{self.table.where}: {scheme.note}")

    def _given_tags(self, row: int) -> list[str] | None:
        tags = self.table.rows[row][self.places[self.binding.labels[0]]]
        return [str(tag) for tag in tags] if isinstance(tags, list) else None

    def _tags(self, row: int) -> tuple[str, ...]:
        words, tags = self._words(row), self._given_tags(row)
        if tags is None:
            raise DataError("it has no tags")
        if len(tags) != len(words):
            raise DataError(f"it has {len(words)} words and {len(tags)} tags")
        if row in self.bad_tags:
            word, why = self.bad_tags[row]
            place = f"line {int(self.table.lines[row]) + word}" if self.table.facts.get("format") == "conll" else f"word {word + 1}"
            raise DataError(f"{place} ({words[word]!r}): {why}")
        return tuple(self.tags[row])


def _class(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    found = as_text(value)
    if found is None or not found.strip():
        raise DataError("it has no label")
    return found.strip()


def _number(value: Any) -> float:
    found = as_text(value)
    if found is None or not found.strip():
        raise DataError("it has no label" if not isinstance(value, float) else "its label is nan; allowed are finite numbers")
    try:
        number = float(found)
    except ValueError:
        raise DataError(f"its label {found!r} is no number") from None
    if not math.isfinite(number):
        raise DataError(f"its label is {number}; allowed are finite numbers")
    return number


_PARSERS: dict[str, Callable[[Any], Any]] = {"classification": _class, "regression": _number}


def _several(values: Sequence[Any], columns: Sequence[str], separator: str | None) -> tuple[str, ...]:
    """The labels of a row: the columns that hold 1, or the parts of one column; there may be none."""
    if len(columns) > 1:
        flags = {column: str(as_text(value)).strip().lower() for column, value in zip(columns, values)}
        wrong = next((column for column, flag in flags.items() if flag not in _FLAGS), None)
        if wrong is not None:
            raise DataError(f"column {wrong!r} holds {flags[wrong]!r}; allowed are 0 and 1")
        return tuple(column for column, flag in flags.items() if _FLAGS[flag])
    value = values[0]
    found = as_text(value) if not isinstance(value, list) else None
    parts = [_class(part) for part in value] if isinstance(value, list) else (found or "").split(separator) if separator else [found or ""]
    return tuple(sorted({part.strip() for part in parts if part.strip()}))


_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def _separator(table: Table, binding: Binding, text: TextConfig) -> str | None:
    if text.label_separator is not None or len(binding.labels) > 1:
        return text.label_separator
    return "," if any(isinstance(value, str) and "," in value for value in table.column(binding.labels[0])) else None


def _check_labelled(reader: _Reader, split: str) -> None:
    """Some row has a label: a file in which none has any was never labelled.

    Raises:
      DataError: none has.
    """
    table, columns = reader.table, reader.binding.labels
    if reader.task in ("sentence_embedding", "question_answering", "token_classification") or not table.rows:
        return
    if all(value is None or value == "" for name in columns for value in table.column(name)):
        hint = "leave the file out, then rows of the training file are kept for it" if split != "train" else "say text.label"
        raise DataError(f"{table.where}: no row has a label (column {', '.join(map(repr, columns))}): {hint}")


def check_rejected(where: str, rejected: Sequence[Mapping[str, str]], good: int, policy: str) -> None:
    """Rows that cannot be used end the run with the list unless the configuration skips them.

    Raises:
      DataError: there are some and the policy is "error", or none can be used.
    """
    if rejected and (policy == "error" or not good):
        shown = "\n".join(f"  {entry['file']}: {entry['why']}" for entry in rejected[:_SHOWN])
        more = f"\n  ... and {len(rejected) - _SHOWN} more" if len(rejected) > _SHOWN else ""
        hint = "\nRepair or remove them, or leave them out: data.bad_files='skip'." if good else ""
        raise DataError(f"{where}: {len(rejected)} of {len(rejected) + good} rows cannot be used:\n{shown}{more}{hint}")


def file_names(tables: Mapping[str, Table]) -> dict[str, str]:
    """What each split's file is called in ids: its name, or its whole path where two are called the same."""
    names = {split: Path(table.where).name for split, table in tables.items()}
    twice = {name for name, count in collections.Counter(names.values()).items() if count > 1}
    return {split: tables[split].where if name in twice else name for split, name in names.items()}


def _question_ids(ids: list[str], tables: Mapping[str, Table]) -> list[str]:
    """The questions' own ids where all have one and no two the same; else file and number."""
    names = file_names(tables)
    own = {row_name(names[split], line): row[0] for split, table in tables.items() for line, row in zip(table.lines, table.rows)}
    found = [own[name] for name in ids]
    return [str(name) for name in found] if None not in found and len(set(found)) == len(found) else ids


def _facts(tables: Mapping[str, Table], bindings: Mapping[str, Binding]) -> dict[str, Any]:
    """What was found out of the files; where they differ, by split."""
    train = bindings["train"]
    columns = train.to_json()
    for role, entry in columns.items():
        others = {split: found[role]["column"] for split, binding in bindings.items() if role in (found := binding.to_json())}
        if any(column != entry["column"] for column in others.values()):
            entry["by_split"] = others

    def fact(name: str) -> Any:
        values = {split: table.facts.get(name) for split, table in tables.items()}
        return values["train"] if len(set(values.values())) == 1 else ", ".join(f"{split}: {value}" for split, value in values.items())

    return {
        "columns": columns,
        "unused_columns": sorted({name for binding in bindings.values() for name in binding.unused}),
        "encoding": fact("encoding"),
        "delimiter": fact("delimiter"),
        "format": fact("format"),
        "files": {split: table.where for split, table in tables.items()},
    }


def answers_of(label: Sequence[Answer]) -> list[str]:
    """The texts of a question's answers, each once."""
    return list(dict.fromkeys(answer.text for answer in label))
