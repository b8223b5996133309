"""Tables of items from one catalogue to another: a row goes where its item's id is, and every item's provenance is written down.

Row 0 is padding, rows 1 to n are the items in the order of their ids, and special rows (a mask) come last.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ftjax.errors import WeightsError

ITEM_TABLES = ("item/embedding", "item/ids/embedding", "stem/context/embedding")
"""Leaves with a row for each item."""
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class ItemIds:
    """The ids of a file's items and of the model's, in the order of their rows."""

    stored: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ItemRows:
    """Which row of the file each row of the model's tables comes from; -1: none.

    Attributes:
      origin: `[rows]`.
      ids: of the model's items.
      left_out: items that the file has and the model does not.
      from_texts: rows of new items whose vectors were made of their texts; the other new ones are random.
    """

    origin: Int[np.ndarray, " rows"]
    ids: tuple[str, ...]
    left_out: int
    from_texts: Int[np.ndarray, " n"] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def matched(self) -> Int[np.ndarray, " n"]:
        """Rows of items that the file knows."""
        rows = np.arange(1, 1 + len(self.ids))
        return rows[self.origin[rows] >= 0]

    @property
    def new(self) -> Int[np.ndarray, " n"]:
        """Rows of items that it does not."""
        rows = np.arange(1, 1 + len(self.ids))
        return rows[self.origin[rows] < 0]

    @property
    def same(self) -> bool:
        """Whether every row stays where it is."""
        return np.array_equal(self.origin, np.arange(len(self.origin))) and not self.left_out

    def moved(self, stored: Float[np.ndarray, "old width"], initial: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows width"]:
        """The model's table: rows of the file where it has them, else of `initial`."""
        found, known = np.array(initial), self.origin >= 0
        found[known] = stored[self.origin[known]]
        return found

    @property
    def why(self) -> str:
        """For load.json."""
        return (
            f"by id: {len(self.matched):,} of {len(self.ids):,} items are in the file, {len(self.new):,} are new; {self.left_out:,} of the file's are not here"
        )

    def to_json(self) -> dict[str, Any]:
        """What load.json says of single items."""
        texts = set(self.from_texts.tolist())
        return {
            "matched": len(self.matched),
            "from_texts": len(texts),
            "random": len(self.new) - len(texts),
            "left_out": self.left_out,
            "new": [{"id": self.ids[row - 1], "from": "its text" if row in texts else "random"} for row in self.new[:_SHOWN].tolist()],
        }


def match_items(ids: ItemIds, stored_rows: int, rows: int, where: str) -> ItemRows:
    """Rows by id.

    Args:
      ids: of both.
      stored_rows: rows of the file's table.
      rows: of the model's.
      where: the file, for messages.

    Raises:
      WeightsError: the file's ids are not known, are not as many as its rows, or none of them is one of the model's.
    """
    special = stored_rows - 1 - len(ids.stored)
    if not ids.stored or special < 0:
        raise WeightsError(f"{where}: its table has {stored_rows} rows, and which items they are is not written in it ({len(ids.stored)} ids)")
    place = {name: row for row, name in enumerate(ids.stored, 1)}
    origin = np.full(rows, -1, np.int64)
    origin[0] = 0
    origin[1 : 1 + len(ids.wanted)] = [place.get(name, -1) for name in ids.wanted]
    kept = min(special, rows - 1 - len(ids.wanted))
    origin[1 + len(ids.wanted) :][:kept] = 1 + len(ids.stored) + np.arange(kept)
    matched = int((origin[1 : 1 + len(ids.wanted)] >= 0).sum())
    if not matched:
        raise WeightsError(
            f"{where} knows none of the {len(ids.wanted):,} items: its ids are like {ids.stored[0]!r}, the data's like {ids.wanted[0]!r}; are they other ids?"
        )
    return ItemRows(origin, ids.wanted, len(ids.stored) - matched)
