"""Which column is the text, the second text and the label: as the configuration says, or else guessed from names and content, with the reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.text.names import IDS, LABELS, MULTIPLE, PAIRS, SCORES, TAGS, TEXTS
from ftjax.data.text.table import Table, as_text
from ftjax.errors import ConfigError, DataError, did_you_mean

_GIVEN = "by "
"""How the reason begins where the configuration names the column."""
_LOOK = 1000
"""Rows whose content is looked at."""
_SHORT = 40
"""Characters of a label, on average, at most."""
_NAMES = {"regression": SCORES, "multi_label": MULTIPLE, "token_classification": TAGS}


@dataclasses.dataclass(frozen=True)
class Binding:
    """Columns by what they are, and why.

    Attributes:
      text: the column of the text.
      pair: of the second text, or None.
      labels: of the label; several 0/1 columns for multi_label; none where there are no labels to be read.
      id: a column that names every row, or None.
      unused: all others.
      why: role -> reason.
    """

    text: str
    pair: str | None
    labels: tuple[str, ...]
    id: str | None
    unused: tuple[str, ...]
    why: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """For data.json: each role's column (or columns), whether it was given or guessed, and the reason."""
        bound = {"text": self.text, "text_pair": self.pair, "label": list(self.labels) if len(self.labels) > 1 else next(iter(self.labels), None)}
        return {
            role: {"column": column, "origin": "given" if self.why[role].startswith(_GIVEN) else "guessed", "why": self.why[role]}
            for role, column in bound.items()
            if column is not None
        }


