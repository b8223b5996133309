"""Texts as the checks see them: the sides that are compared, and what remains when a person leaves rows out."""

from __future__ import annotations

import dataclasses
from typing import Any

from ftjax.data.drop import read_drop
from ftjax.data.text.examples import Examples

_OF_ROWS = ("ids", "splits", "texts", "pairs", "labels", "groups", "moments")
"""Fields of `Examples` with one value for each row (or none at all)."""


def sides(examples: Examples) -> list[list[str]]:
    """The texts of all rows, words joined by spaces, and their second texts where they have two."""
    texts = [text if isinstance(text, str) else " ".join(text) for text in examples.texts]
    return [texts] if examples.pairs is None else [texts, list(examples.pairs)]


def without_texts(examples: Examples, file: str | None) -> tuple[Examples, dict[str, Any]]:
    """The examples that the file does not name (nor rejects that it does), and what data.json says of those it does.

    Raises:
      DataError: the file cannot be read, or names a row that is not there.
    """
    ids, report = read_drop(file, [*examples.ids, *(entry["file"] for entry in examples.rejected)], examples.where)
    if not ids:
        return examples, report
    kept = [row for row, name in enumerate(examples.ids) if name not in ids]
    columns = {field.name: getattr(examples, field.name) for field in dataclasses.fields(examples) if field.name in _OF_ROWS}
    left: dict[str, Any] = {name: [column[row] for row in kept] if column else column for name, column in columns.items()}
    rejected = tuple(entry for entry in examples.rejected if entry["file"] not in ids)
    return dataclasses.replace(examples, **left, rejected=rejected), report
