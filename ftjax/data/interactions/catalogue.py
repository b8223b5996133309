"""The items: their ids in the order of the model's table, what people call them, and how often each was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from ftjax.config import RecommendationConfig, TextConfig
from ftjax.counting import counted
from ftjax.data.interactions.log import Log
from ftjax.data.interactions.names import ITEMS, TEXTS, plain
from ftjax.data.interactions.reading import Raw, read_raw
from ftjax.data.sources.paths import existing_path
from ftjax.errors import DataError, did_you_mean


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """What there is to recommend. Item `i`, from 1, is row `i` of a model's table, `ids[i - 1]` and `texts[i - 1]`; 0 is padding.

    Attributes:
      ids: as the log has them.
      texts: what an item is called, "" where nobody says; None: nobody says anything.
      counts: `[items]`, events of each in training.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...] | None
    counts: Int64[np.ndarray, " items"]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def name(self, item: int) -> str:
        """What a person reads of item `item` (from 1): its text, or its id."""
        return (self.texts[item - 1] if self.texts else "") or self.ids[item - 1]


def read_texts(log: Log, config: RecommendationConfig) -> tuple[tuple[str, ...] | None, dict[str, Any], list[str]]:
    """The text of each item, what data.json says of them, and warnings.

    Raises:
      DataError: the table of items cannot be read, lacks a column, or knows none of the items.
    """
    if config.items_path is None and config.item_text is None:
        return None, {}, []
    if config.items_path is None:
        columns = _named(log.raw, str(config.item_text))
        found = _first(_joined(log.raw, columns, log.row), [log.items[number] for number in log.item])
        return _told(log, found, log.raw.where, columns, "item", [])
    path = existing_path(config.items_path, "interactions", "a table of items", "recommendation.items_path")
    raw = read_raw(str(path), TextConfig(), RecommendationConfig(form="table"))
    key = _key(raw, log)
    columns = _named(raw, config.item_text) if config.item_text is not None else _guessed(raw, key)
    rows = np.arange(raw.table.num_rows)
    ids = [str(value).strip() if value is not None else "" for value in raw.table.column(key).to_pylist()]
    warnings = [f"{path}: {counted(len(raw.rejected), 'lines are not read')}, such as {raw.rejected[0][0]}: {raw.rejected[0][1]}"] if raw.rejected else []
    return _told(log, _first(_joined(raw, columns, rows), ids), str(path), columns, key, warnings)


def _told(
    log: Log, found: dict[str, str], where: str, columns: Sequence[str], key: str, warnings: list[str]
) -> tuple[tuple[str, ...], dict[str, Any], list[str]]:
    texts = tuple(found.get(item, "") for item in log.items)
    missing = sum(not text for text in texts)
    if missing == len(texts):
        raise DataError(
            f"{where} has a text for none of the {len(texts):,} items (by column {key!r}; an item of the log is {log.items[0]!r}): is it another table?"
        )
    if missing:
        first = next(item for item, text in zip(log.items, texts) if not text)
        warnings = [*warnings, f"{where} has no text for {counted(missing, 'items')} of {len(texts):,}, such as {first!r}"]
    return texts, {"where": where, "item": key, "text": list(columns), "missing": missing}, warnings


def _key(raw: Raw, log: Log) -> str:
    """The column of the table of items that names them: most of the log's items are in it."""
    names = raw.table.column_names
    likely = [name for name in names if plain(name) in ITEMS or plain(name) == "id"]
    wanted, best = set(log.items), ("", 0)
    for name in [*likely, *(name for name in names if name not in likely)]:
        known = len(wanted.intersection(str(value).strip() for value in raw.table.column(name).to_pylist()))
        if known > best[1]:
            best = (name, known)
        if name in likely and 2 * known > len(wanted):
            break
    if not best[1]:
        raise DataError(
            f"{raw.where} knows none of the {len(wanted):,} items ({', '.join(map(repr, names))}; an item of the log is {log.items[0]!r}): is it another table?"
        )
    return best[0]


def _named(raw: Raw, given: str) -> list[str]:
    columns = [given] if given in raw.table.column_names else [name.strip() for name in given.split(",")]
    for name in columns:
        if name not in raw.table.column_names:
            raise DataError(f"{raw.where} has no column {name!r} (recommendation.item_text): {did_you_mean(name, raw.table.column_names)}")
    return columns


def _guessed(raw: Raw, key: str) -> list[str]:
    by_name = {plain(name): name for name in reversed(raw.table.column_names) if name != key}
    found = next((by_name[name] for name in TEXTS if name in by_name), None)
    others = [name for name in raw.table.column_names if name != key]
    if found is None and (len(others) == 1 or (others and others[0].isdecimal())):
        found = others[0]
    if found is None:
        raise DataError(f"{raw.where}: which column is the text of an item cannot be seen ({', '.join(map(repr, others))}): say recommendation.item_text")
    return [found]


def _joined(raw: Raw, columns: Sequence[str], rows: np.ndarray) -> list[str]:
    values = [raw.table.column(name).take(rows).to_pylist() for name in columns]
    return [", ".join(text for value in row if value is not None and (text := " ".join(str(value).split()))) for row in zip(*values)]


def _first(texts: Sequence[str], ids: Sequence[str]) -> dict[str, str]:
    """The first text of each item that is not empty."""
    found: dict[str, str] = {}
    for item, text in zip(ids, texts):
        if text:
            found.setdefault(item, text)
    return found
