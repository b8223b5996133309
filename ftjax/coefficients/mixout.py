"""Mixout: train with a random part of the displacement set to zero (Lee et al. 2020, arXiv 1909.11299).

In the law it acts on what the model computes with, theta0 + x, during training only: like dropout, but what is dropped goes back to its pretrained
value instead of 0. It needs theta0 and a key, and belongs inside the loss, so that the gradient passes through it.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax import trees
from ftjax.coefficients.links import Rows, like
from ftjax.coefficients.rules import is_zero
from ftjax.coefficients.schedules import evaluate
from ftjax.trees import Tree


def mixout(live: Tree, anchor: Tree, rows: Rows, key: Array, rate: Float[Array, ""], step: Int[Array, ""] | int = 0) -> Tree:
    """theta0 + m * (theta - theta0) / (1 - p) with m ~ Bernoulli(1 - p) for every element: its expectation is theta, and p = 0 gives theta itself.

    p = rate * min(1, strength), the strength being that of the row's anchor at this step.

    Leaves without theta0, and those whose row's anchor is the number 0, pass as they are. The gradient is autodiff's, m / (1 - p) times that of the
    mixed weight. The reference (`bloodwass/mixout`) multiplies by m alone and draws one m for a whole column, so that its backward pass is not the
    derivative of its forward pass; under Adam, blind to scale, the first makes little difference.

    Args:
      live: parameters that train (`None` holes are skipped).
      anchor: theta0 with holes; it may hold leaves that do not train now.
      rows: the table's rows by path.
      key: of this step; every leaf draws from it and its path, whoever else is live.
      rate: at least 0 and below 1; traced.
      step: of the run, for anchors that change.
    """
    starts = trees.flatten(anchor)

    def mix(path: str, theta: Array) -> Array:
        if path not in starts or is_zero(rows[path].anchor):
            return theta
        p = rate * jnp.minimum(1, evaluate(rows[path].anchor, jnp.asarray(step)))
        kept = jax.random.bernoulli(jax.random.fold_in(key, zlib.crc32(path.encode())), 1 - p, theta.shape)
        # theta + x p/(1-p) equals theta0 + x/(1-p) and is theta, bit for bit, where p is 0.
        return jnp.where(kept, theta + like(p / (1 - p), theta) * (theta - starts[path]), starts[path])

    return trees.map_with_path(mix, live)
