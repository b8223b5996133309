"""The rows of a table with a model's answers beside them: every row and column that was read comes out again, in its order, and nothing is overwritten."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SUFFIX = "_predicted"
ECHOED = ("words",)
"""What answers repeat of their row, so that they can be read by themselves."""
EVERY = "probabilities"
"""What an answer calls the probability of every class, by name; each becomes a column of its own."""


def beside(rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]], echoed: Sequence[str] = ECHOED) -> list[dict[str, Any]]:
    """Each row with its answer after its own columns; an answer's name that the rows have already gets `_predicted`, and a number if need be.

    Args:
      rows: as they were read.
      answers: `{"id", "label", "probability", ...}` of each row; the id is not repeated.
      echoed: what an answer only repeats of its row (the words of a sentence): left out where the rows have it.

    Raises:
      ValueError: there is not one answer for each row; a bug of the caller.
    """
    rows = [{name: _plain(name, value) for name, value in row.items()} for row in rows]
    flat = [_flat(answer) for answer in answers]
    taken = set().union(*(row.keys() for row in rows)) if rows else set()
    flat = [{name: value for name, value in answer.items() if not (name in echoed and name in taken)} for answer in flat]
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


def _plain(name: str, value: Any) -> Any:
    """What a table may hold, as JSON can: numbers that are not finite as None, dates and the like as text."""
    if name == EVERY:
        # The writer would take a column of this name for the classes' probabilities.
        return value if isinstance(value, str) else json.dumps(_plain("", value), ensure_ascii=False)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain("", item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain("", item) for key, item in value.items()}
    return value if value is None or isinstance(value, (str, int)) else str(value)
