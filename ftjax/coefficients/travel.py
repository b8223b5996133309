"""Travel: how far each group of parameters has gone, the law's displacement x = theta - theta0 as a number.

It is what the coefficient limits, and within one shape of x it orders accuracy under shift, so every run logs it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from ftjax import trees
from ftjax.trees import Tree


def travel(live: Tree, anchor: Tree, previous: Tree, group_of: Callable[[str], str]) -> dict[str, dict[str, Float[Array, ""]]]:
    """Distance from the start and size of the last update, per group, both relative.

    travel = |theta - theta0| / |theta0|, update = |theta - previous| / |theta|, norms over all live leaves of the group.
    A new head's theta0 is its own initial value. Where a denominator is zero (a head that starts at zero) the numerator itself is
    reported: the number stays finite, and it is 0 exactly when the group has not moved.

    Args:
      live: parameters that train, now (`None` holes are skipped).
      anchor: the same leaves at the start of the run.
      previous: the same leaves one step earlier.
      group_of: group of a path.

    Returns:
      `{group: {"travel": f[], "update": f[]}}` for the groups with a live leaf, in tree order. Pure; one fused reduction under `jit`.
    """
    now, start, before = trees.flatten(live), trees.flatten(anchor), trees.flatten(previous)
    sums: dict[str, Array] = {}
    for path, theta in now.items():
        pieces = (theta - start[path], start[path], theta - before[path], theta)
        squares = jnp.stack([_square_sum(piece) for piece in pieces])
        sums[group_of(path)] = sums.get(group_of(path), 0) + squares
    return {group: {"travel": _ratio(*jnp.sqrt(total[:2])), "update": _ratio(*jnp.sqrt(total[2:]))} for group, total in sums.items()}


def _square_sum(x: Array) -> Float[Array, ""]:
    """Sum of squares in at least float32."""
    return jnp.sum(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32))))


def _ratio(part: Float[Array, ""], whole: Float[Array, ""]) -> Float[Array, ""]:
    """part / whole, or part where whole is zero."""
    return part / jnp.where(whole > 0, whole, jnp.ones_like(whole))
