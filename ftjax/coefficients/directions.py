"""The direction: what optax's optimisers make of the clipped gradients, before anything of the law touches it.

`v = direction(clip(g)) + ...`: the learning rate, the coefficient, decay and pull are other links' business, so every transform here is the bare
`scale_by_*`. Betas are traced. A cohort is the set of leaves that became live at the same step: each has its own count for Adam's bias correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array

from ftjax import trees
from ftjax.coefficients.hyper import Hyper
from ftjax.coefficients.links import Rows, like, transform
from ftjax.coefficients.table import Row
from ftjax.config import OptimizerConfig
from ftjax.trees import Tree

CONSISTENT_RMS = 0.2
"""Root mean square of Muon's update, that of a typical AdamW update, so that one learning rate serves both (Liu et al. 2025, arXiv 2502.16982)."""

FACTORED_FROM = 128
"""Adafactor factors the second moment of matrices with both sides at least this long."""

Make = Callable[[Hyper], optax.GradientTransformation]


def direction(optimizer: OptimizerConfig, rows: Rows, cohorts: Mapping[str, int] | None = None) -> optax.GradientTransformationExtraArgs:
    """The chosen direction; its moments exist for live leaves only and keep the leaf's type.

    - adamw, sgd (heavy ball), lion: optax's, with `hyper`'s `beta1`, `beta2`, `epsilon`, `momentum`.
    - muon: orthogonalised momentum (`hyper.momentum`, Nesterov) for the matrices inside blocks (`is_muon`), Adam for everything else.
    - adafactor: factored second moments and update clipping at root mean square 1, no momentum and no scaling by the parameter's size (learning
      rate and coefficient own the scale). Its decay 1 - t^-0.8 is capped at `hyper.beta2` (Zhai et al. 2022, arXiv 2106.04560).

    With `optimizer.schedule_free` Adam's first moment and sgd's momentum are off: the average takes their place.

    Args:
      optimizer: `name` and `schedule_free`; its numbers come from `hyper`.
      rows: the table's rows by path.
      cohorts: for each live path the step at which it became live. Each cohort has its own state, named `from_<step>`; None: one state for all.
    """
    one = _with_hyper(_maker(optimizer, rows))
    if cohorts is None:
        return one
    born = dict(cohorts)

    def labels(tree: Tree) -> Tree:
        return trees.map_with_path(lambda path, _: f"from_{born[path]}", tree)

    return optax.partition({f"from_{step}": one for step in sorted(set(born.values()))}, labels)


def is_muon(row: Row) -> bool:
    """Whether Muon orthogonalises this parameter: matrices and filters inside a block.

    Its authors leave vectors, tokens, embeddings (the stem) and the head to Adam, and flatten a filter `[h w in out]` to `[h*w*in out]`. A depthwise
    filter `[h w 1 channels]` has no matrix in it: its channels do not mix, so it is Adam's too.
    """
    inside = row.group.startswith("block_")
    return inside and (len(row.shape) == 2 or (len(row.shape) == 4 and row.shape[2] > 1))


def _maker(optimizer: OptimizerConfig, rows: Rows) -> Make:
    """Hyperparameters -> the transform."""
    averaged = optimizer.schedule_free
    makers: dict[str, Make] = {
        "adamw": lambda hyper: optax.scale_by_adam(0.0 if averaged else hyper["beta1"], hyper["beta2"], hyper["epsilon"]),
        "sgd": lambda hyper: optax.identity() if averaged else optax.trace(hyper["momentum"]),
        "lion": lambda hyper: optax.scale_by_lion(hyper["beta1"], hyper["beta2"]),
        "muon": lambda hyper: _muon(hyper, rows),
        "adafactor": _adafactor,
    }
    return makers[optimizer.name]


def _with_hyper(make: Make) -> optax.GradientTransformationExtraArgs:
    """The transform that is made anew from traced numbers at every update; its state does not depend on them."""
    shapes_only = dict.fromkeys(("beta1", "beta2", "epsilon", "momentum"), 0.0)

    def update(grads: Tree, state: Tree, params: Tree = None, *, hyper: Hyper, **_: object) -> tuple[Tree, Tree]:
        updates, new_state = make(hyper).update(grads, state, params)
        return jax.tree.map(like, updates, grads), jax.tree.map(like, new_state, state)

    return transform(make(shapes_only).init, update)


def _muon(hyper: Hyper, rows: Rows) -> optax.GradientTransformation:
    """Muon inside blocks, Adam elsewhere (Jordan et al. 2024; scaled as in Liu et al. 2025, arXiv 2502.16982)."""

    def labels(tree: Tree) -> Tree:
        return trees.map_with_path(lambda path, _: "muon" if is_muon(rows[path]) else "adam", tree)

    def dimensions(tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), tree)

    def rescale(update: Array) -> Array:
        return CONSISTENT_RMS * math.sqrt(max(update.size // update.shape[-1], update.shape[-1])) * update

    orthogonalise = optax.contrib.scale_by_muon(beta=hyper["momentum"], eps=hyper["epsilon"], weight_dimension_numbers=dimensions)
    matrices = optax.chain(orthogonalise, optax.stateless(lambda updates, _: jax.tree.map(rescale, updates)))
    return optax.partition({"muon": matrices, "adam": optax.scale_by_adam(hyper["beta1"], hyper["beta2"], hyper["epsilon"])}, labels)


def _adafactor(hyper: Hyper) -> optax.GradientTransformation:
    """Shazeer and Stern 2018 (arXiv 1804.04235), sections 3 to 6."""

    def decay(step: ArrayLike, exponent: ArrayLike) -> Array:
        return jnp.minimum(1 - jnp.power(jnp.asarray(step) + 1.0, -jnp.asarray(exponent)), hyper["beta2"])

    factored = optax.scale_by_factored_rms(min_dim_size_to_factor=FACTORED_FROM, decay_rate_fn=decay)
    return optax.chain(factored, optax.clip_by_block_rms(1.0))
