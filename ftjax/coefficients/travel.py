"""Travel: how far each group of parameters has gone, the law's displacement x = theta - theta0 as numbers, and whether the last step went on or turned.

It is what the coefficient limits, and within one shape of x it orders accuracy under shift, so every run logs it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from ftjax import trees
from ftjax.coefficients.links import widened
from ftjax.trees import Tree


def travel(live: Tree, anchor: Tree, previous: Tree, group_of: Callable[[str], str]) -> dict[str, dict[str, Float[Array, ""]]]:
    """Distance from the start, size of the last update and its direction, per group.

    travel = |theta - theta0| / |theta0|, update = |theta - previous| / |theta|, cosine = <u, x> / (|u| |x|) with the update u = theta - previous and the
    displacement before it x = previous - theta0: positive away from home, negative towards it, 0 where either is zero. Norms and products are over all
    leaves of the group together. A new head's theta0 is its own initial value. Where a denominator is zero (a head that starts at zero) the numerator
    itself is reported: the number stays finite, and it is 0 exactly when the group has not moved.

    Args:
      live: parameters that train or have trained, now (`None` holes are skipped).
      anchor: the same leaves at the start of the run.
      previous: the same leaves one step earlier; one that is `None` or missing did not train in that step, so its update is 0.
      group_of: group of a path.

    Returns:
      `{group: {"travel": f[], "update": f[], "cosine": f[]}}` for the groups with a leaf, in tree order. Pure; one fused reduction under `jit`.
    """
    now, start, before = trees.flatten(live), trees.flatten(anchor), trees.flatten(previous)
    sums: dict[str, Array] = {}
    for path, theta in now.items():
        products = _products(widened(theta), widened(start[path]), widened(before.get(path, theta)))
        sums[group_of(path)] = sums.get(group_of(path), 0) + products
    return {group: _measures(total) for group, total in sums.items()}


def _products(theta: Array, start: Array, before: Array) -> Float[Array, " products"]:
    """Inner products of a leaf: x with x, theta0, theta, u, the displacement before the step, and that one with u."""
    moved, update, displacement = theta - start, theta - before, before - start
    pairs = ((moved, moved), (start, start), (theta, theta), (update, update), (displacement, displacement), (update, displacement))
    return jnp.stack([jnp.sum(a * b) for a, b in pairs])


def _measures(products: Float[Array, " products"]) -> dict[str, Float[Array, ""]]:
    """Ratios of the sums over a group."""
    moved, start, theta, update, displacement = jnp.sqrt(products[:5])
    cosine = _ratio(_ratio(products[5], update), displacement)
    return {"travel": _ratio(moved, start), "update": _ratio(update, theta), "cosine": jnp.clip(cosine, -1, 1)}


def _ratio(part: Float[Array, ""], whole: Float[Array, ""]) -> Float[Array, ""]:
    """part / whole, or part where whole is zero."""
    return part / jnp.where(whole > 0, whole, jnp.ones_like(whole))
