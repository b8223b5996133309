"""Measured coefficients: each parameter's share of the step follows its relative gradient norm, as in Auto-RGN of Lee et al. 2023 (arXiv 2210.11466).

    RGN_p = |g_p| / |theta_p|          c_p <- c_p * min(1, RGN_p / max_q RGN_q)

A link of its own beside the direction: the measurement is a traced tree in the optimiser's state, so Adam's moments live on when it is refreshed (the
authors' code builds a new Adam for every epoch). The gradient is the raw one, before clipping and direction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ftjax import trees
from ftjax.coefficients.hyper import Hyper
from ftjax.coefficients.links import Rows, like, transform, widened
from ftjax.coefficients.table import Row, coefficient
from ftjax.trees import Tree

_NORM = re.compile(r"(.*/)?[^/]*norm\d*/[^/]+")

LARGEST = 1e12
"""A relative norm above this counts as this: a mean stays finite next to a parameter that is almost 0."""


class RgnState(NamedTuple):
    """What has been measured; arrays only, with the holes of the live tree."""

    mean: Tree
    """Mean relative gradient norm of each parameter, f32 []."""
    count: Tree
    """Batches behind each mean that are of this period, i32 []."""
    period: Int[Array, ""]
    """Which period the counts belong to; -1 before the first step."""


def scale_by_rgn(rows: Rows, every: int, batches: int = 5) -> optax.GradientTransformationExtraArgs:
    """u_p <- min(1, mean RGN_p / max mean RGN) * u_p.

    At the start of every period the mean is dropped and taken anew over the period's first `batches` steps, each of which already uses the mean so far
    (step 0 its own gradient); for the rest of the period it stays. A parameter that becomes live later is measured from its own first step.

    Three decisions where the paper, whose networks have batch norm and few biases, leaves room:

    - The maximum is over pretrained matrices, filters and tokens outside the norms. The authors leave batch norm out; vectors are left out too,
      because a bias near 0 has a huge RGN and would still everything else.
    - Norms and vectors are measured like the rest and follow their own RGN, at most 1. The authors do not train batch norm at all; freezing is
      what rules are for.
    - What has no scale gets 1: a new parameter (`Row.new`), and one that is exactly 0.

    Args:
      rows: of the table, by path.
      every: steps of a period, 1 or more.
      batches: steps that are measured at the start of each (5 in the authors' code).
    """

    def init(params: Tree) -> RgnState:
        mean = jax.tree.map(lambda _: jnp.zeros((), jnp.float32), params)
        return RgnState(mean, jax.tree.map(lambda _: jnp.zeros((), jnp.int32), params), jnp.full((), -1, jnp.int32))

    def update(updates: Tree, state: RgnState, params: Tree = None, *, step: Int[Array, ""], hyper: Hyper, gradients: Tree, **_: Any) -> tuple[Tree, RgnState]:
        sizes, slopes = _norms(params), _norms(gradients)
        relative = {path: jnp.minimum(slopes[path] / jnp.where(size > 0, size, jnp.inf), LARGEST) for path, size in sizes.items()}
        state = _measured(state, relative, jnp.asarray(step, jnp.int32) // every, batches)
        factors = _factors(rows, trees.flatten(state.mean), sizes, _resting(rows, updates, step, hyper))
        return trees.map_with_path(lambda path, update: like(factors[path], update) * update, updates), state

    return transform(init, update)


def _norms(tree: Tree) -> dict[str, Float[Array, ""]]:
    """Norm of every leaf by path, in float32."""
    return {path: jnp.linalg.norm(jnp.ravel(widened(leaf))).astype(jnp.float32) for path, leaf in trees.flatten(tree).items()}


def _measured(state: RgnState, relative: Mapping[str, Array], period: Int[Array, ""], batches: int) -> RgnState:
    """The means with one more batch in them, where the period still measures."""
    count = jax.tree.map(lambda n: jnp.where(state.period == period, n, 0), state.count)
    mean = trees.map_with_path(lambda path, m, n: jnp.where(n < batches, (n * m + relative[path]) / (n + 1), m), state.mean, count)
    return RgnState(mean, jax.tree.map(lambda n: jnp.minimum(n + 1, batches), count), period)


def _resting(rows: Rows, updates: Tree, step: Int[Array, ""], hyper: Hyper) -> dict[str, Array]:
    """Whether a leaf's coefficient is 0 at this step: then it sets no maximum."""
    return {path: ~jnp.any(jnp.asarray(coefficient(rows[path], step, hyper)) > 0) for path in trees.flatten(updates)}


def _factors(rows: Rows, means: Mapping[str, Array], sizes: Mapping[str, Array], resting: Mapping[str, Array]) -> dict[str, Float[Array, ""]]:
    """min(1, mean / maximum) by path; 1 for what has no scale."""
    measured = [path for path in means if not rows[path].new]
    scale_setting = [path for path in measured if _sets_scale(rows[path])] or measured
    if not scale_setting:
        return {path: jnp.ones((), jnp.float32) for path in means}
    largest = jnp.stack([jnp.where(resting[path], 0, means[path]) for path in scale_setting]).max()

    def factor(path: str) -> Float[Array, ""]:
        share = jnp.minimum(1, means[path] / jnp.where(largest > 0, largest, 1))
        return jnp.where((largest > 0) & (sizes[path] > 0), share, 1).astype(jnp.float32)

    return {path: factor(path) if path in measured else jnp.ones((), jnp.float32) for path in means}


def _sets_scale(row: Row) -> bool:
    """Whether a parameter may be the largest: a matrix, filter or token outside the norms."""
    return len(row.shape) >= 2 and not _NORM.fullmatch(row.path)
