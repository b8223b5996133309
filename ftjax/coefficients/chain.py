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

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ftjax import trees
from ftjax.coefficients.auto_rgn import scale_by_rgn
from ftjax.coefficients.directions import direction
from ftjax.coefficients.hyper import Hyper
from ftjax.coefficients.links import Rows, like, moving_norm, stateless, transform, widened
from ftjax.coefficients.retractions import Retraction
from ftjax.coefficients.retractions import retraction as configured_retraction
from ftjax.coefficients.rules import is_zero
from ftjax.coefficients.schedule_free import schedule_free
from ftjax.coefficients.schedules import Shape, evaluate, learning_rate_shape
from ftjax.coefficients.table import Table, coefficient
from ftjax.config import Config
from ftjax.durations import Clock, to_steps
from ftjax.trees import Tree


def chain(
    table: Table, config: Config, clock: Clock, *, cohorts: Mapping[str, int] | None = None, retraction: Retraction | None = None
) -> optax.GradientTransformationExtraArgs:
    """The optimiser: clip -> direction -> + weight decay -> + pull -> * c (-> * measured factor) -> * -lr -> retraction.

    `update(grads, state, params, *, step, hyper, anchor=None)` takes live trees (`None` where a parameter is still) and returns what to add to
    `params`. `anchor` is theta0 of the leaves that need it (other leaves may be `None`); without it there is no pull. With `optimizer.schedule_free`
    all links are wrapped once more, and `evaluation_params` says where to evaluate.

    Args:
      table: the coefficient of every parameter.
      config: `optimizer` names the direction and the learning rate's shape and warmup, `anchor` says which forces there are; all numbers come from `hyper`.
      clock: what durations mean.
      cohorts: the step at which each live parameter became live, where they differ (`Phase.cohorts`); each cohort's moments count from there.
      retraction: acts on the whole displacement last; None: that of `config.anchor`, if any.
    """
    rows, optimizer = {row.path: row for row in table.rows}, config.optimizer
    shape = learning_rate_shape(optimizer, clock)
    measured_every = to_steps(config.coefficient.auto_every, clock, "coefficient.auto_every", minimum=1)
    links = optax.chain(
        clip_by_live_norm(rows),
        direction(optimizer, rows, cohorts),
        add_weight_decay(rows),
        *([] if config.anchor.pull is None else [add_pull(rows)]),
        scale_by_coefficient(rows),
        *([] if config.coefficient.auto == "none" else [scale_by_rgn(rows, measured_every)]),
        scale_by_learning_rate(shape),
        retract(rows, retraction or configured_retraction(config.anchor)),
    )
    links = schedule_free(links, rows, shape) if optimizer.schedule_free else links

    def update(grads: Tree, state: Tree, params: Tree, *, step: Int[Array, ""], hyper: Hyper, anchor: Tree = None) -> tuple[Tree, Tree]:
        return links.update(grads, state, params, step=step, hyper=hyper, anchor=trees.flatten(anchor), gradients=grads)

    return transform(links.init, update)


def clip_by_live_norm(rows: Rows) -> optax.GradientTransformationExtraArgs:
    """g <- g * min(1, clip_norm / |g|), the norm over what moves at this step: still leaves are not in the tree, resting ones (c = 0) are left out."""

    def link(grads: Tree, step: Int[Array, ""], hyper: Hyper, **_: Any) -> Tree:
        norm = moving_norm(grads, rows, step, hyper)
        scale = jnp.minimum(1, hyper["clip_norm"] / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
        return jax.tree.map(lambda g: like(scale, g) * g, grads)

    return stateless(link)


def add_weight_decay(rows: Rows) -> optax.GradientTransformationExtraArgs:
    """u <- u + wd * theta, with wd = hyper.weight_decay * row.decay(step): decoupled (AdamW), towards zero."""

    def link(updates: Tree, params: Tree, step: Int[Array, ""], hyper: Hyper, **_: Any) -> Tree:
        def add(path: str, update: Array, theta: Array) -> Array:
            decay = rows[path].decay
            return update if is_zero(decay) else update + like(hyper["weight_decay"] * evaluate(decay, step), update) * theta

        return trees.map_with_path(add, updates, params)

    return stateless(link)


def add_pull(rows: Rows) -> optax.GradientTransformationExtraArgs:
    """u <- u + pull * (theta - theta0), with pull = hyper.pull * row.anchor(step): decoupled L2-SP, where there is an anchor.

    For plain SGD this is the gradient of the penalty pull/2 * |theta - theta0|^2 (Li et al. 2018, arXiv 1802.01483).
    """

    def link(updates: Tree, params: Tree, step: Int[Array, ""], hyper: Hyper, anchor: Mapping[str, Array], **_: Any) -> Tree:
        def add(path: str, update: Array, theta: Array) -> Array:
            strength = rows[path].anchor
            if path not in anchor or is_zero(strength):
                return update
            return update + like(hyper["pull"] * evaluate(strength, step), update) * (theta - anchor[path])

        return trees.map_with_path(add, updates, params)

    return stateless(link)


def scale_by_coefficient(rows: Rows) -> optax.GradientTransformationExtraArgs:
    """u <- c(path, step) * u. After weight decay and pull: c says when a parameter moves, they say where to."""

    def link(updates: Tree, step: Int[Array, ""], hyper: Hyper, **_: Any) -> Tree:
        return trees.map_with_path(lambda path, update: like(coefficient(rows[path], step, hyper), update) * update, updates)

    return stateless(link)


def scale_by_learning_rate(shape: Shape) -> optax.GradientTransformationExtraArgs:
    """u <- -lr(step) * u, with lr = hyper.learning_rate * shape(step)."""

    def link(updates: Tree, step: Int[Array, ""], hyper: Hyper, **_: Any) -> Tree:
        rate = -hyper["learning_rate"] * shape(step)
        return jax.tree.map(lambda update: like(rate, update) * update, updates)

    return stateless(link)


def retract(rows: Rows, retraction: Retraction | None) -> optax.GradientTransformationExtraArgs:
    """u <- R(x + u) - x for every leaf with an anchor, x = theta - theta0, in at least float32; the identity where there is no retraction.

    While a coefficient is 0 its parameter rests, also outside a ball that has become smaller: c says when, R says where to.
    """

    def link(updates: Tree, params: Tree, step: Int[Array, ""], hyper: Hyper, anchor: Mapping[str, Array], gradients: Tree) -> Tree:
        def shorten(path: str, update: Array, theta: Array, gradient: Array) -> Array:
            if retraction is None or path not in anchor:
                return update
            x = widened(theta) - widened(anchor[path])
            moved = retraction(rows[path], x + update, x, gradient, step, hyper, anchor[path])
            return jnp.where(coefficient(rows[path], step, hyper) > 0, like(moved - x, update), update)

        return trees.map_with_path(shorten, updates, params, gradients)

    return stateless(link)
