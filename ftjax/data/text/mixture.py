"""The examples of several data sets of texts in one training; `ftjax.data.mixture` says what that means."""

from __future__ import annotations

import dataclasses
from typing import Any

from ftjax.config import DataConfig, TextConfig
from ftjax.data.language.examples import read_language
from ftjax.data.mixture import Mixture, check_further, count_left, mixture_of
from ftjax.data.text.examples import Examples, read_examples
from ftjax.data.text.sources import read_tables
from ftjax.errors import DataError

_OF_ROWS = ("ids", "splits", "texts", "labels", "groups", "moments")


def read_mixed(data: DataConfig, text: TextConfig, task: str) -> tuple[Examples, Mixture | None]:
    """The examples of `data.path` and, after them, the training rows of `data.mixture`.

    Raises:
      ConfigError: see `ftjax.data.mixture.check_mixture`.
      DataError: whatever `read_examples` refuses, classes that the first data set has not, or a second text in some and none in others.
    """
    read = read_language if task in ("language_modeling", "preference") else read_examples
    examples = read(read_tables(data, text), data, text, task)
    if not data.mixture:
        return examples, None
    mixture, left_out = mixture_of(data, examples.ids), []
    known = _classes(examples, task)
    for name, path in zip(mixture.names[1:], mixture.paths[1:]):
        alone = dataclasses.replace(data, path=path, validation_path=None, test_path=None)
        other = read(read_tables(alone, text), alone, text, task)
        if (other.pairs is None) != (examples.pairs is None):
            told = "a second text" if examples.pairs is None else "no second text"
            raise DataError(f"data.mixture: {path} has {told}, unlike data.path; say text.text and text.text_pair")
        left_out.append(count_left(list(other.splits)))
        other = _training(other, name)
        check_further(path, _classes(other, task), known, len(other))
        examples = _joined(examples, other, name)
    return examples, dataclasses.replace(mixture, left_out=tuple(left_out))


def _classes(examples: Examples, task: str) -> set[str]:
    if task == "classification":
        return set(examples.labels)
    return {name for names in examples.labels for name in names} if task in ("multi_label", "token_classification") else set()


def _training(examples: Examples, name: str) -> Examples:
    """The training rows alone, under names and groups of their own."""
    kept = [row for row, split in enumerate(examples.splits) if split == "train"]
    columns: dict[str, Any] = {field: [values[row] for row in kept] if (values := getattr(examples, field)) else values for field in _OF_ROWS}
    columns |= {field: [f"{name}/{value}" for value in columns[field]] for field in ("ids", "groups")}
    pairs = None if examples.pairs is None else [examples.pairs[row] for row in kept]
    rejected = [{**entry, "file": f"{name}/{entry['file']}"} for entry in examples.rejected]
    return dataclasses.replace(examples, **columns, pairs=pairs, rejected=rejected)


def _joined(first: Examples, second: Examples, name: str) -> Examples:
    columns: dict[str, Any] = {field: [*getattr(first, field), *getattr(second, field)] for field in (*_OF_ROWS, "rejected")}
    pairs = None if first.pairs is None or second.pairs is None else [*first.pairs, *second.pairs]
    facts = {**first.facts, "further": {**first.facts.get("further", {}), name: dict(second.facts)}}
    warnings = tuple(dict.fromkeys([*first.warnings, *(f"{name}: {warning}" for warning in second.warnings)]))
    return dataclasses.replace(first, **columns, pairs=pairs, facts=facts, warnings=warnings)
