"""Hyperparameters as values: a plain dict of scalar arrays that travels into the compiled step as an argument.

Every amplitude of the law is here (lr, c, wd, pull ...); the table keeps only what is structure. So a sweep is a `vmap` over this dict,
nothing retraces when a number changes, and no number becomes a literal in the compiled program.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ftjax.config import Config, Rules
from ftjax.errors import ConfigError
from ftjax.tables import EVERYTHING

Hyper = dict[str, Any]
"""`{"learning_rate": f[], "coefficient": (f[], ...), ...}`: scalar arrays; `vmap` gives each a leading axis."""


def coefficient_rules(config: Config) -> Rules:
    """The coefficient's rules; `EVERYTHING` where the configuration leaves them open."""
    return EVERYTHING if config.coefficient.rules is None else config.coefficient.rules


def numbers(config: Config) -> dict[str, Any]:
    """The configured hyperparameters as Python floats; what is left open takes the value that changes nothing: factor 1, strength 0.

    Raises:
      ConfigError: a number outside its range, or a learning rate that nobody chose.
    """
    _check(config)
    coefficient, optimizer, anchor = config.coefficient, config.optimizer, config.anchor
    return {
        "learning_rate": optimizer.learning_rate,
        "weight_decay": optimizer.weight_decay or 0.0,
        "pull": anchor.pull or 0.0,
        "ball": math.inf if anchor.ball is None else anchor.ball,
        "select": anchor.select or 0.0,
        "mixout": anchor.mixout or 0.0,
        "sam": optimizer.sam or 0.0,
        "clip_norm": math.inf if optimizer.clip_norm is None else optimizer.clip_norm,
        "beta1": optimizer.beta1,
        "beta2": optimizer.beta2,
        "epsilon": optimizer.epsilon,
        "momentum": optimizer.momentum,
        "coefficient": tuple(1.0 for _ in coefficient_rules(config)),
        "layer_decay": 1.0 if coefficient.layer_decay is None else coefficient.layer_decay,
        "head_factor": 1.0 if coefficient.head_factor is None else coefficient.head_factor,
        "label_smoothing": config.task.label_smoothing or 0.0,
        "ema_decay": config.after.ema_decay,
    }


def default_hyper(config: Config) -> Hyper:
    """The configured hyperparameters as scalar arrays: those of `numbers`, and `seed` (uint32).

    `coefficient` holds one multiplier per rule of the table, all 1. Arrays are strongly typed (float32, or float64 where JAX allows it), so
    replacing one by a computed value never retraces.

    Raises:
      ConfigError: as `numbers`.
    """
    hyper = jax.tree.map(lambda value: jnp.array(value, dtype=float), numbers(config))
    return hyper | {"seed": jnp.array(config.seed % 2**32, dtype=jnp.uint32)}


def _check(config: Config) -> None:
    """Each number in the range where the law means something."""
    coefficient, optimizer, anchor = config.coefficient, config.optimizer, config.anchor
    if optimizer.learning_rate is None:
        raise ConfigError("optimizer.learning_rate is open; give a number or let a recipe fill it")
    ranges = (
        ("optimizer.learning_rate", optimizer.learning_rate, lambda x: 0 <= x < math.inf, "finite and 0 or more"),
        ("optimizer.weight_decay", optimizer.weight_decay, lambda x: 0 <= x < math.inf, "finite and 0 or more"),
        ("optimizer.clip_norm", optimizer.clip_norm, lambda x: x > 0, "above 0 (None: never clip)"),
        ("optimizer.beta1", optimizer.beta1, lambda x: 0 <= x < 1, "at least 0 and below 1"),
        ("optimizer.beta2", optimizer.beta2, lambda x: 0 <= x < 1, "at least 0 and below 1"),
        ("optimizer.epsilon", optimizer.epsilon, lambda x: 0 < x < math.inf, "above 0"),
        ("optimizer.momentum", optimizer.momentum, lambda x: 0 <= x < 1, "at least 0 and below 1"),
        ("coefficient.layer_decay", coefficient.layer_decay, lambda x: 0 < x <= 1, "above 0 and at most 1; freeze with a rule of value 0"),
        ("coefficient.head_factor", coefficient.head_factor, lambda x: 0 < x < math.inf, "above 0; freeze with a rule of value 0"),
        ("anchor.pull", anchor.pull, lambda x: 0 <= x < math.inf, "finite and 0 or more"),
        ("anchor.ball", anchor.ball, lambda x: x > 0, "above 0 (None: no ball); freeze with a rule of value 0"),
        ("anchor.select", anchor.select, lambda x: 0 <= x < math.inf, "finite and 0 or more"),
        ("anchor.mixout", anchor.mixout, lambda x: 0 <= x < 1, "at least 0 and below 1"),
        ("optimizer.sam", optimizer.sam, lambda x: 0 <= x < math.inf, "finite and 0 or more (None: off)"),
        ("after.ema_decay", config.after.ema_decay, lambda x: 0 <= x < 1, "at least 0 and below 1"),
        ("task.label_smoothing", config.task.label_smoothing, lambda x: 0 <= x < 1, "at least 0 and below 1"),
    )
    for key, value, allowed, words in ranges:
        if value is not None and not allowed(value):
            raise ConfigError(f"{key} is {value!r}; it must be {words}")
