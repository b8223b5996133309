"""Where the target stands among all items, and the best of them, on the device and a chunk of items at a time: nothing of users x items is ever held.

A model's answer for a user is a vector; an item's score is its product with the item's row of a table. What a user knows already (`seen`) is never
recommended, so it is not ranked either; a target among it is missed. A tie counts against the model, and so does a score that is no number.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32

CLOSE = 1e-6
"""Scores that differ by no more than this, times 1 + their size, are equal: the same product may be summed up in another order for another chunk."""


class Ranked(NamedTuple):
    """Of each user."""

    ranks: Int32[Array, "batch targets"]
    """Place of each target among all items that the user does not know, from 1; 0 where there is no target."""
    items: Int32[Array, "batch k"]
    """The best items, from 1; 0 where there are no more."""
    scores: Float[Array, "batch k"]
    """Their scores; -inf where there is no item."""


def ranked(
    users: Float[Array, "batch width"],
    table: Float[Array, "rows width"],
    seen: Int[Array, "batch known"],
    targets: Int[Array, "batch targets"],
    *,
    items: int,
    k: int,
    chunk: int,
    bias: Float[Array, " rows"] | None = None,
) -> Ranked:
    """Rank the targets among all items, and find the k best.

    Args:
      users: vectors.
      table: row i is item i, from 1; rows 0 and above `items` are never ranked.
      seen: what each user knows; 0 is padding.
      targets: what came next; 0 is padding, and a target that is there twice counts once.
      items: how many there are. Static, as are the following.
      k: length of the list.
      chunk: items whose scores are held at once.
      bias: added to the scores of the items.
    """
    chunk, k = min(chunk, items), min(k, items)
    starts = 1 + chunk * jnp.arange(-(-items // chunk), dtype=jnp.int32)
    own = _finite(_of_items(users, table, bias, targets))
    valid = _first(targets)
    edge = own - CLOSE * (1 + jnp.abs(own))

    def piece(carry: tuple[Array, Array, Array], start: Array) -> tuple[tuple[Array, Array, Array], None]:
        ahead, best, which = carry
        # The last chunk begins earlier, so that it is as long as the others; what it has of the one before counts there.
        first = jnp.minimum(start, items - chunk + 1)
        numbers = first + jnp.arange(chunk, dtype=jnp.int32)
        scores = _finite(_of_range(users, table, bias, first, chunk))
        there = (numbers >= start)[None, :] & ~_marked(seen, first, chunk)
        others = there & ~_marked(targets, first, chunk)
        ahead = ahead + _above(scores, others, edge)
        best, which = _merged(best, which, jnp.where(there, scores, -jnp.inf), numbers, k)
        return (ahead, best, which), None

    rows = users.shape[0]
    begin = (jnp.zeros(targets.shape, jnp.int32), jnp.full((rows, k), -jnp.inf, own.dtype), jnp.zeros((rows, k), jnp.int32))
    (ahead, best, which), _ = jax.lax.scan(piece, begin, starts)
    known = jnp.any(targets[:, :, None] == seen[:, None, :], axis=2)
    ranks = 1 + ahead + _ahead_among(own, valid & ~known)
    ranks = jnp.where(known | ~jnp.isfinite(own), items, ranks)
    return Ranked(jnp.where(valid, ranks, 0), jnp.where(jnp.isfinite(best), which, 0), best)


def ranked_among(
    users: Float[Array, "batch width"],
    table: Float[Array, "rows width"],
    targets: Int[Array, "batch targets"],
    negatives: Int[Array, "batch negatives"],
    *,
    k: int,
    bias: Float[Array, " rows"] | None = None,
) -> Ranked:
    """Rank the targets among a few items that were drawn for each user: a sampled metric, far above the true one (Krichene & Rendle 2020).

    Args:
      users: vectors.
      table: row i is item i.
      targets: 0 is padding.
      negatives: items that the user does not know and that are no targets; 0 is padding.
      k: length of the list. Static.
      bias: added to the scores of the items.
    """
    own, others = (_finite(_of_items(users, table, bias, side)) for side in (targets, negatives))
    others = jnp.where(negatives > 0, others, -jnp.inf)
    valid = _first(targets)
    ahead = jnp.sum((others[:, None, :] >= (own - CLOSE * (1 + jnp.abs(own)))[:, :, None]) & (negatives > 0)[:, None, :], axis=2)
    ranks = 1 + ahead + _ahead_among(own, valid)
    scores = jnp.concatenate([jnp.where(valid, own, -jnp.inf), others], axis=1)
    best, place = jax.lax.top_k(scores, min(k, scores.shape[1]))
    which = jnp.take_along_axis(jnp.concatenate([targets, negatives], axis=1), place, axis=1)
    return Ranked(jnp.where(valid, ranks, 0).astype(jnp.int32), jnp.where(jnp.isfinite(best), which, 0).astype(jnp.int32), best)


def _of_range(users: Array, table: Array, bias: Array | None, first: Array, chunk: int) -> Float[Array, "batch chunk"]:
    rows = jax.lax.dynamic_slice_in_dim(table, first, chunk)
    scores = jnp.matmul(users, rows.T, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    return scores if bias is None else scores + jax.lax.dynamic_slice_in_dim(bias, first, chunk)[None, :]


def _of_items(users: Array, table: Array, bias: Array | None, items: Int[Array, "batch n"]) -> Float[Array, "batch n"]:
    scores = jnp.einsum("bw,bnw->bn", users, table[items], precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    return scores if bias is None else scores + bias[items]


def _finite(scores: Array) -> Array:
    return jnp.where(jnp.isfinite(scores), scores, -jnp.inf)


def _first(targets: Int[Array, "batch targets"]) -> Bool[Array, "batch targets"]:
    """Targets that are no padding and do not repeat an earlier one."""
    again = jnp.tril(targets[:, :, None] == targets[:, None, :], -1).any(axis=2)
    return (targets > 0) & ~again


def _marked(items: Int[Array, "batch n"], first: Array, chunk: int) -> Bool[Array, "batch chunk"]:
    """Which numbers of a chunk are among each row's items."""
    place = items - first
    inside = (place >= 0) & (place < chunk)
    rows = jnp.arange(items.shape[0])[:, None]
    return jnp.zeros((items.shape[0], chunk + 1), bool).at[rows, jnp.where(inside, place, chunk)].set(True)[:, :chunk]


