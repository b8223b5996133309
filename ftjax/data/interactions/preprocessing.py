"""What lies between rows of histories and a recommender: which items training hides or asks for, and what it draws against them.

All draws are pure in (key, row), so micro-batches and devices see what the whole batch would.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Int64, Key

from ftjax.errors import DataError

_FIELDS = ("items", "max_length", "hides", "mask_probability", "mask_last", "loss", "negatives", "negative_sampling")
_PER_TARGET = ("bce", "gbce", "bpr")
_MASKS, _LAST, _NEGATIVES = 0, 1, 2
"""What is folded into a row's key."""


@dataclasses.dataclass(frozen=True)
class InteractionPreprocessing:
    """How histories enter the model.

    Attributes:
      items: how many there are; the one after the last is the mask.
      max_length: items that the model sees.
      hides: training hides items and asks for them (BERT4Rec); else every place asks for the item after it.
      mask_probability, mask_last, loss, negatives, negative_sampling: as `RecommendationConfig` has them.
      log_shares: log of each item's share of the training events, `[1 + items]` (`log_shares_of`), where items are drawn by it; only training has it.
    """

    items: int
    max_length: int
    hides: bool = False
    mask_probability: float = 0.2
    mask_last: float = 0.0
    loss: str = "cross_entropy"
    negatives: int = 1
    negative_sampling: str = "uniform"
    log_shares: Float32[np.ndarray, " rows"] | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def views_of_one(self) -> int:
        """How often a test looks at each history."""
        return 1

    @property
    def is_random(self) -> bool:
        """Whether training sees a history differently each time."""
        return self.hides

    def inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The history, oldest first, and behind it the mask where the model fills gaps."""
        items = jnp.asarray(batch["items"])
        if not self.hides:
            return {"items": newest(items, self.max_length)}
        # Two places more: an odd length would cost the fast product of bfloat16.
        kept = jnp.pad(newest(items, self.max_length - 1), ((0, 0), (0, 2)))
        place = jnp.arange(kept.shape[1])[None, :]
        return {"items": jnp.where(place == (kept > 0).sum(1, keepdims=True), jnp.int32(self.items + 1), kept)}

    def test_inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the model reads of a batch when it is tested."""
        return self.inputs(batch)

    def training_batch(self, batch: Mapping[str, Array], key: Key[Array, ""]) -> Mapping[str, Array]:
        """The batch with what the model reads (`inputs`), what it is asked for (`target`, 0: nothing) and what was drawn against that (`negative`)."""
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(batch["id"])
        items = jnp.asarray(batch["items"])
        inputs, target = self._hidden(newest(items, self.max_length), keys) if self.hides else following(items)
        found = {name: value for name, value in batch.items() if name != "items"} | {"inputs": inputs, "target": target}
        if self.loss in _PER_TARGET:
            found["negative"] = self._drawn(items, keys, (target.shape[1], self.negatives))
        if self.loss == "sampled_softmax":
            drawn = self._shared(batch["label"], keys, -(-self.negatives // len(items)))
            found |= {"history": items, "drawn": drawn, "drawn_log_q": self._log_q(drawn), "target_log_q": self._log_q(target)}
        return found

    def training_inputs(self, batch: Mapping[str, Array], key: Key[Array, ""], dtype: Any = jnp.float32) -> dict[str, Array]:
        """What the model reads of a batch in training; `training_batch` made it."""
        return {"items": batch["inputs"]}

    def _hidden(self, items: Int[Array, "batch length"], keys: Key[Array, " batch"]) -> tuple[Array, Array]:
        """Some items behind the mask: each with `mask_probability`, or in a share `mask_last` of the rows the last one alone."""
        draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _MASKS), items.shape[1:]))(keys)
        there = items > 0
        hidden = there & (draw < self.mask_probability)
        if self.mask_last:
            alone = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _LAST)))(keys) < self.mask_last
            last = jnp.arange(items.shape[1])[None, :] == there.sum(1, keepdims=True) - 1
            hidden = jnp.where(alone[:, None], last & there, hidden)
        return jnp.where(hidden, jnp.int32(self.items + 1), items), jnp.where(hidden, items, 0)

    def _drawn(self, items: Int[Array, "batch length"], keys: Key[Array, " batch"], shape: tuple[int, int]) -> Int[Array, "batch length k"]:
        """Negatives for every place, none of the row's own items; 0 where there is none."""
        bits = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _NEGATIVES), shape))(keys)
        if self.negative_sampling == "uniform":
            return jax.vmap(lambda row, draw: others(row, draw, self.items))(items, bits)
        drawn = self._by_popularity(bits)
        return jnp.where((drawn[..., None] == items[:, None, None, :]).any(-1), 0, drawn)

    def _log_q(self, items: Int[Array, ...]) -> Array:
        """How often items are drawn, but for a constant."""
        if self.negative_sampling == "uniform" or self.log_shares is None:
            return jnp.zeros(items.shape, jnp.float32)
        return jnp.asarray(self.log_shares)[items]

    def _shared(self, label: Int[Array, " batch"], keys: Key[Array, " batch"], count: int) -> Int[Array, "batch count"]:
        """Items of which the whole batch makes use: each row's last one, or a share of those that are drawn."""
        if self.negative_sampling == "in_batch":
            return label[:, None]
        draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _NEGATIVES), (count,)))(keys)
        return self._by_popularity(draw) if self.negative_sampling == "popularity" else 1 + jnp.minimum((draw * self.items).astype(jnp.int32), self.items - 1)

    def _by_popularity(self, draw: Array) -> Array:
        assert self.log_shares is not None
        cumulative = np.cumsum(np.exp(self.log_shares[1:].astype(np.float64))).astype(np.float32)
        return 1 + jnp.minimum(jnp.searchsorted(jnp.asarray(cumulative), draw), self.items - 1).astype(jnp.int32)

    def to_json(self) -> dict[str, Any]:
        """A value for JSON."""
        return {"histories": True} | {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InteractionPreprocessing:
        """The inverse of `to_json`; what only training needs is not in it.

        Raises:
          DataError: a field is missing.
        """
        missing = next((name for name in _FIELDS if name not in value), None)
        if missing:
            raise DataError(f"preprocessing: the field {missing!r} is missing")
        return cls(**{name: value[name] for name in _FIELDS})


def log_shares_of(counts: Int64[np.ndarray, " items"]) -> Float32[np.ndarray, " rows"]:
    """log of each item's share of the events, `[1 + items]`; an item without any counts as one with one. Row 0 is padding's, 0."""
    seen = np.maximum(np.asarray(counts, np.float64), 1)
    return np.concatenate([[0.0], np.log(seen / seen.sum())]).astype(np.float32)


def newest(items: Int[Array, "batch length"], most: int) -> Int[Array, "batch length"]:
    """The newest `most` items of every row, oldest first, then zeros."""
    length = items.shape[1]
    if length <= most:
        return items
    count = (items > 0).sum(1, keepdims=True)
    places = jnp.arange(length)[None, :]
    moved = jnp.take_along_axis(items, jnp.minimum(places + jnp.maximum(count - most, 0), length - 1), axis=1)
    return jnp.where(places < jnp.minimum(count, most), moved, 0)


def following(items: Int[Array, "batch length"]) -> tuple[Int[Array, "batch length"], Int[Array, "batch length"]]:
    """Every row without its last item, and at each place the item that came after it."""
    target = jnp.pad(items[:, 1:], ((0, 0), (0, 1)))
    return jnp.where(target > 0, items, 0), target


def others(own: Int[Array, " length"], draw: Any, count: int) -> Int[Array, ...]:
    """Items 1 to `count` that are not in `own`, all equally often, where `draw` is uniform in [0, 1); 0 if there are none.

    The r-th item that is not among the sorted own items o_1 < o_2 < ... is r + the number of those with o_i - i < r (i from 1), so nothing is drawn twice.
    """
    ordered = jnp.sort(own)
    first = jnp.concatenate([ordered[:1] > 0, (ordered[1:] != ordered[:-1]) & (ordered[1:] > 0)])
    distinct = jnp.sort(jnp.where(first, ordered, jnp.iinfo(jnp.int32).max))
    left = count - first.sum()
    rank = 1 + jnp.minimum((draw * left).astype(jnp.int32), left - 1)
    before = jnp.expand_dims(distinct - jnp.arange(1, len(own) + 1, dtype=jnp.int32), tuple(range(rank.ndim)))
    return jnp.where(left > 0, rank + (before < rank[..., None]).sum(-1).astype(jnp.int32), 0)
