r"""The optax link that obeys the law: an optimiser whose every step is scaled by the coefficient table.

    v  = direction(clip(g)) + wd * theta + pull * x        x = theta - theta0
    x' = R(x - lr(t) * c(path, t) * v)

`chain` is a list of small transforms, concatenated once; their order is fixed, because only this order freezes. Adam is blind to the scale of
its input, so a coefficient on the gradient does nothing, and one before weight decay lets the decay through:

>>> grads, theta = {"w": jnp.array([2.0])}, {"w": jnp.array([4.0])}
>>> def moved(*links):
...     updates, _ = (link := optax.chain(*links)).update(grads, link.init(theta), theta)
...     return round(float(updates["w"][0]), 4)
>>> for c in (0.0, 0.1, 1.0):
...     times_c, adam, decay, minus_lr = optax.scale(c), optax.scale_by_adam(), optax.add_decayed_weights(0.1), optax.scale(-0.01)
...     print(c, moved(times_c, adam, decay, minus_lr), moved(adam, times_c, decay, minus_lr), moved(adam, decay, times_c, minus_lr))
0.0 -0.004 -0.004 -0.0
0.1 -0.014 -0.005 -0.0014
1.0 -0.014 -0.014 -0.014

The links take `step`, `hyper` and `anchor` as extra arguments: schedules follow the state's step, numbers are traced, theta0 is nobody's constant.
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
from ftjax.coefficients.rules import is_zero
from ftjax.coefficients.schedules import Shape, evaluate, learning_rate_shape
from ftjax.coefficients.table import Row, Table, coefficient
from ftjax.config import OptimizerConfig
from ftjax.durations import Clock
from ftjax.trees import Tree

Rows = Mapping[str, Row]

Retraction = Callable[[Row, Array, Array, Array, Int[Array, ""], Hyper], Array]
"""`R(row, moved, displacement, gradient, step, hyper) -> moved'` for one leaf: where the step would leave its displacement from theta0, the
displacement before the step, and the gradient before clipping (its sign against the displacement is what a selective retraction asks)."""


def chain(table: Table, optimizer: OptimizerConfig, clock: Clock, *, retraction: Retraction | None = None) -> optax.GradientTransformationExtraArgs:
    """The optimiser: clip -> direction -> + weight decay -> + pull -> * c -> * -lr -> retraction.

    `update(grads, state, params, *, step, hyper, anchor=None)` takes live trees (`None` where a parameter is still) and returns what to add to
    `params`. `anchor` is theta0 of the leaves that need it (other leaves may be `None`); without it there is no pull.

    Args:
      table: the coefficient of every parameter.
      optimizer: names the direction, and the learning rate's shape and warmup; its numbers come from `hyper`.
      clock: what warmup's duration means.
      retraction: acts on the whole displacement last; None leaves it alone.
    """
    rows = {row.path: row for row in table.rows}
    links = optax.chain(
        clip_by_live_norm(),
        direction(optimizer.name),
        add_weight_decay(rows),
        add_pull(rows),
        scale_by_coefficient(rows),
        scale_by_learning_rate(learning_rate_shape(optimizer, clock)),
        retract(rows, retraction),
    )

    def update(grads: Tree, state: Tree, params: Tree, *, step: Int[Array, ""], hyper: Hyper, anchor: Tree = None) -> tuple[Tree, Tree]:
        return links.update(grads, state, params, step=step, hyper=hyper, anchor=trees.flatten(anchor), gradients=grads)

    return _transform(links.init, update)


def clip_by_live_norm() -> optax.GradientTransformationExtraArgs:
    """g <- g * min(1, clip_norm / |g|), the norm over the live leaves together; still leaves are not in the tree, so they cannot count."""

    def link(grads: Tree, hyper: Hyper, **_: Any) -> Tree:
        norm = optax.tree.norm(grads)
        scale = jnp.minimum(1, hyper["clip_norm"] / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
        return jax.tree.map(lambda g: _like(scale, g) * g, grads)

    return _stateless(link)


def direction(name: str) -> optax.GradientTransformationExtraArgs:
    """optax's Adam, momentum or Lion, with traced betas; its moments exist for live leaves only and keep the leaf's type."""
    make: Callable[[Hyper], optax.GradientTransformation] = {
        "adamw": lambda hyper: optax.scale_by_adam(hyper["beta1"], hyper["beta2"], hyper["epsilon"]),
        "sgd": lambda hyper: optax.trace(hyper["momentum"]),
        "lion": lambda hyper: optax.scale_by_lion(hyper["beta1"], hyper["beta2"]),
    }[name]
    shapes_only = dict.fromkeys(("beta1", "beta2", "epsilon", "momentum"), 0.0)

    def update(grads: Tree, state: Tree, params: Tree = None, *, hyper: Hyper, **_: Any) -> tuple[Tree, Tree]:
        updates, new_state = make(hyper).update(grads, state, params)
        return jax.tree.map(_like, updates, grads), jax.tree.map(_like, new_state, state)

    return _transform(make(shapes_only).init, update)


def add_weight_decay(rows: Rows) -> optax.GradientTransformationExtraArgs:
    """u <- u + wd * theta, with wd = hyper.weight_decay * row.decay(step): decoupled (AdamW), towards zero."""

    def link(updates: Tree, params: Tree, step: Int[Array, ""], hyper: Hyper, **_: Any) -> Tree:
        def add(path: str, update: Array, theta: Array) -> Array:
            decay = rows[path].decay
            return update if is_zero(decay) else update + _like(hyper["weight_decay"] * evaluate(decay, step), update) * theta

        return trees.map_with_path(add, updates, params)

    return _stateless(link)


def add_pull(rows: Rows) -> optax.GradientTransformationExtraArgs:
    """u <- u + pull * (theta - theta0), with pull = hyper.pull * row.pull(step): decoupled L2-SP, where there is an anchor.

    For plain SGD this is the gradient of the penalty pull/2 * |theta - theta0|^2 (Li et al. 2018, arXiv 1802.01483).
    """

    def link(updates: Tree, params: Tree, step: Int[Array, ""], hyper: Hyper, anchor: Mapping[str, Array], **_: Any) -> Tree:
        def add(path: str, update: Array, theta: Array) -> Array:
            pull = rows[path].pull
            if path not in anchor or is_zero(pull):
                return update
            return update + _like(hyper["pull"] * evaluate(pull, step), update) * (theta - anchor[path])

        return trees.map_with_path(add, updates, params)

    return _stateless(link)


def scale_by_coefficient(rows: Rows) -> optax.GradientTransformationExtraArgs:
    """u <- c(path, step) * u. After weight decay and pull: c says when a parameter moves, they say where to."""

    def link(updates: Tree, step: Int[Array, ""], hyper: Hyper, **_: Any) -> Tree:
        return trees.map_with_path(lambda path, update: _like(coefficient(rows[path], step, hyper), update) * update, updates)

    return _stateless(link)


def scale_by_learning_rate(shape: Shape) -> optax.GradientTransformationExtraArgs:
    """u <- -lr(step) * u, with lr = hyper.learning_rate * shape(step)."""

    def link(updates: Tree, step: Int[Array, ""], hyper: Hyper, **_: Any) -> Tree:
        rate = -hyper["learning_rate"] * shape(step)
        return jax.tree.map(lambda update: _like(rate, update) * update, updates)

    return _stateless(link)


def retract(rows: Rows, retraction: Retraction | None) -> optax.GradientTransformationExtraArgs:
    """u <- R(x + u) - x for every leaf with an anchor, x = theta - theta0; the identity where there is no retraction."""

    def link(updates: Tree, params: Tree, step: Int[Array, ""], hyper: Hyper, anchor: Mapping[str, Array], gradients: Tree) -> Tree:
        def shorten(path: str, update: Array, theta: Array, gradient: Array) -> Array:
            if retraction is None or path not in anchor:
                return update
            x = theta - anchor[path]
            return retraction(rows[path], x + update, x, gradient, step, hyper) - x

        return trees.map_with_path(shorten, updates, params, gradients)

    return _stateless(link)


def _stateless(link: Callable[..., Tree]) -> optax.GradientTransformationExtraArgs:
    """A transform without state from `link(updates, params=, step=, hyper=, anchor=, gradients=) -> updates`."""

    def update(updates: Tree, state: optax.EmptyState, params: Tree = None, **extra: Any) -> tuple[Tree, optax.EmptyState]:
        return link(updates, params=params, **extra), state

    return _transform(optax.init_empty_state, update)


def _transform(init: Callable[..., Tree], update: Callable[..., tuple[Tree, Tree]]) -> optax.GradientTransformationExtraArgs:
    """optax's pair; its type has no word for extra arguments that are required, so they are not checked here."""
    return optax.GradientTransformationExtraArgs(init, update)


def _like(value: Float[Array, "*shape"] | float, array: Array) -> Array:
    """A value in the type of an array, so that a float64 hyperparameter does not widen a float32 leaf (nor the other way round)."""
    return jnp.asarray(value, dtype=array.dtype)
