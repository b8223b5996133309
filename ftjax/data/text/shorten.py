"""A text that is too long without its middle: the head and the tail of a document say more than its first part alone (Sun et al. 2019, arXiv:1905.05583)."""

from __future__ import annotations

import numpy as np
import tokenizers
from jaxtyping import Int


def head_and_tail(encoding: tokenizers.Encoding, max_length: int) -> Int[np.ndarray, " kept"]:
    """Places of the tokens that are kept, at most `max_length`, in order.

    Special tokens stay. Of what is left for the text a quarter is its head and the rest its tail (the paper's best: 128 and 382 of 510). Of a pair the
    shorter text stays whole as long as it needs at most half of the room; each is cut in its own middle.
    """
    part = np.array([-1 if number is None else number for number in encoding.sequence_ids], np.int64)
    sides = [np.flatnonzero(part == number) for number in (0, 1)]
    room = max_length - int((part == -1).sum())
    if sum(map(len, sides)) <= room:
        return np.arange(len(part))
    shorter = min(min(map(len, sides)), room // 2)
    budgets = (shorter, room - shorter) if len(sides[0]) <= len(sides[1]) else (room - shorter, shorter)
    return np.sort(np.concatenate([np.flatnonzero(part == -1), *map(_ends, sides, budgets)]))


def _ends(places: Int[np.ndarray, " n"], budget: int) -> Int[np.ndarray, " kept"]:
    """A quarter of `budget` places, rounded up, from the front and the rest from the back."""
    if len(places) <= budget:
        return places
    head = -(-budget // 4)
    return np.concatenate([places[:head], places[len(places) - (budget - head) :]])
