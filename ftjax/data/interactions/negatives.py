"""Items that a target is ranked among where a sampled metric is asked for: drawn once for each user, the same in every run, from what the user never has."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int32

from ftjax.data.order import rank

_TRIES = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Negatives:
    """How negatives are drawn.

    Attributes:
      count: of each user; fewer where there are no more items.
      cumulative: `[items]`, running sums of how likely each item is, relative to the others; None: all alike.
      total: items there are.
      seed: with the user's id it decides.
    """

    count: int
    cumulative: Float[np.ndarray, " items"] | None
    total: int
    seed: int

    def of(self, user: str, never: Int32[np.ndarray, " known"]) -> Int32[np.ndarray, " count"]:
        """`count` different items (from 1) that are not among `never`, padded with 0: drawn one by one, weights as they are, without putting back.

        Drawn again and again until there are enough (items far outnumber what a user has); where that takes too long, by Efraimidis & Spirakis' keys.
        """
        generator = np.random.Generator(np.random.Philox(int.from_bytes(rank("negatives", self.seed, user)[0], "big")))
        found: dict[int, None] = {}
        excluded = set(never.tolist())
        for _ in range(_TRIES):
            drawn = self._drawn(generator, 2 * self.count)
            for item in drawn.tolist():
                if item not in excluded:
                    found.setdefault(item)
            if len(found) >= self.count:
                return np.fromiter(found, np.int32, len(found))[: self.count]
        return self._all_ordered(generator, excluded)

    def _drawn(self, generator: np.random.Generator, count: int) -> np.ndarray:
        if self.cumulative is None:
            return generator.integers(1, self.total + 1, count)
        return np.searchsorted(self.cumulative, generator.random(count) * self.cumulative[-1], side="right") + 1

    def _all_ordered(self, generator: np.random.Generator, excluded: set[int]) -> Int32[np.ndarray, " count"]:
        """Of few items: all that are left in a random order by their weights."""
        weights = np.ones(self.total) if self.cumulative is None else np.diff(self.cumulative, prepend=0.0)
        keys = np.where(weights > 0, np.log(generator.random(self.total)) / np.maximum(weights, 1e-300), -np.inf)
        order = [int(item) + 1 for item in np.argsort(-keys) if weights[item] > 0 and int(item) + 1 not in excluded][: self.count]
        return np.pad(np.array(order, np.int32), (0, self.count - len(order)))