def bind(table: Table, text: TextConfig, task: str, *, labelled: bool = True, like: tuple[str, str | None] | None = None) -> Binding:
    """Find the columns that a task needs.

    Args:
      table: of one file.
      text: what the configuration says.
      task: its name.
      labelled: whether the label's column is needed.
      like: the columns of the training data, which are taken where they are there and the configuration is open.

    Raises:
      ConfigError: token_classification with a second text.
      DataError: a column that is not there, or that cannot be guessed.
    """
    guess = _Guess(table, task)
    why: dict[str, str] = {}
    given = [_existing(table, name, key) for key, name in (("text.text", text.text), ("text.text_pair", text.text_pair)) if name is not None]
    labels = _labels(guess, text, task, why, given) if labelled and task != "sentence_embedding" else ()
    if text.text is not None:
        first, why["text"] = _existing(table, text.text, "text.text"), _GIVEN + "text.text"
    elif like is not None and like[0] in table.columns:
        first, why["text"] = like[0], "as in training"
    else:
        first, why["text"] = guess.text(exclude=(*labels, text.text_pair))
    pair = _pair(guess, text, first, labels, like, why)
    used = (first, pair, *labels)
    twice = next((name for name in used if name is not None and used.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{table.where}: the column {twice!r} would be used twice; text, text_pair and label are different columns")
    unused = tuple(name for name in table.columns if name not in used)
    return Binding(first, pair, labels, guess.id(unused), unused, why)


def _existing(table: Table, name: str, key: str) -> str:
    """The column called `name`, or that has this number.

    Raises:
      DataError: there is none.
    """
    if name in table.columns:
        return name
    raise DataError(f"{table.where} has no column {name!r} ({key}): {did_you_mean(name, table.columns)}")


def _pair(guess: _Guess, text: TextConfig, first: str, labels: Sequence[str], like: tuple[str, str | None] | None, why: dict[str, str]) -> str | None:
    if guess.task == "token_classification":
        if text.text_pair is not None:
            raise ConfigError(f"text.text_pair={text.text_pair!r}: token_classification tags the words of one text; leave it open")
        return None
    if text.text_pair is not None:
        why["text_pair"] = _GIVEN + "text.text_pair"
        return _existing(guess.table, text.text_pair, "text.text_pair")
    if like is not None:
        if like[1] in guess.table.columns:
            why["text_pair"] = "as in training"
            return like[1]
        if like[1] is None:
            return None
    if text.text is None or guess.task == "sentence_embedding" or like is not None:
        found = guess.pair(first, exclude=labels)
        if found is not None:
            why["text_pair"] = found[1]
            return found[0]
    if guess.task == "sentence_embedding" and like is not None:
        return None  # A text by itself has a vector, too.
    if guess.task == "sentence_embedding" or like is not None:
        raise DataError(f"{guess.table.where}: which column is the second text cannot be seen ({_listed(guess.table.columns)}): say text.text_pair")
    return None


def _labels(guess: _Guess, text: TextConfig, task: str, why: dict[str, str], taken: Sequence[str]) -> tuple[str, ...]:
    if text.label is None:
        found, why["label"] = guess.labels(taken)
        return found
    why["label"] = _GIVEN + "text.label"
    if text.label in guess.table.columns or task != "multi_label":
        return (_existing(guess.table, text.label, "text.label"),)
    return tuple(_existing(guess.table, name.strip(), "text.label") for name in text.label.split(","))


@dataclasses.dataclass(frozen=True)
class _Guess:
    """What names and content of a table's columns say."""

    table: Table
    task: str

    def named(self, names: Sequence[str], exclude: Sequence[str | None] = ()) -> list[str]:
        """The columns that bear one of these names, in the order of the names."""
        lower = {name.lower(): name for name in reversed(self.table.columns) if name not in exclude}
        return [lower[name] for name in names if name in lower]

    def text(self, exclude: Sequence[str | None]) -> tuple[str, str]:
        """The first text's column and the reason."""
        for first, seconds in PAIRS.items():
            columns = self.named((first,), exclude)
            if columns and self.named(seconds, exclude) and (first not in ("query", "question") or not self.named(TEXTS[: TEXTS.index("text") + 1], exclude)):
                return columns[0], f"from its name, with {self.named(seconds, exclude)[0]!r} beside it"
        columns = self.named(TEXTS, exclude)
        if columns:
            return columns[0], "from its name"
        lengths = {name: self._length(name) for name in self.table.columns if name not in exclude and name.lower() not in IDS and not self._numbers(name)}
        if not lengths:
            raise DataError(f"{self.table.where}: which column is the text cannot be seen ({_listed(self.table.columns)}): say text.text")
        return max(lengths, key=lambda name: lengths[name]), "its texts are the longest" if len(self.table.columns) > 1 else "the only column"

    def pair(self, first: str, exclude: Sequence[str]) -> tuple[str, str] | None:
        """The second text's column and the reason."""
        columns = self.named(PAIRS.get(first.lower(), ()), (*exclude, first))
        if columns:
            return columns[0], f"from its name, beside {first!r}"
        if self.task != "sentence_embedding":
            return None
        lengths = {
            name: self._length(name) for name in self.table.columns if name not in (*exclude, first) and name.lower() not in IDS and not self._numbers(name)
        }
        return (max(lengths, key=lambda name: lengths[name]), "its texts are the longest after the first") if lengths else None

    def labels(self, taken: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """The label's column, or several, and the reason."""
        fits = {"regression": self._numbers, "token_classification": self._lists}.get(self.task, lambda name: True)
        columns = [name for name in self.named(_NAMES.get(self.task, LABELS), taken) if fits(name)]
        if columns:
            return (columns[0],), "from its name"
        if self.task == "multi_label":
            flags = tuple(name for name in self.table.columns if name not in taken and self._flags(name))
            if len(flags) > 1:
                return flags, "they hold 0 and 1 only"
        others = [name for name in self.table.columns if name not in taken and name.lower() not in IDS and name.lower() not in TEXTS]
        likely = [name for name in others if (self._numbers(name) if self.task == "regression" else self._few(name))]
        if self.task in ("classification", "regression") and len(likely) == 1 and len(self.table.columns) > 1:
            return (likely[0],), "the only column of numbers" if self.task == "regression" else "the only column with few short values"
        several = f"; it may be {_listed(likely)}" if len(likely) > 1 else ""
        spaced = "" if len(self.table.columns) > 1 else "; for lines 'LABEL the text' say text.delimiter=' '"
        raise DataError(f"{self.table.where}: which column is the label cannot be seen ({_listed(self.table.columns)}){several}: say text.label{spaced}")

    def id(self, among: Sequence[str]) -> str | None:
        """A column that names every row."""
        for name in self.named(IDS):
            values = self.table.column(name)
            if name in among and len(set(map(str, values))) == len(values) and all(value not in (None, "") for value in values):
                return name
        return None

    def _look(self, name: str) -> list[Any]:
        return [value for value in self.table.column(name)[:_LOOK] if value is not None and value != ""]

    def _length(self, name: str) -> float:
        values = self._look(name)
        return sum(len(_written(value)) for value in values) / max(len(values), 1)

    def _numbers(self, name: str) -> bool:
        values = self._look(name)
        return bool(values) and sum(_is_number(value) for value in values) > 0.9 * len(values)

    def _flags(self, name: str) -> bool:
        values = self._look(name)
        return bool(values) and all(_written(value) in ("0", "1", "0.0", "1.0", "true", "false") for value in values)

    def _lists(self, name: str) -> bool:
        return any(isinstance(value, list) for value in self._look(name))

    def _few(self, name: str) -> bool:
        """Whether a column holds a few short values again and again."""
        values = [_written(value) for value in self._look(name)]
        return bool(values) and sum(map(len, values)) <= _SHORT * len(values) and len(set(values)) <= max(2, len(values) // 2)


def _written(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(as_text(value)) if not isinstance(value, dict) else str(value)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and not math.isnan(float(value))
    except (TypeError, ValueError):
        return False


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
