"""Batches of a population: member m at step t sees the batch that a single run with m's seed sees at step t.

What lies in memory (pictures, features of a frozen body) is on the device once, as a *pool*; a batch is then a list of its rows. Otherwise the distinct
batches of a step are read by the host, and the pool of that step holds just those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from ftjax import data
from ftjax.data import Split

Pool = dict[str, Any]
"""Fields of examples with a leading axis of rows: those of the split, `label`, `weight` and `id`."""

RESIDENT_BYTES = 2**30
"""A split whose fields take no more than this is held on the device."""


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Steps that are taken in one call."""

    pool: Pool | None
    """None: the resident one."""
    rows: Int[np.ndarray, "steps ... batch"]
    """Of the pool: `[steps batch]` where all members see the same batch, else `[steps members batch]`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """Which rows of the training split each member sees at each step.

    Args:
      split: of training.
      batch_size: rows of a batch.
      tokens: `train.batch_tokens`.
      seeds: of the members' orders.
    """

    split: Split
    batch_size: int
    tokens: int | None
    seeds: tuple[int, ...]

    @property
    def one(self) -> bool:
        """Whether all members see the same batches."""
        return len(set(self.seeds)) == 1

    def batch(self, step: int, seed: int) -> data.Batch:
        """The batch of one order."""
        return data.batch_at(self.split, step, self.batch_size, seed, self.tokens)


def resident(split: Split) -> Pool | None:
    """All rows of a split, if they have one shape and fit; None otherwise."""
    if split.lengths is not None:
        return None
    one = split.fields(np.array([0]))
    if sum(array.nbytes for array in one.values()) * len(split) > RESIDENT_BYTES:
        return None
    rows = np.arange(len(split))
    return {**split.fields(rows), "label": split.labels, "weight": np.ones(len(rows), np.float32), "id": rows.astype(np.int32)}


def chunks(order: Order, steps: Sequence[Sequence[int]], pool: Pool | None, most: int) -> Iterator[Chunk]:
    """The batches of these steps, `most` steps to a chunk; of one step each where there is no pool.

    Args:
      order: of the members.
      steps: for each step of the population the step of every member.
      pool: the resident one, if there is one.
      most: steps of a chunk.
    """
    if pool is None:
        yield from (_streamed(order, now) for now in steps)
        return
    bare = dataclasses.replace(order, split=dataclasses.replace(order.split, fields=lambda rows: {}))
    for start in range(0, len(steps), most):
        yield Chunk(None, np.stack([_rows(bare, now) for now in steps[start : start + most]]))


def _rows(order: Order, steps: Sequence[int]) -> Int[np.ndarray, "... batch"]:
    """Rows of the split at the members' steps."""
    distinct = {key: order.batch(*key)["id"] for key in dict.fromkeys(zip(steps, order.seeds))}
    if len(distinct) == 1 and order.one:
        return next(iter(distinct.values()))
    return np.stack([distinct[key] for key in zip(steps, order.seeds)])


def _streamed(order: Order, steps: Sequence[int]) -> Chunk:
    """The distinct batches of one step as a pool of their own; texts of several lengths are padded to the longest, which changes no logit."""
    distinct = {key: order.batch(*key) for key in dict.fromkeys(zip(steps, order.seeds))}
    batches = data.of_one_length(list(distinct.values()))
    pool = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    begins = dict(zip(distinct, np.cumsum([0, *(len(batch["id"]) for batch in batches)])))
    size = len(batches[0]["id"])
    if len(distinct) == 1 and order.one:
        return Chunk(pool, np.arange(size)[None])
    return Chunk(pool, np.stack([begins[key] + np.arange(size) for key in zip(steps, order.seeds)])[None])


def streamed_like(order: Order, batch: data.Batch) -> Chunk:
    """A chunk of one step as it would be if every order's batch had the shape of this one."""
    count, size = len(set(order.seeds)), len(batch["id"])
    pool = {name: np.concatenate([values] * count) for name, values in batch.items()}
    rows = np.arange(size) if order.one else np.broadcast_to(np.arange(size), (len(order.seeds), size))
    return Chunk(pool, rows[None])
