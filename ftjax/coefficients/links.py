"""What every link of the chain is made of: optax's pair of functions that takes `step`, `hyper` and `anchor` as extra arguments.

Shared by `chain` (the order of the law) and `directions` (the velocity).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ftjax import trees
from ftjax.coefficients.hyper import Hyper
from ftjax.coefficients.table import Row, coefficient
from ftjax.trees import Tree

Rows = Mapping[str, Row]
"""The rows of the table by path."""


def transform(init: Callable[..., Tree], update: Callable[..., tuple[Tree, Tree]]) -> optax.GradientTransformationExtraArgs:
    """optax's pair; its type has no word for extra arguments that are required, so they are not checked here."""
    return optax.GradientTransformationExtraArgs(init, update)


def stateless(link: Callable[..., Tree]) -> optax.GradientTransformationExtraArgs:
    """A transform without state from `link(updates, params=, step=, hyper=, anchor=, gradients=) -> updates`."""

    def update(updates: Tree, state: optax.EmptyState, params: Tree = None, **extra: Any) -> tuple[Tree, optax.EmptyState]:
        return link(updates, params=params, **extra), state

    return transform(optax.init_empty_state, update)


def like(value: Float[Array, "*shape"] | float, array: Array) -> Array:
    """A value in the type of an array, so that a float64 hyperparameter does not widen a float32 leaf (nor the other way round)."""
    return jnp.asarray(value, dtype=array.dtype)


def moving(tree: Tree, rows: Rows, step: Int[Array, ""], hyper: Hyper) -> Tree:
    """A tree with zeros where the coefficient is 0 at this step: what rests may be in the program, but counts in no norm."""

    def move(path: str, leaf: Array) -> Array:
        return jnp.where(jnp.asarray(coefficient(rows[path], step, hyper)) > 0, leaf, jnp.zeros_like(leaf))

    return trees.map_with_path(move, tree)


def moving_norm(tree: Tree, rows: Rows, step: Int[Array, ""], hyper: Hyper) -> Float[Array, ""]:
    """The norm of `moving(tree)`; a leaf with one coefficient enters by its own sum of squares, so that no second tree is written."""

    def squares(path: str, leaf: Array) -> Array:
        """Their sum over what moves of one leaf."""
        moves = jnp.asarray(coefficient(rows[path], step, hyper)) > 0
        if moves.ndim:
            return jnp.sum(jnp.square(jnp.where(moves, leaf, jnp.zeros_like(leaf))))
        return jnp.where(moves, jnp.sum(jnp.square(leaf)), 0)

    return jnp.sqrt(sum(jax.tree.leaves(trees.map_with_path(squares, tree)), jnp.array(0.0)))


def widened(array: Array) -> Array:
    """An array in at least float32: norms and dots of bfloat16 leaves are taken there."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
