"""What trains, validates and tests: each user's last events, or all that happened from a moment on. Nothing of a user's future is in what is known of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int64, Num

from ftjax.config import DataConfig, RecommendationConfig
from ftjax.data.interactions.log import Log
from ftjax.data.interactions.times import moment_in
from ftjax.errors import DataError

Ends = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""User, start, stop and until of the rows of a split (`histories.Histories`), int64, in the order of users."""


@dataclasses.dataclass(frozen=True, eq=False)
class Parted:
    """Where histories end.

    Attributes:
      ends: the rows of each split.
      trained: `[events]`, which events are known in training.
      facts: how it was done, for data.json.
    """

    ends: dict[str, Ends]
    trained: np.ndarray
    facts: dict[str, Any]


def part(log: Log, data: DataConfig, config: RecommendationConfig) -> Parted:
    """Split a log that is in order (`ordering.in_order`).

    Raises:
      DataError: a split would be empty, or the log has no times where they are needed.
    """
    borders = np.searchsorted(log.user, np.arange(len(log.users) + 1)).astype(np.int64)
    return _last(log, borders) if config.leave_out == "last" else _by_time(log, borders, data, config)


def _last(log: Log, borders: Int64[np.ndarray, " users_1"]) -> Parted:
    """The last event of every user with at least three tests, the one before it validates; users with two events only train."""
    start, stop = borders[:-1], borders[1:]
    tested = stop - start >= 3
    if not tested.any():
        raise DataError(f"{log.raw.where}: no user has three events: one to train on, one to validate and one to test; is recommendation.user another column?")
    users = np.flatnonzero(tested)
    known = np.where(tested, stop - 2, stop)
    teaching = np.flatnonzero(known - start >= 2)
    _check_teaching(log, teaching)
    ends: dict[str, Ends] = {
        "train": (teaching, start[teaching], known[teaching], known[teaching]),
        "validation": (users, start[users], stop[users] - 2, stop[users] - 1),
        "test": (users, start[users], stop[users] - 1, stop[users]),
    }
    trained = np.arange(len(log)) < np.repeat(known, stop - start)
    return Parted(ends, trained, {"way": "last", "only_train": int((~tested).sum()), "never_train": int(np.sum(known - start < 2))})


def _by_time(log: Log, borders: Int64[np.ndarray, " users_1"], data: DataConfig, config: RecommendationConfig) -> Parted:
    """Events before `validation_from` train, those before `test_from` validate, the others test; a moment belongs to one side as a whole."""
    if log.times is None:
        raise DataError(f"{log.raw.where} has no column of times ({', '.join(log.raw.table.column_names)}), which recommendation.leave_out='time' reads")
    first, second = _moments(log, data, config)
    start, stop = borders[:-1], borders[1:]
    middle = start + np.add.reduceat(log.time < first, start).astype(np.int64)
    late = start + np.add.reduceat(log.time < second, start).astype(np.int64)
    teaching = np.flatnonzero(middle - start >= 2)
    ranked = {"validation": (middle, late), "test": (late, stop)}
    ends: dict[str, Ends] = {"train": (teaching, start[teaching], middle[teaching], middle[teaching])}
    unknown = {}
    for split, (before, until) in ranked.items():
        users = np.flatnonzero((until > before) & (before > start))
        unknown[split] = int(np.sum((until > before) & (before == start)))
        ends[split] = (users, start[users], before[users], until[users])
    times = log.times
    facts: dict[str, Any] = {"way": "time", "validation_from": times.shown(first), "test_from": times.shown(second), "without_history": unknown}
    for split, (users, *_) in ends.items():
        if not len(users):
            told = f"from {times.shown(first)} validates, from {times.shown(second)} tests, of {times.shown(log.time.min())} to {times.shown(log.time.max())}"
            least = "two events in it" if split == "train" else "events in it and before it"
            raise DataError(f"{log.raw.where}: the {split} split is empty: no user has {least} ({told}); say recommendation.validation_from and test_from")
    return Parted(ends, log.time < first, facts)


def _check_teaching(log: Log, teaching: np.ndarray) -> None:
    if not len(teaching):
        raise DataError(f"{log.raw.where}: the train split is empty: no user has four events, two of them to train on; is recommendation.user another column?")


def _moments(log: Log, data: DataConfig, config: RecommendationConfig) -> tuple[float, float]:
    """When validation and test begin.

    Raises:
      DataError: they are not in that order.
    """
    assert log.times is not None
    times = np.sort(log.time)
    second = _given(config.test_from, "test", log)
    second = _newest(times, data.test_fraction) if second is None else second
    first = _given(config.validation_from, "validation", log)
    first = _newest(times[times < second], data.validation_fraction * len(times) / max(1, int(np.sum(times < second)))) if first is None else first
    if not first < second:
        shown = log.times.shown
        raise DataError(f"recommendation: validation begins at {shown(first)} and test at {shown(second)}; validation comes first")
    return first, second


def _given(text: str | None, split: str, log: Log) -> float | None:
    assert log.times is not None
    return None if text is None else moment_in(text, log.times, f"recommendation.{split}_from")


def _newest(times: Num[np.ndarray, " events"], share: float) -> float:
    """The earliest moment from which on no more than `share` of the events are, or else the last one."""
    if not len(times):
        return float("-inf")
    wanted = times[max(0, len(times) - round(share * len(times))) :]
    edge = wanted[0] if len(wanted) else times[-1]
    if len(times) - np.searchsorted(times, edge) > max(1, round(share * len(times))):
        later = times[np.searchsorted(times, edge, side="right") :]
        edge = later[0] if len(later) else edge
    return edge.item()


def windows(ends: Ends, newest: int) -> tuple[Ends, Int64[np.ndarray, " windows"]]:
    """Training rows cut into windows of at most `newest` items, from the newest on; the last item of one is the first of the next, so each is a target once.

    Returns:
      The rows, and the number of each window of its user, the newest being 0.
    """
    user, start, stop, _ = ends
    pieces = np.maximum(1, -(-(stop - start - 1) // (newest - 1)))
    which = np.repeat(np.arange(len(user)), pieces)
    number = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    end = stop[which] - number * (newest - 1)
    return (user[which], np.maximum(start[which], end - newest), end, end), number
