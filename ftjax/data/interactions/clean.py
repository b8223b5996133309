"""What of a log is left out, by which rule, and the names of all that is: low ratings, repeated events, a sample of users, cores, lonely users."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from ftjax.config import RecommendationConfig
from ftjax.counting import counted
from ftjax.data.interactions.log import Log
from ftjax.data.order import rank
from ftjax.errors import DataError

_SHOWN = 5
_EACH = {"user": "users", "item": "items"}


@dataclasses.dataclass(frozen=True, eq=False)
class Removed:
    """Events, or whole users or items with all their events, that one rule took out.

    Attributes:
      policy: the setting that decided it.
      what: "event", "user" or "item".
      count: of them.
      events: how many went in all.
      told: gives (name, why) of each; only made when it is written down, as there may be millions.
    """

    policy: str
    what: str
    count: int
    events: int
    told: Callable[[], Iterator[tuple[str, str]]]

    def lines(self) -> Iterator[dict[str, Any]]:
        """As rejected.jsonl has them."""
        for name, why in self.told():
            _, _, line = name.rpartition(":")
            row = int(line) if self.what == "event" and line.isdecimal() else None
            yield {"id": name if self.what == "event" else f"{self.what} {name}", "row": row, "why": why, "policy": self.policy}

    def to_json(self) -> dict[str, Any]:
        """As data.json counts them."""
        return {"policy": self.policy, "events": self.events, **({_EACH[self.what]: self.count} if self.what in _EACH else {})}


def clean(log: Log, config: RecommendationConfig, seed: int) -> tuple[Log, list[Removed], dict[str, Any]]:
    """What remains, what went, and the counts of what was looked for: rating, duplicates, sample of users, cores, users with one event; in this order.

    Raises:
      DataError: a duplicate under `duplicates="error"`, or nothing is left.
    """
    removed: list[Removed] = []
    if config.min_rating is not None and log.rating is not None:
        rating, low = log.rating, log.rating < config.min_rating
        log = _without(log, low, f"recommendation.min_rating={config.min_rating:g}", lambda event: f"its rating is {rating[event]:g}", removed)
        _check_left(log, removed)
    log, found = _duplicates(log, config, removed)
    log = _sampled(log, config, seed, removed)
    log, rounds = _cores(log, config, removed)
    _check_left(log, removed)
    counts = np.bincount(log.user, minlength=len(log.users))
    log = _without_owners(log, "user", counts == 1, "users with one event", lambda user: "it has one event, so nothing came before or after it", removed)
    _check_left(log, removed)
    return log.compact(), removed, {"duplicates": found, "core_rounds": rounds}


def _check_left(log: Log, removed: list[Removed]) -> None:
    if not len(log):
        told = ", ".join(f"{entry.events:,} by {entry.policy}" for entry in removed)
        raise DataError(f"{log.raw.where}: no event is left: {told or 'there was none'}")


def _without(log: Log, gone: Bool[np.ndarray, " events"], policy: str, why: Callable[[int], str], removed: list[Removed]) -> Log:
    """Without the events that are gone; `why(event)` is the reason."""
    events = np.flatnonzero(gone)
    if not len(events):
        return log
    removed.append(Removed(policy, "event", len(events), len(events), lambda: ((log.name(int(event)), why(int(event))) for event in events)))
    return log.take(~gone)


def _without_owners(log: Log, what: str, gone: Bool[np.ndarray, " owners"], policy: str, why: Callable[[int], str], removed: list[Removed]) -> Log:
    """Without the users or items that are gone; `why(number)` is the reason."""
    codes, names = (log.user, log.users) if what == "user" else (log.item, log.items)
    numbers = np.flatnonzero(gone)
    if not len(numbers):
        return log
    lost = gone[codes]
    removed.append(Removed(policy, what, len(numbers), int(lost.sum()), lambda: ((names[number], why(int(number))) for number in numbers)))
    return log.take(~lost)


def _duplicates(log: Log, config: RecommendationConfig, removed: list[Removed]) -> tuple[Log, dict[str, Any]]:
    """Events that are there twice (user, item and time), and items that a user has again."""
    policy = config.duplicates
    order = np.lexsort((log.row, log.time, log.item, log.user))
    user, item, time = log.user[order], log.item[order], log.time[order]
    same = np.concatenate([[False], (user[1:] == user[:-1]) & (item[1:] == item[:-1])])
    exact = same & np.concatenate([[False], time[1:] == time[:-1]])
    found = {"policy": policy, "events": int(exact.sum()), "repeated": int(same.sum() - exact.sum())}
    if exact.any() and policy == "error":
        shown = ", ".join(f"{log.name(event)} (user {log.users[log.user[event]]!r}, item {log.items[log.item[event]]!r})" for event in order[exact][:_SHOWN])
        told = f"{counted(int(exact.sum()), 'events are there twice')}: {shown}{', ...' if exact.sum() > _SHOWN else ''}"
        raise DataError(f"{log.raw.where}: {told}; remove them, or say recommendation.duplicates='drop'")
    if policy in ("keep", "error"):
        return log, found
    again = exact if policy == "drop" else same
    gone = np.zeros(len(log), bool)
    gone[order] = again
    # The first of a run of equal events is the one that stays.
    first = np.empty(len(log), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(again, 0, np.arange(len(log))))]
    what, before = "the same event as" if policy == "drop" else "the same user and item as", log
    return _without(log, gone, f"recommendation.duplicates={policy}", lambda event: f"{what} {before.name(int(first[event]))}", removed), found


def _sampled(log: Log, config: RecommendationConfig, seed: int, removed: list[Removed]) -> Log:
    """At most `max_users` users, by a hash of their ids: those of a smaller sample are among those of a larger one."""
    present = np.unique(log.user)
    if config.max_users is None or len(present) <= config.max_users:
        return log
    order = sorted(present, key=lambda number: rank("users", seed, log.users[number]))
    gone = np.zeros(len(log.users), bool)
    gone[order[config.max_users :]] = True
    return _without_owners(log, "user", gone, f"recommendation.max_users={config.max_users}", lambda user: "not drawn", removed)


def _cores(log: Log, config: RecommendationConfig, removed: list[Removed]) -> tuple[Log, list[dict[str, int]]]:
    """Users and items with too few events, in turns until nobody has: the largest part in which everyone has enough is the same whatever the order."""
    rounds: list[dict[str, int]] = []
    while True:
        before, told = len(log), {}
        for what, least in (("user", config.user_core), ("item", config.item_core)):
            codes = log.user if what == "user" else log.item
            counts = np.bincount(codes, minlength=len(log.users if what == "user" else log.items))
            few = (counts > 0) & (counts < least)
            log = _without_owners(log, what, few, f"recommendation.{what}_core={least}", _few(counts, len(rounds) + 1), removed)
            told[_EACH[what]] = int(few.sum())
        if len(log) == before:
            return log, rounds
        rounds.append({"round": len(rounds) + 1, **told, "events": before - len(log)})


def _few(counts: Int64[np.ndarray, " owners"], number: int) -> Callable[[int], str]:
    return lambda owner: f"{counted(int(counts[owner]), 'events')}, in round {number}"


def tied(log: Log, order: Int64[np.ndarray, " events"]) -> Bool[np.ndarray, " events"]:
    """Which events, in `order`, are at the same moment as the one before them in their user's history."""
    if log.times is None or not len(log):
        return np.zeros(len(log), bool)
    user, time = log.user[order], log.time[order]
    return np.concatenate([[False], (user[1:] == user[:-1]) & (time[1:] == time[:-1])])
