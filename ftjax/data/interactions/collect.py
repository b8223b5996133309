"""The story of a log of interactions: file -> columns -> events -> clean -> order -> split -> rows, and the report of all that happened (data.json)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ftjax.config import DataConfig, RecommendationConfig, TextConfig
from ftjax.data.dataset import SPLITS, Dataset, Split
from ftjax.data.interactions.catalogue import Catalogue, read_texts
from ftjax.data.interactions.clean import Removed, clean
from ftjax.data.interactions.columns import bind
from ftjax.data.interactions.histories import Histories, histories_split
from ftjax.data.interactions.log import Log, read_log
from ftjax.data.interactions.negatives import Negatives
from ftjax.data.interactions.ordering import in_order
from ftjax.data.interactions.reading import read_raw
from ftjax.data.interactions.report import counts_of, of_split, warnings_of
from ftjax.data.interactions.split import Parted, part, windows
from ftjax.errors import ConfigError, DataError


def collect_interactions(data: DataConfig, text: TextConfig, config: RecommendationConfig, seed: int) -> Dataset:
    """Read, clean, order and split a log; `Dataset.classes` are the ids of the items, and `Split.histories` has what each row knows.

    Args:
      data: the file and the shares of a temporal split.
      text: encoding, delimiter, header and buckets.
      config: columns, rules and the way of splitting.
      seed: decides ties in time and the sample of users.

    Raises:
      ConfigError: a setting that does not fit.
      DataError: the log cannot be used; the message says what, where and what would do.
    """
    check_settings(data, config)
    raw = read_raw(data.path, text, config)
    columns = bind(raw, config)
    log, rejected = read_log(raw, columns, config, data.bad_files)
    total = len(log)
    log, removed, found = clean(log, config, seed)
    _check_items(log)
    log, ties = in_order(log, seed)
    parted = part(log, data, config)
    texts, about_texts, warnings = read_texts(log, config)
    catalogue = Catalogue(log.items, texts, np.bincount(log.item[parted.trained], minlength=len(log.items)).astype(np.int64))
    splits = _splits(log, parted, catalogue, text, config, seed)
    told = {name: of_split(split, config.cold_below) for name, split in splits.items()}
    facts = {**counts_of(log), **found, "ties": _ties(ties, parted), "split": parted.facts, "form": raw.form, "removed": [entry.to_json() for entry in removed]}
    report = {
        "source": f"{data.source}: {raw.where}",
        "details": {},
        "seed": seed,
        "fingerprint": _fingerprint(log),
        "classes": [],
        "rejected": rejected,
        "ignored": [],
        "columns": columns,
        "file": dict(raw.facts),
        "interactions": facts,
        "splits": {name: {"per_class": {}, "origin": parted.facts["way"], **told[name]} for name in SPLITS},
        "duplicates": {"policy": config.duplicates, "within": [], "across": [], "conflicting": [], "dropped": []},
        "sampling": {"short": []},
        **({"items": about_texts} if about_texts else {}),
        "warnings": [*raw.warnings, *warnings, *warnings_of(facts, removed, told, total, len(rejected))],
    }
    return Dataset(splits, log.items, report, catalogue=catalogue, removed=_Lines(removed))


class _Lines:
    """The lines of rejected.jsonl beside those of unreadable events, made when they are written: there may be as many as events."""

    def __init__(self, removed: list[Removed]) -> None:
        self._removed = removed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(entry.lines() for entry in self._removed)


def check_settings(data: DataConfig, config: RecommendationConfig) -> None:
    """Values that types alone cannot rule out.

    Raises:
      ConfigError: shares outside (0, 1), or a policy of pictures.
    """
    if data.bad_files == "repair":
        raise ConfigError("data.bad_files='repair' is for pictures; of an event nothing is left that could be kept; allowed: 'error', 'skip'")
    for name in ("validation_fraction", "test_fraction"):
        if not 0.0 < getattr(data, name) < 1.0:
            raise ConfigError(f"data.{name}={getattr(data, name)}: allowed is above 0 and below 1 (every run is validated and tested)")
    if config.sampled_negatives is not None and config.leave_out == "time":
        raise ConfigError("recommendation.sampled_negatives: a sampled metric is of one target, and leave_out='time' has several; leave it open")
    if config.max_length < 2:
        raise ConfigError(f"recommendation.max_length={config.max_length}: allowed is 2 or more")


def _check_items(log: Log) -> None:
    if len(log.items) < 2:
        raise DataError(f"{log.raw.where} has one item only ({log.items[0]!r}): there is nothing to rank; is recommendation.item another column?")


def _splits(log: Log, parted: Parted, catalogue: Catalogue, text: TextConfig, config: RecommendationConfig, seed: int) -> dict[str, Split]:
    """Training rows have one item more than the model sees, for the last one is only a target."""
    items = log.item + np.int32(1)
    negatives = _negatives(catalogue, config, seed)
    found = {}
    for name, ends in parted.ends.items():
        training, newest = name == "train", config.max_length + (name == "train")
        ids = tuple(log.users[number] for number in ends[0])
        if training and config.long_histories == "windows":
            ends, number = windows(ends, newest)
            ids = tuple(log.users[user] if not count else f"{log.users[user]} ({count} back)" for user, count in zip(ends[0], number))
        user, start, stop, until = ends
        end = np.searchsorted(log.user, user, side="right").astype(np.int64)
        several = not training and parted.facts["way"] == "time"
        histories = Histories(catalogue, items, start, stop, until, newest, training, several, None if training else negatives, end)
        found[name] = histories_split(ids, histories, text.buckets)
    return found


def _negatives(catalogue: Catalogue, config: RecommendationConfig, seed: int) -> Negatives | None:
    if config.sampled_negatives is None:
        return None
    cumulative = np.cumsum(catalogue.counts.astype(np.float64)) if config.sampled_by == "popularity" else None
    return Negatives(config.sampled_negatives, cumulative, len(catalogue), seed)


def _ties(same: np.ndarray, parted: Parted) -> dict[str, int]:
    """Events at the same moment as the one before in their history, and how many of the first targets are such events."""
    targets = np.concatenate([parted.ends[split][2] for split in ("validation", "test")])
    return {"events": int(same.sum()), "targets": int(same[targets].sum())}


def _fingerprint(log: Log) -> str:
    """SHA-256 (hex) of every event that is used: user, item and time, in the order of users and time."""
    digest = hashlib.sha256()
    for names in (log.users, log.items):
        digest.update(("\0".join(names) + "\n").encode("utf-8", "surrogatepass"))
    moments = log.time if log.times is not None else np.zeros(0)
    for values in (log.user.astype("<i4"), log.item.astype("<i4"), moments):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
