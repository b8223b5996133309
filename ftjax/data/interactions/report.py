"""What data.json says of a log: how much there is, how unevenly it is spread, how many test targets are cold, and what a person should know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from ftjax.counting import counted
from ftjax.data.dataset import Split
from ftjax.data.interactions.clean import Removed
from ftjax.data.interactions.log import Log

_QUANTILES = (0, 25, 50, 75, 90, 99, 100)


def counts_of(log: Log) -> dict[str, Any]:
    """Users, items, events, and how they are spread."""
    users, items, events = len(log.users), len(log.items), len(log)
    by_user, by_item = np.bincount(log.user, minlength=users), np.bincount(log.item, minlength=items)
    return {
        "users": users,
        "items": items,
        "events": events,
        "sparsity": 1 - events / (users * items),
        "events_per_user": quantiles(by_user),
        "events_per_item": quantiles(by_item),
        "popularity": {"gini": gini(by_item), "top_tenth": top_share(by_item, 0.1), "curve": curve(by_item)},
        **({} if log.times is None else {"from": log.times.shown(log.time.min()), "to": log.times.shown(log.time.max()), "time_unit": log.times.unit}),
    }


def quantiles(counts: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Mean, smallest, quartiles, upper ends and largest."""
    found = np.percentile(counts, _QUANTILES)
    return {"mean": float(counts.mean()), **{f"{percent}%": float(value) for percent, value in zip(_QUANTILES, found)}}


def gini(counts: Int[np.ndarray, " n"]) -> float:
    """0: all items have the same share of the events; towards 1: one item has them all.

    >>> round(gini(np.array([1, 1, 1, 1])), 3), round(gini(np.array([0, 0, 0, 4])), 3)
    (0.0, 0.75)
    """
    ordered = np.sort(counts.astype(np.float64))
    total = ordered.sum()
    if not total:
        return 0.0
    n = len(ordered)
    return float(2 * np.sum(np.arange(1, n + 1) * ordered) / (n * total) - (n + 1) / n)


def top_share(counts: Int[np.ndarray, " n"], part: float) -> float:
    """The share of the events that the most popular `part` of the items (at least one) has."""
    ordered = np.sort(counts)[::-1]
    return float(ordered[: max(1, round(part * len(ordered)))].sum() / max(1, ordered.sum()))


def curve(counts: Int[np.ndarray, " n"], steps: int = 20) -> list[float]:
    """The share of the events that the most popular 0 %, 5 %, ..., 100 % of the items have."""
    running = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])]) / max(1, counts.sum())
    return [float(np.interp(place * len(counts) / steps, np.arange(len(counts) + 1), running)) for place in range(steps + 1)]


def of_split(split: Split, cold_below: int) -> dict[str, Any]:
    """Rows, known events, and where rows are ranked how many targets are cold, unseen, or known already."""
    histories = split.histories
    assert histories is not None
    known = histories.stop - histories.start
    found: dict[str, Any] = {"rows": len(split), "known": quantiles(known), "cut": int(np.sum(known > histories.newest))}
    if histories.training:
        return found
    counts = histories.catalogue.counts[split.labels - 1]
    row = np.repeat(np.arange(len(split)), known)
    place = np.repeat(histories.start - np.cumsum(known) + known, known) + np.arange(len(row))
    repeats = len(np.unique(row[histories.items[place] == split.labels[row]]))
    found |= {
        "unseen": int(np.sum(counts == 0)),
        "cold": int(np.sum(counts < cold_below)),
        "cold_share": float(np.mean(counts < cold_below)),
        "repeats": repeats,
    }
    return found | ({"targets": int(np.sum(histories.until - histories.stop))} if histories.several else {})


def warnings_of(facts: Mapping[str, Any], removed: list[Removed], splits: Mapping[str, Mapping[str, Any]], total: int, rejected: int) -> list[str]:
    """What a person should know before believing any figure."""
    found = []
    if rejected:
        found.append(f"{counted(rejected, 'events were unreadable and skipped')}; rejected.jsonl names them")
    for entry in removed:
        share = entry.events / total
        if entry.policy.startswith(("recommendation.duplicates", "users with")) or share >= 0.01:
            owners = f" with {counted(entry.count, entry.what + 's')}" if entry.what != "event" else ""
            found.append(f"{counted(entry.events, 'events')} ({share:.1%}){owners} were left out: {entry.policy}")
    ties = facts["ties"]
    if ties["targets"]:
        found.append(
            f"{counted(ties['targets'], 'validation and test events are')} at the same moment as the one before: which of them came last was drawn by "
            "a hash of the ids and the seed, as the log does not say"
        )
    if "time_unit" not in facts:
        found.append("the log has no times: its lines were taken to be in the order of time")
    unseen, rows = splits["test"]["unseen"], splits["test"]["rows"]
    if unseen:
        which = f"{counted(unseen, 'test targets')} of {rows:,} ({unseen / rows:.1%})"
        found.append(f"{which}: the item has no training event, so a model that knows items by their ids alone cannot find it")
    for split in ("validation", "test"):
        alone = facts["split"].get("without_history", {}).get(split, 0)
        if alone:
            found.append(f"{split}: {counted(alone, 'users have')} no event before it and cannot be ranked for; they were left out")
    if splits["test"]["repeats"]:
        which = counted(splits["test"]["repeats"], "test targets")
        found.append(f"{which}: the user had the item before, and what a user knows is not recommended: they are missed; see recommendation.duplicates='first'")
    return found
