"""When a row is from: ISO dates or numbers, one kind in a whole column, and the newest rows split off for validation and test."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from ftjax.errors import DataError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Moment(NamedTuple):
    """When a row is from.

    Attributes:
      order: exact; microseconds since 1970 of a date.
      kind: "number", "date" or "date with a time zone"; only moments of one kind can be compared.
      text: as it was written.
    """

    order: int | float
    kind: str
    text: str


def read_moment(value: Any) -> Moment:
    """A cell as a moment: a number, or a date in ISO 8601 (`2024-01-31`, `2024-01-31T12:00`, with or without a time zone).

    Raises:
      DataError: it is neither, or is missing.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value.strip()):
        raise DataError("it has no time")
    if isinstance(value, (datetime.datetime, datetime.date)):
        return _dated(value, value.isoformat())
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return Moment(value, "number", str(value))
    text = value.strip() if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return Moment(int(text) if text.lstrip("+-").isdecimal() else float(text), "number", text)
    try:
        return _dated(datetime.datetime.fromisoformat(text), text)
    except ValueError:
        raise DataError(f"its time {value!r} is neither a number nor an ISO date such as 2024-01-31") from None


def _dated(value: datetime.date, text: str) -> Moment:
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    kind = "date" if value.tzinfo is None else "date with a time zone"
    aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
    return Moment((aware - _EPOCH) // datetime.timedelta(microseconds=1), kind, text)


def check_comparable(ids: Sequence[str], moments: Sequence[Moment], where: str) -> None:
    """All moments are of one kind.

    Raises:
      DataError: they are not; the message names the first row of each kind.
    """
    first: dict[str, int] = {}
    for row, moment in enumerate(moments):
        first.setdefault(moment.kind, row)
    if len(first) > 1:
        told = ", ".join(f"{kind} ({ids[row]}: {moments[row].text!r})" for kind, row in first.items())
        raise DataError(f"{where}: data.time holds what cannot be compared: {told}; write one kind in the whole column")


def newest(ids: Sequence[str], moments: Sequence[Moment], fraction: float, *, purpose: str, leave: int) -> Bool[np.ndarray, " rows"]:
    """Which rows go to the new split: the newest ones, `fraction` of all, rounded down to whole moments, at least one moment.

    Rows of one moment stay together, for none of them is before the others; so no row of the split is as old as one that stays.

    Args:
      ids: names, for messages.
      moments: of each row.
      fraction: of the rows, in (0, 1).
      purpose: the split's name, for messages.
      leave: different moments that must stay.

    Raises:
      DataError: there are too few different moments.
    """
    orders = sorted({moment.order for moment in moments}, reverse=True)
    if len(orders) <= leave:
        raise DataError(f"data.time has {len(orders)} different values in {len(ids)} rows, too few to split {purpose} off ({leave + 1} are needed)")
    counts = dict.fromkeys(orders, 0)
    for moment in moments:
        counts[moment.order] += 1
    total, border = 0, orders[0]
    for order in orders[: len(orders) - leave]:
        total += counts[order]
        if total > round(fraction * len(ids)):
            break
        border = order
    return np.array([moment.order >= border for moment in moments], bool)
