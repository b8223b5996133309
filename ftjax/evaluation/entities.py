"""Entities of tag sequences, as seqeval finds them by default (the rules of conlleval), without a loop over words.

A tag is a prefix (B, I, E, S, O) and, after a hyphen, a type. Under clean IOB2 an entity is a B and the I of its type that follow; an I that follows nothing of
its type begins an entity, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

PREFIXES = "OBIES"


@dataclasses.dataclass(frozen=True)
class Tags:
    """How tags are spelt: prefix and type of each, and the names of the types."""

    prefix: tuple[int, ...]
    kind: tuple[int, ...]
    types: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Found:
    """Entities in order of row and place: words `start` to `stop - 1` of row `row` are one of type `kind`."""

    row: Int[np.ndarray, " k"]
    start: Int[np.ndarray, " k"]
    stop: Int[np.ndarray, " k"]
    kind: Int[np.ndarray, " k"]


def marks_entities(classes: Sequence[str]) -> bool:
    """Whether these classes are tags of entities: "O" and prefixed ones, rather than, say, parts of speech."""
    return any(name != "O" for name in classes) and all(name == "O" or (name[:1] in PREFIXES[1:] and name[1:2] == "-" and len(name) > 2) for name in classes)


def read_tags(classes: Sequence[str]) -> Tags:
    """Prefix and type of every class; -1, where there is no word, is read as O, so the last entry is one."""
    types = tuple(dict.fromkeys(name[2:] for name in classes if name != "O"))
    prefix = [PREFIXES.index(name[0]) for name in classes]
    kind = [types.index(name[2:]) if name != "O" else -1 for name in classes]
    return Tags((*prefix, 0), (*kind, -1), types)


def entities(labels: Int[np.ndarray, "n words"], tags: Tags) -> Found:
    """The entities of rows of classes (-1: no word)."""
    words = labels.shape[1]
    # A word that is nothing parts the rows.
    flat = np.pad(labels, ((0, 0), (0, 1)), constant_values=-1).ravel()
    prefix, kind = np.asarray(tags.prefix)[flat], np.asarray(tags.kind)[flat]
    before, kind_before = np.concatenate([[0], prefix])[:-1], np.concatenate([[-1], kind])[:-1]
    inside, closed = prefix > 0, np.isin(before, [PREFIXES.index("E"), PREFIXES.index("S"), 0])
    other = kind != kind_before
    fresh = np.isin(prefix, [PREFIXES.index("B"), PREFIXES.index("S")])
    starts = inside & (fresh | closed | other)
    # seqeval ends an entity at E and S, before B, S and O, and where the type changes; I after E or S begins a new one, as E after them does.
    ends = (before > 0) & (closed | fresh | ~inside | other)
    first = np.flatnonzero(starts)
    stop = np.flatnonzero(ends)
    last = stop[np.searchsorted(stop, first, side="right")] if len(first) else first
    return Found(first // (words + 1), first % (words + 1), last - first + first % (words + 1), kind[first])


def same(one: Found, other: Found, words: int, types: int) -> np.ndarray:
    """Bool per entity of `one`: `other` has one of the same row, place and type."""
    codes = [((side.row * (words + 1) + side.start) * (words + 1) + side.stop) * max(1, types) + side.kind for side in (one, other)]
    return np.isin(codes[0], codes[1])
