"""Histories to recommend after: a log of new users, or lists in memory, in the numbers of a trained model's items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.config import RecommendationConfig, TextConfig
from ftjax.data.dataset import Split
from ftjax.data.interactions.catalogue import Catalogue
from ftjax.data.interactions.columns import bind
from ftjax.data.interactions.histories import Histories, histories_split
from ftjax.data.interactions.log import read_log
from ftjax.data.interactions.ordering import in_order
from ftjax.data.interactions.reading import read_raw
from ftjax.errors import DataError

_SHOWN = 5


def read_histories(path: str, text: TextConfig, config: RecommendationConfig) -> dict[str, list[str]]:
    """The items of every user of a log, oldest first; nothing is left out.

    Args:
      path: a log in any form that training reads.
      text: encoding, delimiter and header.
      config: columns and form.

    Raises:
      DataError: the log cannot be read, or an event lacks its user, item or time.
    """
    raw = read_raw(path, text, config)
    log = in_order(read_log(raw, bind(raw, config), config, "error")[0], 0)[0]
    found: dict[str, list[str]] = {}
    for user, item in zip(log.user.tolist(), log.item.tolist()):
        found.setdefault(log.users[user], []).append(log.items[item])
    return found


def histories_to_predict(histories: Mapping[str, Sequence[str]], catalogue: Catalogue, newest: int, buckets: int = 4) -> tuple[Split, dict[str, int]]:
    """The split of these users, and the items that the model does not know, with how often they came: those are passed over.

    Args:
      histories: items by user, oldest first.
      catalogue: of the model.
      newest: items that it sees.
      buckets: at most so many lengths.

    Raises:
      DataError: there is no user, or a history is no list of ids.
    """
    if not histories:
        raise DataError("there are no histories to recommend after")
    place = {name: number for number, name in enumerate(catalogue.ids, 1)}
    known, unknown = [], {}
    for user, items in histories.items():
        if isinstance(items, str) or not isinstance(items, Sequence):
            raise DataError(f"the history of user {user!r} is a {type(items).__name__}; allowed: a list of ids, oldest first")
        for name in map(str, items):
            if name not in place:
                unknown[name] = unknown.get(name, 0) + 1
        known.append([place[name] for name in map(str, items) if name in place])
    ends = np.cumsum([0, *map(len, known)])
    # One item behind the last, so that there is something where nothing came next.
    flat = np.array([*(item for items in known for item in items), 0], np.int32)
    rows = Histories(catalogue, flat, ends[:-1].astype(np.int64), ends[1:].astype(np.int64), ends[1:].astype(np.int64), newest, training=False)
    return histories_split(tuple(histories), rows, buckets), unknown


def told_unknown(unknown: Mapping[str, int]) -> str:
    """What to warn of."""
    shown = ", ".join(repr(name) for name in list(unknown)[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
    return f"{sum(unknown.values()):,} events with {len(unknown):,} items that the model does not know are passed over: {shown}"


def as_histories(examples: Any) -> dict[str, list[str]]:
    """Lists in memory by user: `{user: items}`, or a list of lists, whose users are their numbers from 0."""
    if isinstance(examples, Mapping):
        return {str(user): items for user, items in examples.items()}
    return {str(number): items for number, items in enumerate(examples)}