def _above(scores: Array, others: Array, edge: Float[Array, "batch targets"]) -> Int32[Array, "batch targets"]:
    """How many of the others reach each target's score; one target after the other, so that no more than a chunk is held."""

    def of_target(one: Float[Array, " batch"]) -> Int32[Array, " batch"]:
        return jnp.sum(others & (scores >= one[:, None]), axis=1, dtype=jnp.int32)

    if edge.shape[1] == 1:
        return of_target(edge[:, 0])[:, None]
    return jax.lax.map(of_target, edge.T).T


def _merged(best: Array, which: Array, scores: Array, numbers: Array, k: int) -> tuple[Array, Array]:
    """The k best of what was best so far and a chunk; of equal ones the item with the lower number."""
    here, place = jax.lax.top_k(scores, min(k, scores.shape[1]))
    both = jnp.concatenate([best, here], axis=1)
    found = jnp.concatenate([which, numbers[place]], axis=1)
    best, place = jax.lax.top_k(both, k)
    return best, jnp.take_along_axis(found, place, axis=1)


def _ahead_among(own: Float[Array, "batch targets"], valid: Bool[Array, "batch targets"]) -> Int32[Array, "batch targets"]:
    """Other targets that come before each: those with a higher score, and of equal ones the earlier."""
    if own.shape[1] == 1:
        return jnp.zeros(own.shape, jnp.int32)
    order = jnp.arange(own.shape[1])
    higher = (own[:, None, :] > own[:, :, None]) | ((own[:, None, :] == own[:, :, None]) & (order[None, None, :] < order[None, :, None]))
    return jnp.sum(higher & valid[:, None, :], axis=2, dtype=jnp.int32)
