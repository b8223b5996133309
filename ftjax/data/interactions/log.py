"""A log of interactions as numbers: users and items by their place in a sorted vocabulary, times as one number, every event with its line.

The vocabularies do not depend on the order of the rows: ids that are numbers come in their order ("7" before "007" before "10"), other ids after them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, Num

from ftjax.config import RecommendationConfig
from ftjax.counting import counted
from ftjax.data.interactions import arrow
from ftjax.data.interactions.reading import Raw
from ftjax.data.interactions.times import Times, read_times
from ftjax.errors import DataError

_SHOWN = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Log:
    """Events of users with items.

    Attributes:
      raw: what was read; it names events.
      users: ids, sorted; `items` likewise.
      user: `[events]`, which user, from 0; `item` likewise.
      time: `[events]`; the place in the file where the log has no times.
      rating: `[events]`; NaN where there is none. None: the log has none, or nothing reads it.
      row: `[events]`, the row of `raw`.
      times: unit and kind; None: the log has no times.
    """

    raw: Raw
    users: tuple[str, ...]
    items: tuple[str, ...]
    user: Int32[np.ndarray, " events"]
    item: Int32[np.ndarray, " events"]
    time: Num[np.ndarray, " events"]
    rating: Float[np.ndarray, " events"] | None
    row: Int64[np.ndarray, " events"]
    times: Times | None

    def __len__(self) -> int:
        """Number of events."""
        return len(self.user)

    def take(self, kept: Bool[np.ndarray, " events"] | Int64[np.ndarray, " kept"]) -> Log:
        """The events that are kept; the vocabularies stay."""
        rating = None if self.rating is None else self.rating[kept]
        return dataclasses.replace(self, user=self.user[kept], item=self.item[kept], time=self.time[kept], rating=rating, row=self.row[kept])

    def compact(self) -> Log:
        """With only the users and items that have events."""
        users, user = np.unique(self.user, return_inverse=True)
        items, item = np.unique(self.item, return_inverse=True)
        return dataclasses.replace(
            self,
            users=tuple(self.users[number] for number in users),
            items=tuple(self.items[number] for number in items),
            user=user.astype(np.int32),
            item=item.astype(np.int32),
        )

    def name(self, event: int) -> str:
        """What an event is called: its file and its line."""
        return self.raw.name(int(self.row[event]))


def read_log(raw: Raw, columns: Mapping[str, Mapping[str, str]], config: RecommendationConfig, bad: str) -> tuple[Log, list[dict[str, str]]]:
    """The events that can be used, and the others: `{"file", "why"}`.

    Args:
      raw: columns as they were read.
      columns: which is which (`columns.bind`).
      config: ratings are read for `min_rating` only.
      bad: "error": an event that cannot be used ends the run; "skip": it is left out and named.

    Raises:
      DataError: there are bad events and the policy is "error", or no event is left.
    """
    if not raw.table.num_rows + len(raw.rejected):
        raise DataError(f"{raw.where} holds no events")
    texts = {role: _texts(raw, columns[role]["column"], role) for role in ("user", "item")}
    why: dict[int, str] = {}
    for role, column in texts.items():
        for row in np.flatnonzero(arrow.missing(column)):
            why.setdefault(int(row), f"it has no {role}")
    times = read_times(_readable(raw, columns["time"]["column"], "time"), raw.where, raw.name) if "time" in columns else None
    for row, reason in (times.bad if times else {}).items():
        why.setdefault(row, reason)
    rating = None
    if config.min_rating is not None:
        rating = _ratings(raw, columns, why)
    rejected = [*({"file": name, "why": reason} for name, reason in raw.rejected), *({"file": raw.name(row), "why": why[row]} for row in sorted(why))]
    _check_bad(raw, rejected, bad)
    kept = np.ones(raw.table.num_rows, bool)
    kept[list(why)] = False
    users, user = _coded(texts["user"], kept)
    items, item = _coded(texts["item"], kept)
    rows = np.flatnonzero(kept)
    order = times.values if times else np.arange(len(kept), dtype=np.int64)
    return Log(raw, users, items, user, item, order[rows], None if rating is None else rating[rows], rows, times), rejected


def _readable(raw: Raw, name: str, role: str) -> Any:
    """A column, unless what is in it are no single values.

    Raises:
      DataError: they are lists, objects or pictures.
    """
    import pyarrow

    column = raw.table.column(name)
    if pyarrow.types.is_nested(column.type) or pyarrow.types.is_boolean(column.type):
        raise DataError(f"{raw.where}: the column {name!r} of the {role} holds {column.type}; allowed are texts, numbers and dates")
    return column


def _texts(raw: Raw, name: str, role: str) -> Any:
    import pyarrow

    column = _readable(raw, name, role)
    try:
        return arrow.texts_of(column)
    except pyarrow.ArrowException as error:
        raise DataError(f"{raw.where}: the column {name!r} of the {role} cannot be read as text: {str(error).splitlines()[0]}") from None


def _check_bad(raw: Raw, rejected: list[dict[str, str]], policy: str) -> None:
    total = raw.table.num_rows + len(raw.rejected)
    if rejected and (policy == "error" or len(rejected) == total):
        names = "\n".join(f"  {entry['file']}: {entry['why']}" for entry in rejected[:_SHOWN])
        more = f"\n  ... ({len(rejected):,} in all)" if len(rejected) > _SHOWN else ""
        hint = "\nRepair them, or leave them out: data.bad_files='skip'" if len(rejected) < total else ""
        raise DataError(f"{raw.where}: {counted(len(rejected), 'events')} of {total:,} cannot be used:\n{names}{more}{hint}")


def _ratings(raw: Raw, columns: Mapping[str, Mapping[str, str]], why: dict[int, str]) -> Float[np.ndarray, " rows"]:
    if "rating" not in columns:
        raise DataError(
            f"{raw.where} has no column of ratings ({', '.join(raw.table.column_names)}), which recommendation.min_rating reads: say recommendation.rating"
        )
    values = arrow.real(_readable(raw, columns["rating"]["column"], "rating"))
    for row in np.flatnonzero(~np.isfinite(values)):
        why.setdefault(int(row), "its rating is no number")
    return values


def _coded(column: Any, kept: Bool[np.ndarray, " rows"]) -> tuple[tuple[str, ...], Int32[np.ndarray, " events"]]:
    """The sorted ids of the events that are kept, and the place of each event's among them."""
    import pyarrow

    ids, codes = arrow.coded(column if kept.all() else column.filter(pyarrow.array(kept)))
    order = sorted(range(len(ids)), key=lambda number: id_order(ids[number]))
    place = np.empty(len(ids), np.int32)
    place[order] = np.arange(len(ids), dtype=np.int32)
    return tuple(ids[number] for number in order), place[codes]


def id_order(name: str) -> tuple[int, int, int, str]:
    """Numbers in their order, those of one value by their length, other ids after them by their letters."""
    if name.isdecimal() and name.isascii() and len(name) < 19:
        return 0, int(name), len(name), name
    return 1, 0, 0, name
