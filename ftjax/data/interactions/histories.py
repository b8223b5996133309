"""Rows of a split of interactions: a user's events up to a moment, and what came next; cut out of one array of all events when a batch asks for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Int64

from ftjax.data.dataset import Split
from ftjax.data.interactions.catalogue import Catalogue
from ftjax.data.interactions.negatives import Negatives
from ftjax.data.text.bucketed import choose_buckets

MOST_TARGETS = 100
"""Later items of a user that a temporal split looks at: the first ones."""
_FINE = 1024
"""Up to here buckets are multiples of 8; above, lengths are rounded up to sixteenths of a power of two, so that few of them have to be compared."""


@dataclasses.dataclass(frozen=True, eq=False)
class Histories:
    """Row `r` knows `items[start[r]:stop[r]]`, oldest first, and what came next is `items[stop[r]:until[r]]` (in training nothing: its targets are inside).

    Attributes:
      catalogue: of the items, with the counts of training.
      items: `[events]`, item numbers from 1, user by user in the order of time.
      start: `[rows]`.
      stop: `[rows]`.
      until: `[rows]`.
      newest: how many of the known events a model is given: the newest ones.
      training: rows that teach; the others are ranked.
      several: rows may have several items that came next.
      negatives: how items are drawn that targets are ranked among; None: they are ranked among all.
      end: `[rows]`, where the events of the row's user end: none of them is drawn as a negative.
    """

    catalogue: Catalogue
    items: Int32[np.ndarray, " events"]
    start: Int64[np.ndarray, " rows"]
    stop: Int64[np.ndarray, " rows"]
    until: Int64[np.ndarray, " rows"]
    newest: int
    training: bool
    several: bool = False
    negatives: Negatives | None = None
    end: Int64[np.ndarray, " rows"] | None = None

    def known(self, row: int) -> Int32[np.ndarray, " length"]:
        """All that is known of a row."""
        return self.items[self.start[row] : self.stop[row]]

    def targets(self, row: int) -> Int32[np.ndarray, " targets"]:
        """What came next."""
        return self.items[self.stop[row] : self.until[row]]

    @property
    def labels(self) -> Int32[np.ndarray, " rows"]:
        """The item that came next; of a training row the last one it has."""
        return self.items[self.stop - 1] if self.training else self.items[self.stop]

    @property
    def lengths(self) -> Int32[np.ndarray, " rows"]:
        """What decides about the bucket of a row: in training the items that it has, elsewhere all that are known, for all of them are masked."""
        known = self.stop - self.start
        return (np.minimum(known, self.newest) if self.training else known).astype(np.int32)


def histories_split(ids: tuple[str, ...], histories: Histories, buckets: int) -> Split:
    """The split of these rows.

    In training a batch has `items` int32 `[batch length]`, up to `newest` items of each user, oldest first, padded with 0 at the right; the label is the last.
    In the other splits it has `items`, the newest items before the label; `seen` int32 `[batch known]`, all items before it, and where rows have several
    targets `targets` int32 `[batch targets]`; for sampled metrics `negatives` int32 `[batch count]`. Widths depend on the bucket of the longest row alone.

    Args:
      ids: of the users.
      histories: their events.
      buckets: at most so many lengths.
    """
    lengths = histories.lengths
    chosen = choose_buckets(_coarse(lengths), buckets) if len(lengths) else (8,)
    widest = -(-histories.newest // 8) * 8
    most = int(min((histories.until - histories.stop).max(initial=1), MOST_TARGETS))

    def fields(rows: Int[np.ndarray, " k"]) -> dict[str, np.ndarray]:
        rows = np.asarray(rows)
        bucket = chosen[int(np.searchsorted(chosen, lengths[rows].max(initial=1)))]
        start, stop, until = histories.start[rows], histories.stop[rows], histories.until[rows]
        found = {"items": _cut(histories.items, np.maximum(start, stop - histories.newest), stop, min(bucket, widest))}
        if histories.training:
            return found
        found["seen"] = _cut(histories.items, start, stop, bucket)
        if histories.negatives is not None:
            end = histories.until if histories.end is None else histories.end
            found["negatives"] = np.stack([histories.negatives.of(ids[row], histories.items[histories.start[row] : end[row]]) for row in rows])
        return found | ({"targets": _cut(histories.items, stop, np.minimum(until, stop + most), most)} if histories.several else {})

    def show(row: int) -> dict[str, Any]:
        name = histories.catalogue.name
        known = histories.known(row)
        shown = {"history": [name(int(item)) for item in known[-10:]], "known": len(known)}
        return shown if histories.training else shown | {"target": name(int(histories.labels[row]))}

    return Split(ids, histories.labels, fields, show, lengths=lengths, buckets=chosen, histories=histories)


def _cut(items: Int32[np.ndarray, " events"], start: np.ndarray, stop: np.ndarray, width: int) -> Int32[np.ndarray, "rows width"]:
    """`items[start:stop]` of each row, padded with 0 at the right."""
    places = start[:, None] + np.arange(width)
    return np.where(places < stop[:, None], items[np.minimum(places, len(items) - 1)], 0).astype(np.int32)


def _coarse(lengths: Int32[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """Long lengths rounded up to sixteenths of the next power of two."""
    lengths = np.maximum(lengths.astype(np.int64), 1)
    step = np.maximum(2 ** np.ceil(np.log2(lengths)).astype(np.int64) // 16, 8)
    return np.where(lengths > _FINE, -(-lengths // step) * step, lengths)
