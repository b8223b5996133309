"""Schedule-free learning: an average of the iterates takes the place of a learning rate that decays (Defazio et al. 2024, arXiv 2405.15682).

It wraps the whole chain of the law. The step is taken at z, gradients are computed at y = (1 - b) z + b x, which are the live parameters, and the model
is evaluated at the running average x; b is `hyper.beta1`. With batch norm, x wants its statistics measured anew: those of training belong to y.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ftjax import trees
from ftjax.coefficients.hyper import Hyper
from ftjax.coefficients.links import Rows, like, transform, widened
from ftjax.coefficients.schedules import Shape
from ftjax.coefficients.table import coefficient
from ftjax.config import Config
from ftjax.errors import ConfigError
from ftjax.trees import Tree


def schedule_free(links: optax.GradientTransformationExtraArgs, rows: Rows, shape: Shape) -> optax.GradientTransformationExtraArgs:
    """optax's `contrib.schedule_free` around `links`, with traced learning rate and b.

    z' = z + links(g(y)), x' = (1 - k) x + k z' with k = w / sum(w), w = (largest lr so far)^2, y' = (1 - b) z' + b x'. While a coefficient is 0 its
    parameter rests, y, z and x alike.

    Args:
      links: everything up to the multiplication by -lr, its direction without momentum.
      rows: the table's rows by path.
      shape: of the learning rate; its warmup lowers the weight of the first steps.
    """

    def around(hyper: Hyper, rate: Array | float) -> optax.GradientTransformationExtraArgs:
        return optax.contrib.schedule_free(links, rate, b1=hyper["beta1"])

    def init(params: Tree) -> Tree:
        state: Any = around({"beta1": 1.0}, 0.0).init(params)
        # A sum of squared learning rates would stop growing in bfloat16.
        return state._replace(weight_sum=widened(state.weight_sum), max_lr=widened(state.max_lr))

    def update(grads: Tree, state: Any, params: Tree, *, step: Int[Array, ""], hyper: Hyper, **extra: Any) -> tuple[Tree, Any]:
        wrapped = around(hyper, hyper["learning_rate"] * shape(step))
        updates, moved = wrapped.update(grads, state, params, step=step, hyper=hyper, **extra)

        def rest(path: str, update: Array, theta: Array) -> Array:
            return jnp.where(coefficient(rows[path], step, hyper) > 0, like(update, theta), jnp.zeros_like(theta))

        return trees.map_with_path(rest, updates, params), jax.tree.map(like, moved, state)

    return transform(init, update)


def evaluation_params(opt_state: Tree, live: Tree, hyper: Hyper) -> Tree:
    """Where to evaluate: the average x = (y - (1 - b) z) / b of a schedule-free chain, the live parameters themselves of any other.

    Args:
      opt_state: state of `chain`.
      live: parameters that train, y.
      hyper: those of training, for b = `beta1`.
    """
    if not isinstance(opt_state, optax.contrib.ScheduleFreeState):
        return live
    average = optax.contrib.schedule_free_eval_params(opt_state._replace(b1=hyper["beta1"]), live)
    return jax.tree.map(like, average, live)


def check_composes(config: Config, phases: int = 1, *, batch_statistics: bool = False) -> None:
    """What schedule-free learning cannot be combined with; everything else of the law composes.

    Args:
      config: the whole configuration, after the recipe.
      phases: number of the run's phases.
      batch_statistics: whether the model has batch norm.

    Raises:
      ConfigError: names both keys, the reason and the way out.
    """
    if not config.optimizer.schedule_free:
        return
    for clashes, key, why in _clashes(config, phases, batch_statistics):
        if clashes:
            raise ConfigError(f"optimizer.schedule_free does not compose with {key}: {why}")


def _clashes(config: Config, phases: int, batch_statistics: bool) -> tuple[tuple[bool, str, str], ...]:
    """(whether it is so, the other key, why and what to do)."""
    optimizer, anchor = config.optimizer, config.anchor
    averages = [name for name in ("ema", "swa") if name in config.after.candidates]
    return (
        (anchor.ball is not None, "anchor.ball", "a retraction would hold y, the point of the gradient, and not the average; use anchor.pull"),
        (anchor.select is not None, "anchor.select", "a retraction would hold y, the point of the gradient, and not the average; use anchor.pull"),
        (
            optimizer.name not in ("adamw", "sgd"),
            f"optimizer.name={optimizer.name!r}",
            "it is known for steps without momentum only; use 'adamw' or 'sgd'",
        ),
        (
            optimizer.schedule != "constant",
            f"optimizer.schedule={optimizer.schedule!r}",
            "the average takes the place of the decay; set optimizer.schedule='constant' (warmup stays)",
        ),
        (optimizer.beta1 == 0, "optimizer.beta1=0", "beta1 weighs the average at the point of the gradient; give it a value above 0, usually 0.9"),
        (
            phases > 1,
            "parameters that start to train later",
            "the average would begin anew at every phase; set coefficient.phases='arithmetic' to keep the run in one program",
        ),
        (
            batch_statistics and config.model.batch_statistics == "updated",
            "model.batch_statistics='updated'",
            "batch norm's statistics would be those of y and not of the average; use 'frozen'",
        ),
        (bool(averages), f"after.candidates {averages}", "its weights are an average already; leave them out"),
    )
