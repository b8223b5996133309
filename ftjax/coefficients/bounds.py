r"""What an update can be at most, known from the hyperparameters alone: where that is small, nobody needs to look whether it overflows.

    |lr * c * (direction + wd * theta + pull * x)| <= lr * c * (bound + wd * |theta| + pull * |x|)

Adam's direction is bounded whatever the gradients are. With m = (1 - b1) sum b1^k g_k and v = (1 - b2) sum b2^k g_k^2, Cauchy and Schwarz give

    |m_hat| / sqrt(v_hat) <= 1 / sqrt((1 - b2) (1 - b1^2 / b2))        for b1^2 < b2

since 1 - b1^t >= 1 - b1 and 1 - b2^t <= 1. Lion's direction is a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ftjax.coefficients.hyper import Hyper
from ftjax.coefficients.rules import is_zero
from ftjax.coefficients.schedules import evaluate, learning_rate_shape
from ftjax.coefficients.table import Table, coefficient
from ftjax.config import Config
from ftjax.durations import Clock

LARGEST = 1e6
"""An update whose share of the direction stays below this is far from overflowing (1e38), and so is its square."""

_LEAST_EPSILON = 1e-18
"""Where the square of a gradient underflows (below 1e-23), Adam divides by epsilon alone."""


def bounded(table: Table, config: Config, clock: Clock) -> Callable[[Int[Array, ""], Hyper], Bool[Array, ""]] | None:
    """`bounded(step, hyper)`: whether the hyperparameters alone rule out that this step's update overflows, given finite gradients and parameters.

    False says nothing: then the update itself has to be looked at. None where no such bound is known (sgd, muon, adafactor, schedule-free runs, measured
    coefficients, retractions).
    """
    optimizer, anchor = config.optimizer, config.anchor
    known = optimizer.name in ("adamw", "lion") and not optimizer.schedule_free and config.coefficient.auto == "none"
    if not known or anchor.ball is not None or anchor.select is not None:
        return None
    shape, rows = learning_rate_shape(optimizer, clock), [row for row in table.rows if row.live]

    def decide(step: Int[Array, ""], hyper: Hyper) -> Bool[Array, ""]:
        """False also where a number is none, for nothing is below that; sizes, because a sweep may hold negative numbers."""
        rate = jnp.abs(hyper["learning_rate"] * shape(step)) * _size([coefficient(row, step, hyper) for row in rows])
        decay = jnp.abs(hyper["weight_decay"]) * _size([evaluate(row.decay, step) for row in rows])
        steady = (rate * _largest(optimizer.name, hyper) <= LARGEST) & (rate * decay <= 1) & (hyper["clip_norm"] > 0)
        if anchor.pull is None:
            return steady
        pull = jnp.abs(hyper["pull"]) * _size([evaluate(row.anchor, step) for row in rows if not is_zero(row.anchor)])
        return steady & (rate * pull <= 1)

    return decide


def _size(values: Sequence[Any]) -> Float[Array, ""]:
    """The largest absolute value among numbers and arrays."""
    return jnp.max(jnp.stack([jnp.max(jnp.abs(jnp.asarray(value, float))) for value in values]))


def _largest(name: str, hyper: Hyper) -> Float[Array, ""]:
    """Of the direction; infinity where nothing is known, and not a number where a hyperparameter is none: neither is below anything."""
    if name == "lion":
        return 0 * hyper["beta1"] + 1.0
    room = (1 - hyper["beta2"]) * (1 - hyper["beta1"] ** 2 / hyper["beta2"])
    known = (room > 0) & (hyper["epsilon"] >= _LEAST_EPSILON)
    return jnp.where(known, 1 / jnp.sqrt(jnp.where(known, room, 1)), jnp.inf)
