"""Rows in whole units over several bins, each class in proportion: the one mechanism behind grouped splits and folds.

A unit is what may not be torn: exact copies of a row, or all rows of a group. It may hold several classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int

from ftjax.data.order import rank


def units_of(*keys: Sequence[Hashable]) -> list[int]:
    """Rows that may not be separated: those that share a key, directly or through others, have one number.

    Args:
      keys: sequences over all rows; in each, equal values tie rows together.
    """
    parent = list(range(len(keys[0])))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for column in keys:
        first: dict[Hashable, int] = {}
        for row, key in enumerate(column):
            parent[root(row)] = root(first.setdefault(key, row))
    return [root(row) for row in range(len(parent))]


def apportion(
    ids: Sequence[str], labels: Sequence[int], units: Sequence[Hashable], shares: Sequence[float], *, seed: int, purpose: str
) -> Int[np.ndarray, " rows"]:
    """The bin of every row: whole units, each class as near to the shares as they allow.

    Units come one after the other, in an order hashed from the seed and their first id (where all shares are equal the largest first, which then favours
    no bin), and each goes to the bin b that minimises the growth of `sum_c (n_cb - s_b N_c)^2 / (s_b N_c)`: with units of one row that is the
    divisor method of Sainte-Lague, so every class gets its share to within about a row. The last unit of a class that bin 0 has none of goes to bin 0,
    and no bin stays empty while there are units enough.

    Args:
      ids: unique names; they and the seed decide, not the order.
      labels: class of each row.
      units: equal values stay together.
      shares: of each bin, positive, with sum 1; bin 0 is the one that is trained.
      seed: of the run.
      purpose: other purposes choose independently.
    """
    members: dict[Hashable, list[int]] = {}
    for row, unit in enumerate(units):
        members.setdefault(unit, []).append(row)
    equal = len(set(shares)) == 1
    ranked = sorted(members.values(), key=lambda rows: (-len(rows) if equal else 0, rank(purpose, seed, min(ids[row] for row in rows))))
    _, label = np.unique(np.asarray(labels), return_inverse=True)
    counts = [np.unique(label[rows], return_counts=True) for rows in ranked]
    bins = np.empty(len(ids), np.int64)
    for rows, chosen in zip(ranked, _bins(counts, np.asarray(shares, np.float64), keep=not equal)):
        bins[rows] = chosen
    return bins


def _bins(counts: Sequence[tuple[np.ndarray, np.ndarray]], shares: Float[np.ndarray, " bins"], keep: bool) -> list[int]:
    """The bin of each unit, in order, given its classes and how many rows of each it has; `keep`: bin 0 misses no class."""
    classes = 1 + max(int(here.max()) for here, _ in counts)
    total, left = np.zeros(classes), np.zeros(classes, np.int64)
    for here, count in counts:
        total[here] += count
        left[here] += 1
    filled, loads = np.zeros((len(shares), classes)), np.zeros(len(shares))
    chosen: list[int] = []
    for number, (here, count) in enumerate(counts):
        empty = np.flatnonzero(loads == 0)
        allowed = empty if len(empty) >= len(counts) - number else np.arange(len(shares))
        if keep and ((left[here] == 1) & (filled[0, here] == 0)).any():
            allowed = np.array([0])
        costs = ((2 * filled[np.ix_(allowed, here)] + count) * (count / total[here])).sum(axis=1) / shares[allowed]
        _, _, best = min(zip([round(float(cost), 9) for cost in costs], (loads[allowed] / shares[allowed]).tolist(), allowed.tolist()))
        filled[best, here] += count
        loads[best] += count.sum()
        left[here] -= 1
        chosen.append(best)
    return chosen
