"""When events happened: a column of numbers (seconds, milliseconds, ... since 1970) or of ISO dates as one number for each event, exact, and their unit.

Only the order of times decides about splits; the unit is found out from their size to show dates, and is told.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Num

from ftjax.data.interactions import arrow
from ftjax.data.moments import Moment, read_moment
from ftjax.errors import DataError

_NONE = "it has no time"
_UNITS = ((1e17, "nanoseconds", 1e9), (1e14, "microseconds", 1e6), (1e11, "milliseconds", 1e3), (1e8, "seconds", 1.0))
"""(median from which on it is meant, unit, of them in a second): 1e8 seconds is 1973, 1e11 of them would be the year 5138."""


@dataclasses.dataclass(frozen=True)
class Times:
    """The times of all events.

    Attributes:
      values: `[events]`, int64 or float64; what is bad is 0.
      unit: "seconds", ..., "microseconds" of ISO dates, or "numbers" that are no time since 1970.
      kind: "number", "date" or "date with a time zone", as `moments.Moment` has it.
      bad: what cannot be used, by event.
    """

    values: Num[np.ndarray, " events"]
    unit: str
    kind: str
    bad: dict[int, str]

    def shown(self, value: float) -> str:
        """A time as a person reads it."""
        per_second = next((per for _, unit, per in _UNITS if unit == self.unit), None)
        if per_second is None:
            return f"{value:g}"
        return datetime.datetime.fromtimestamp(float(value) / per_second, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def read_times(column: Any, where: str, name: Callable[[int], str]) -> Times:
    """A `pyarrow` column as times.

    Args:
      column: numbers, dates, or strings of one of both.
      where: the log.
      name: what an event is called in messages.

    Raises:
      DataError: numbers and dates are mixed, or the column holds neither.
    """
    import pyarrow

    if pyarrow.types.is_temporal(column.type):
        aware = getattr(column.type, "tz", None) is not None
        return _dated(*arrow.microseconds(column, aware=aware), "date with a time zone" if aware else "date")
    texts = arrow.texts_of(column)
    empty, numeric = arrow.missing(texts), arrow.matches(texts, arrow.NUMBER)
    if len(empty) and empty.all():
        raise DataError(f"{where}: the column of times is empty; say recommendation.time, or leave the column out if the file is in the order of time")
    if 2 * np.sum(numeric) < np.sum(~empty):
        return _from_dates(texts, empty, where)
    return _from_numbers(texts, numeric, empty, where, name)


def _from_numbers(texts: Any, numeric: np.ndarray, empty: np.ndarray, where: str, name: Callable[[int], str]) -> Times:
    bad = {int(row): _NONE for row in np.flatnonzero(empty)}
    for row in np.flatnonzero(~numeric & ~empty):
        text = texts[int(row)].as_py()
        if _is_date(text):
            first = int(np.flatnonzero(numeric)[0])
            told = f"a number ({name(first)}: {texts[first].as_py()!r}) and a date ({name(int(row))}: {text!r})"
            raise DataError(f"{where}: the column of times holds what cannot be compared: {told}; write one kind in the whole column")
        bad[int(row)] = f"its time {text!r} is neither a number nor an ISO date such as 2024-01-31"
    values = arrow.numbers(texts)
    for row in np.flatnonzero(~np.isfinite(values)):
        bad[int(row)] = "its time is no finite number"
    for row in np.flatnonzero(values < 0):
        bad[int(row)] = f"its time {texts[int(row)].as_py()} is negative: times are counted from 1970"
    values[np.array(sorted(bad), np.int64)] = 0
    middle = float(np.median(values[numeric])) if numeric.any() else 0.0
    unit = next((unit for least, unit, _ in _UNITS if middle >= least), "numbers")
    return Times(values, unit, "number", dict(sorted(bad.items())))


def _from_dates(texts: Any, empty: np.ndarray, where: str) -> Times:
    import pyarrow

    try:
        return _dated(*arrow.microseconds(arrow.blanked(texts, empty)), "date")
    except pyarrow.ArrowInvalid:
        return _one_by_one(texts, where)


def _one_by_one(texts: Any, where: str) -> Times:
    """Dates with time zones, or of which some are none: each different text is read once."""
    different, codes = arrow.coded(arrow.blanked(texts, arrow.missing(texts)).fill_null(""))
    moments: list[Moment | str] = []
    for text in different:
        try:
            moments.append(read_moment(text))
        except DataError as error:
            moments.append(str(error))
    kinds = {moment.kind: moment.text for moment in moments if isinstance(moment, Moment)}
    if len(kinds) > 1:
        told = ", ".join(f"{kind} ({text!r})" for kind, text in sorted(kinds.items()))
        raise DataError(f"{where}: the column of times holds what cannot be compared: {told}; write one kind in the whole column")
    if not kinds:
        raise DataError(f"{where}: {next(told for told in moments if told != _NONE)}; is recommendation.time another column?")
    orders = np.array([moment.order if isinstance(moment, Moment) else 0 for moment in moments], np.int64)
    wrong = np.array([isinstance(moment, str) for moment in moments])
    bad = {int(row): str(moments[codes[row]]) for row in np.flatnonzero(wrong[codes])}
    return Times(orders[codes], "microseconds", next(iter(kinds)), bad)


def _dated(micros: np.ndarray, empty: np.ndarray, kind: str) -> Times:
    return Times(micros, "microseconds", kind, {int(row): _NONE for row in np.flatnonzero(empty)})


def _is_date(text: str) -> bool:
    try:
        return read_moment(text).kind != "number"
    except DataError:
        return False


def moment_in(text: str, times: Times, key: str) -> float:
    """A moment of the configuration in the unit of the log.

    Raises:
      DataError: it is no time, or of another kind than the log's.
    """
    try:
        found = read_moment(text)
    except DataError as error:
        raise DataError(f"{key}={text!r}: {error}") from None
    if found.kind == times.kind:
        return float(found.order) if isinstance(found.order, float) else found.order
    per_second = next((per for _, unit, per in _UNITS if unit == times.unit), None)
    if found.kind == "date" and per_second is not None:
        return found.order * per_second / 1e6
    raise DataError(f"{key}={text!r} is a {found.kind}, and the times of the log are {times.unit}; write it as in the log")
