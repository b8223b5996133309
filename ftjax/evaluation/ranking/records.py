"""What is remembered of each user that was ranked for: places of the targets, the list that was recommended, and how popular all of it is."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Int32

from ftjax.evaluation.table import RecordTable


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecommendationRecords(RecordTable):
    """Per user.

    Attributes:
      label: the item that came next, from 1.
      ranks: place of each target among the items that the user did not know, from 1; 0 is padding.
      items: the best items, from 1; 0 where there are no more.
      scores: theirs.
      known: how many events are known of the user.
      label_count: training events of the label.
      counts: training events of each recommended item.
      bits: self-information of each recommended item, `-log2 ((counts + 1) / (all training events + items))`.
      known_count: training events of an item of the history, on average.
    """

    label: Int32[np.ndarray, " n"]
    ranks: Int32[np.ndarray, "n targets"]
    items: Int32[np.ndarray, "n k"]
    scores: Float32[np.ndarray, "n k"] = dataclasses.field(metadata={"fill": float("-inf")})
    known: Int32[np.ndarray, " n"]
    label_count: Int32[np.ndarray, " n"]
    counts: Int32[np.ndarray, "n k"]
    bits: Float32[np.ndarray, "n k"]
    known_count: Float32[np.ndarray, " n"]

    kind: ClassVar[str] = "recommendation"

    @property
    def best(self) -> Int32[np.ndarray, " n"]:
        """Place of the target that came first in the list."""
        return np.where(self.ranks > 0, self.ranks, np.iinfo(np.int32).max).min(axis=1)

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """A target is at the top."""
        return self.best == 1

    @property
    def losses(self) -> np.ndarray:
        """The place of the best target."""
        return self.best.astype(np.float64)

    @property
    def targets(self) -> Int32[np.ndarray, " n"]:
        """How many items were to be found."""
        return (self.ranks > 0).sum(axis=1).astype(np.int32)


def of_histories(part: dict[str, Any], split: Any) -> dict[str, np.ndarray]:
    """What the history and the catalogue say of records that came from the device: `known`, `label_count`, `counts`, `bits` and `known_count`.

    Args:
      part: `id`, `label` and `items` of rows that are no padding.
      split: where they come from.
    """
    histories = split.histories
    counts = np.concatenate([[0], histories.catalogue.counts])
    rows = part["id"]
    start, stop = histories.start[rows], histories.stop[rows]
    sums = np.concatenate([[0], np.cumsum(counts[histories.items])])
    known = stop - start
    return {
        "known": known.astype(np.int32),
        "label_count": counts[part["label"]].astype(np.int32),
        "counts": counts[part["items"]].astype(np.int32),
        "bits": (np.log2(counts.sum() + len(counts) - 1) - np.log2(counts[part["items"]] + 1.0)).astype(np.float32),
        "known_count": ((sums[stop] - sums[start]) / np.maximum(known, 1)).astype(np.float32),
    }
