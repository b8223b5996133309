"""Several documents in one row: less padding, and the same loss, as no document sees another.

Best fit, longest first: each document goes to the fullest row that still holds it. Equal lengths keep an order that ids and the seed decide, so the order of
files does not matter.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ftjax.data.order import rank
from ftjax.errors import DataError


def pack(lengths: Int[np.ndarray, " documents"], names: Sequence[str], capacity: int, seed: int) -> list[Int[np.ndarray, " some"]]:
    """Which documents lie in each row, in order; every document in exactly one.

    Args:
      lengths: tokens of each document.
      names: unique.
      capacity: tokens of a row.
      seed: of the run.

    Raises:
      DataError: a document is longer than a row.
    """
    if len(lengths) and int(np.max(lengths)) > capacity:
        raise DataError(f"document {names[int(np.argmax(lengths))]} has {int(np.max(lengths))} tokens, more than a row of {capacity}")
    keys = [rank("packing", seed, name) for name in names]
    order = sorted(range(len(lengths)), key=lambda row: (-int(lengths[row]), keys[row]))
    rows: list[list[int]] = []
    # Rows by the room they have left; `rooms` are those that occur, ascending.
    having: dict[int, list[int]] = {}
    rooms: list[int] = []
    for document in order:
        size = int(lengths[document])
        place = bisect.bisect_left(rooms, size)
        if place == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[place]
            row = having[room].pop()
            if not having[room]:
                del having[room]
                rooms.pop(place)
        rows[row].append(document)
        left = room - size
        if left not in having:
            having[left] = []
            bisect.insort(rooms, left)
        having[left].append(row)
    return [np.array(row, np.int64) for row in rows]
