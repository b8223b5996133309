"""Which column is the user, the item, the time and the rating: as the configuration says, or guessed from names and, without a header, from content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.config import RecommendationConfig
from ftjax.data.interactions.names import ROLES, plain
from ftjax.data.interactions.reading import Raw
from ftjax.errors import DataError, did_you_mean

_LOOK = 1000
_LEAST_TIME = 1e8
"""Numbers from here on, in a column without a name, are seconds since 1970."""


def bind(raw: Raw, config: RecommendationConfig) -> dict[str, dict[str, str]]:
    """The column of each role that the log has, as data.json shows it: `{"user": {"column", "origin": "given"|"guessed", "why"}, ...}`.

    Raises:
      DataError: a column that is not there, one that serves twice, or a user or an item that cannot be seen.
    """
    names = tuple(raw.table.column_names)
    found = {role: _entry(_existing(raw.where, names, given, role), "given", f"by recommendation.{role}") for role, given in _given(config).items()}
    for role, entry in _guessed(raw, names).items():
        if role not in found and entry["column"] not in {other["column"] for other in found.values()}:
            found[role] = entry
    for role in ("user", "item"):
        if role not in found:
            raise DataError(f"{raw.where}: which column is the {role} cannot be seen ({', '.join(map(repr, names))}): say recommendation.{role}")
    columns = [entry["column"] for entry in found.values()]
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"{raw.where}: the column {twice!r} would be used twice; user, item, time and rating are different columns")
    return {role: found[role] for role in ("user", "item", "time", "rating") if role in found}


def _given(config: RecommendationConfig) -> dict[str, str]:
    return {role: name for role in ROLES if (name := getattr(config, role)) is not None}


def _entry(column: str, origin: str, why: str) -> dict[str, str]:
    return {"column": column, "origin": origin, "why": why}


def _existing(where: str, names: Sequence[str], name: str, role: str) -> str:
    if name in names:
        return name
    raise DataError(f"{where} has no column {name!r} (recommendation.{role}): {did_you_mean(name, names)}")


def _guessed(raw: Raw, names: Sequence[str]) -> Mapping[str, dict[str, str]]:
    if raw.form in ("pairs", "sequences"):
        why = "a line 'user item' for each event" if raw.form == "pairs" else "a line 'user item item ...' for each user"
        return {"user": _entry(names[0], "guessed", why), "item": _entry(names[1], "guessed", why)}
    if all(name == str(number) for number, name in enumerate(names)):
        return _by_place(raw, names)
    by_name = {plain(name): name for name in reversed(names)}
    found = {role: next((by_name[name] for name in known if name in by_name), None) for role, known in ROLES.items()}
    return {role: _entry(column, "guessed", "from its name") for role, column in found.items() if column is not None}


def _by_place(raw: Raw, names: Sequence[str]) -> Mapping[str, dict[str, str]]:
    """Without a header: user, item, and of the other columns the one with large numbers is the time and one with small ones the rating (MovieLens' order)."""
    why = "there is no header; the order of MovieLens' files"
    found = {"user": _entry(names[0], "guessed", why), "item": _entry(names[1], "guessed", why)} if len(names) > 1 else {}
    for name in names[2:]:
        role = _kind(raw.table.column(name).slice(0, _LOOK))
        if role is not None and role not in found:
            found[role] = _entry(name, "guessed", "from its values; there is no header")
    return found


def _kind(column: Any) -> str | None:
    try:
        values = np.array([float(value) for value in column.to_pylist()])
    except (TypeError, ValueError):
        return None
    return "time" if len(values) and np.median(values) >= _LEAST_TIME else "rating"
