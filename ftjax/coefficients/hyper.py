"""Hyperparameters as values: a plain dict of scalar arrays that travels into the compiled step as an argument.

Every amplitude of the law is here (lr, c, wd, pull ...); the table keeps only what is structure. So a sweep is a `vmap` over this dict,
nothing retraces when a number changes, and no number becomes a literal in the compiled program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ftjax.config import Config, Rules
from ftjax.errors import ConfigError, did_you_mean
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
        "focal_gamma": config.task.focal_gamma,
        "r_drop": config.task.r_drop or 0.0,
        "temperature": config.task.temperature,
        "beta": config.task.beta,
        "z_loss": config.task.z_loss or 0.0,
        "ema_decay": config.after.ema_decay,
        "adapter_dropout": config.adapter.dropout,
    }


def default_hyper(config: Config) -> Hyper:
    """The configured hyperparameters as scalar arrays: those of `numbers` that the run reads, and `seed` (uint32).

    A force that is off in the configuration is not in the program, so its strength is not here: to sweep it, turn it on (`anchor.pull=0.0`).
    `coefficient` holds one multiplier per rule of the table, all 1. Arrays are strongly typed (float32, or float64 where JAX allows it), so replacing one
    by a computed value never retraces.

    Raises:
      ConfigError: as `numbers`.
    """
    read = {name: value for name, value in numbers(config).items() if name not in _unread(config)}
    return jax.tree.map(lambda value: jnp.array(value, dtype=float), read) | {"seed": jnp.array(config.seed % 2**32, dtype=jnp.uint32)}


def check_hyper(hyper: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse hyperparameters that are not those of a run: a sweep over what nothing reads would look like a result.

    Args:
      hyper: what a step is given.
      known: what the run reads, `default_hyper` of its configuration.

    Raises:
      ConfigError: a name too many or missing.
    """
    for name in hyper:
        if name not in known:
            raise ConfigError(
                f"hyper[{name!r}]: this run reads no such hyperparameter; {did_you_mean(name, known)}. "
                "A force that is off in the configuration is not in the program: turn it on, for instance anchor.pull=0.0, to vary it"
            )
    for name in known:
        if name not in hyper:
            raise ConfigError(f"hyper[{name!r}] is missing; change what you want to change, as in plan.hyper | {{'learning_rate': 1e-3}}")


def _unread(config: Config) -> set[str]:
    """Names of hyperparameters that the configured program does not read."""
    anchor, optimizer = config.anchor, config.optimizer
    moments = {"adamw": ("beta1", "beta2", "epsilon"), "sgd": ("momentum",), "lion": ("beta1", "beta2"), "adafactor": ("beta2",)}
    of_direction = {"beta1", "beta2", "epsilon", "momentum"}
    reads = set(moments.get(optimizer.name, of_direction))
    if optimizer.schedule_free:
        reads = (reads - {"momentum"}) | {"beta1"}
    off = {name for name in ("pull", "ball", "select", "mixout") if getattr(anchor, name) is None}
    task = config.task
    of_tasks = {"label_smoothing": task.name in ("classification", "preference"), "focal_gamma": task.imbalance == "focal"}
    of_tasks |= {"r_drop": task.r_drop is not None, "temperature": task.name == "sentence_embedding"}
    of_tasks |= {"beta": task.name == "preference", "z_loss": task.z_loss is not None}
    off |= set() if config.adapter.dropout else {"adapter_dropout"}
    off |= {name for name, read in of_tasks.items() if not read}
    return (of_direction - reads) | off | ({"sam"} if optimizer.sam is None else set()) | (set() if "ema" in config.after.candidates else {"ema_decay"})


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
        ("task.focal_gamma", config.task.focal_gamma, lambda x: 0 <= x < math.inf, "finite and 0 or more"),
        ("task.r_drop", config.task.r_drop, lambda x: 0 <= x < math.inf, "finite and 0 or more (None: off)"),
        ("task.beta", config.task.beta, lambda x: 0 < x < math.inf, "finite and above 0"),
        ("task.z_loss", config.task.z_loss, lambda x: 0 <= x < math.inf, "finite and 0 or more (None: off)"),
        ("task.temperature", config.task.temperature, lambda x: 0 < x < math.inf, "finite and above 0"),
        ("task.label_smoothing", config.task.label_smoothing, lambda x: 0 <= x < 1, "at least 0 and below 1"),
    )
    for key, value, allowed, words in ranges:
        if value is not None and not allowed(value):
            raise ConfigError(f"{key} is {value!r}; it must be {words}")
