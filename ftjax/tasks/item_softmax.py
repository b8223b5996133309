"""Softmax cross-entropy over a catalogue: `[places items]` is never held, and both gradients are made while the scores are in the cache.

Places that count are moved to the front, so that padding costs nothing. A first pass over tiles finds each place's normaliser and the gradient of its vector,
a second one the gradient of the table, from scores that are computed again the other way round: every product then has its large operand in the order in
which it lies in memory. Subtracting a bound of the largest score, leaving out what fills the last tile and summing are columns of the products, so an
exponential is all that is done to a score. With bfloat16 operands that takes two thirds of the time of a running softmax (`benchmarks/recommendation`).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ftjax.models.layers import Precision
from ftjax.models.products import narrow, product

PLACES, ITEMS = 256, 512
"""Scores of a tile: half a MiB, which stays in a core's cache."""
_ROOM = 60.0
"""Scores may be so far from 0 without a shift: exp(60) times a catalogue is still a float32, and so is exp(-60)."""
_BEYOND = -1e4
"""Added to the scores of what fills the last tile."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def item_cross_entropy(
    hidden: Float[Array, "n width"], items: Float[Array, "m width"], target: Int[Array, " n"], weight: Float[Array, " n"], precision: Precision
) -> Float[Array, ""]:
    """sum_i weight_i (log sum_j exp(hidden_i . items_j) - hidden_i . items_target_i), a scalar.

    Args:
      hidden: a vector for each place.
      items: the catalogue's vectors.
      target: the row of `items` that is right.
      weight: 0 leaves a place out, whatever it holds. No gradient flows to it.
      precision: of the products' operands and, in bfloat16, of the exponentials; sums are float32.
    """
    return _forward(hidden, items, target, weight, precision)[0]


def _forward(hidden: Array, items: Array, target: Array, weight: Array, precision: Precision) -> tuple[Array, tuple[Array, Array, None, None]]:
    packed = _pack(hidden, target, weight)
    here, own = _rounded(packed.hidden, precision), _rounded(items[packed.target], precision)
    shift = _shift(packed.hidden, items, precision)
    left, right = _operands(packed.hidden, shift, items, precision)
    sums = _first_pass(packed.tiles, left, right, _summed(items, precision), precision)
    width, total = items.shape[1], jnp.where(packed.weight > 0, sums[:, items.shape[1]], 1)
    share = packed.weight / total
    d_items = _second_pass(packed.tiles, left, right, _operand(packed.hidden * share[:, None], precision), precision)[: len(items)]
    # The right item's own score is in the loss and in both gradients.
    loss = (packed.weight * (shift + jnp.log(total) - (own * here).sum(1))).sum()
    d_hidden = sums[:, :width] * share[:, None] - packed.weight[:, None] * own
    d_items = d_items.at[packed.target].add(-packed.weight[:, None] * here)
    spread = jnp.zeros_like(hidden).at[packed.order].set(d_hidden.astype(hidden.dtype), mode="drop")
    return loss, (spread, d_items.astype(items.dtype), None, None)


def _backward(precision: Precision, gradients: tuple[Array, Array, None, None], cotangent: Array) -> tuple[Array, Array, None, None]:
    d_hidden, d_items, *_ = gradients
    return (d_hidden * cotangent).astype(d_hidden.dtype), (d_items * cotangent).astype(d_items.dtype), None, None


item_cross_entropy.defvjp(_forward, _backward)


class _Packed(NamedTuple):
    """The places that count first, filled up to whole tiles with weight 0."""

    hidden: Float[Array, "n width"]
    target: Int[Array, " n"]
    weight: Float[Array, " n"]
    order: Int[Array, " n"]
    """Where each came from; beyond the last place for what was filled up."""
    tiles: Int[Array, ""]
    """Tiles that hold a place that counts."""


def _pack(hidden: Array, target: Array, weight: Array) -> _Packed:
    count = len(weight)
    size = -(-count // PLACES) * PLACES
    order = jnp.argsort(weight <= 0, stable=True)
    counted = weight[order] > 0

    def filled(array: Array) -> Array:
        kept = jnp.where(counted.reshape(-1, *(1,) * (array.ndim - 1)), array[order], 0)
        return jnp.pad(kept, [(0, size - count)] + [(0, 0)] * (array.ndim - 1))

    tiles = -(-(weight > 0).sum() // PLACES)
    where = jnp.pad(jnp.where(counted, order, count), (0, size - count), constant_values=count)
    return _Packed(filled(hidden), filled(target), filled(weight), where, tiles)


def _shift(hidden: Array, items: Array, precision: Precision) -> Float[Array, " n"]:
    """What is taken off each place's scores: enough that no exponential overflows, and so little that they do not all vanish.

    |score| <= |hidden| max |item|, so where that is small nothing is needed; where it is large the largest score is looked for. Exact in `precision`.
    """
    bound = jnp.sqrt(jnp.square(hidden).sum(1) * jnp.square(items).sum(1).max())

    def largest() -> Array:
        # The last tile is filled with an item that is there, so that the largest score is one of theirs.
        filled = jnp.pad(items, ((0, -len(items) % ITEMS), (0, 0)), mode="edge")
        tiles = _tiled(_operand(filled, precision)).swapaxes(1, 2)
        low = jnp.full(len(hidden), -jnp.inf, hidden.dtype)
        return lax.fori_loop(0, len(tiles), lambda i, best: jnp.maximum(best, _times(_operand(hidden, precision), tiles[i], precision).max(1)), low)

    return _rounded(lax.cond(bound.max() <= _ROOM, lambda: jnp.zeros_like(bound), largest), precision)


def _operands(hidden: Array, shift: Array, items: Array, precision: Precision) -> tuple[Array, Array]:
    """`[n k]` and `[tiles ITEMS k]`, whose products are scores less the shift, and very low beyond the last item."""
    ones, real = jnp.ones_like(shift), jnp.arange(-(-len(items) // ITEMS) * ITEMS) < len(items)
    filled = jnp.pad(items, ((0, len(real) - len(items)), (0, 0)))
    beyond = jnp.where(real, 0, _BEYOND).astype(items.dtype)
    left = jnp.concatenate([hidden, -shift[:, None], ones[:, None]], axis=1)
    right = jnp.concatenate([filled, jnp.ones_like(beyond)[:, None], beyond[:, None]], axis=1)
    # Whole groups of 32 are what a fast kernel multiplies.
    more = -left.shape[1] % 32
    left, right = (jnp.pad(side, ((0, 0), (0, more))) for side in (left, right))
    return _operand(left, precision), _tiled(_operand(right, precision))


def _summed(items: Array, precision: Precision) -> Array:
    """`[tiles ITEMS k]`: the vectors, and a column of ones that sums."""
    side = jnp.concatenate([items, jnp.ones_like(items[:, :1])], axis=1)
    return _tiled(_operand(jnp.pad(side, ((0, 0), (0, -side.shape[1] % 16))), precision))


def _tiled(items: Array) -> Array:
    """`[m width] -> [tiles ITEMS width]`, filled up with zeros."""
    tiles = -(-len(items) // ITEMS)
    return jnp.pad(items, ((0, tiles * ITEMS - len(items)), (0, 0))).reshape(tiles, ITEMS, -1)


def _first_pass(tiles: Array, left: Array, right: Array, summed: Array, precision: Precision) -> Float[Array, "n k"]:
    """sum_j exp(score_ij) (item_j, 1) of every place."""
    turned = right.swapaxes(1, 2)
    kind = jnp.promote_types(left.dtype, jnp.float32)

    def of_tile(tile: Array, found: Array) -> Array:
        here = lax.dynamic_slice_in_dim(left, tile * PLACES, PLACES)

        def over(index: Array, sums: Array) -> Array:
            return sums + _times(_exponential(_times(here, turned[index], precision), precision), summed[index], precision)

        sums = lax.fori_loop(0, len(turned), over, jnp.zeros((PLACES, summed.shape[2]), kind))
        return lax.dynamic_update_slice_in_dim(found, sums, tile * PLACES, 0)

    return lax.fori_loop(0, tiles, of_tile, jnp.zeros((len(left), summed.shape[2]), kind))


def _second_pass(tiles: Array, left: Array, right: Array, weighed: Array, precision: Precision) -> Float[Array, "m width"]:
    """sum_i exp(score_ij) weighed_i of every item."""
    turned = left.T

    def of_items(items: Array) -> Array:
        def over(tile: Array, gradient: Array) -> Array:
            here = lax.dynamic_slice_in_dim(turned, tile * PLACES, PLACES, axis=1)
            shares = _exponential(_times(items, here, precision), precision)
            return gradient + _times(shares, lax.dynamic_slice_in_dim(weighed, tile * PLACES, PLACES), precision)

        return lax.fori_loop(0, tiles, over, jnp.zeros((len(items), weighed.shape[1]), jnp.promote_types(weighed.dtype, jnp.float32)))

    return lax.map(of_items, right).reshape(-1, weighed.shape[1])


def _exponential(scores: Array, precision: Precision) -> Array:
    """exp, as an operand. In bfloat16 it is rounded by hand, halves up: XLA:CPU's own rounding takes as long as the exponential."""
    powers = jnp.exp(scores)
    if precision != "bfloat16":
        return powers
    bits = lax.bitcast_convert_type(powers.astype(jnp.float32), jnp.uint32)
    return lax.bitcast_convert_type(((bits + 0x8000) >> 16).astype(jnp.uint16), jnp.bfloat16)


def _times(a: Array, b: Array, precision: Precision) -> Array:
    """a b, accumulated in float32 or wider."""
    return product(a, b, ((1,), (0,))) if precision == "bfloat16" else jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _operand(x: Array, precision: Precision) -> Array:
    return narrow(x) if precision == "bfloat16" else x


def _rounded(x: Array, precision: Precision) -> Array:
    return narrow(x).astype(x.dtype) if precision == "bfloat16" else x
