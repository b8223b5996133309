"""Hyperparameters: strongly typed scalars, neutral where open, refused out of range."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.coefficients import default_hyper
from ftjax.config import AnchorConfig, CoefficientConfig, Config, OptimizerConfig, TaskConfig
from ftjax.errors import ConfigError


def test_open_values_change_nothing() -> None:
    hyper = default_hyper(Config(optimizer=OptimizerConfig(learning_rate=0.1)))
    neutral = {"weight_decay": 0, "layer_decay": 1, "head_factor": 1, "label_smoothing": 0, "coefficient": (1,)}
    assert {name: hyper[name] for name in neutral} == neutral


def test_what_the_program_does_not_read_is_not_there() -> None:
    always = {"learning_rate", "weight_decay", "clip_norm", "coefficient", "layer_decay", "head_factor", "label_smoothing", "seed"}
    plain = default_hyper(Config(optimizer=OptimizerConfig(learning_rate=0.1)))
    assert set(plain) == always | {"beta1", "beta2", "epsilon"}
    sgd = default_hyper(Config(optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, sam=0.0), anchor=AnchorConfig(pull=0.0, mixout=0.0)))
    assert set(sgd) == always | {"momentum", "sam", "pull", "mixout"}
    free = OptimizerConfig(name="sgd", learning_rate=0.1, schedule="constant", schedule_free=True)
    assert set(default_hyper(Config(optimizer=free))) == always | {"beta1"}


def test_every_hyperparameter_is_a_strongly_typed_scalar() -> None:
    config = Config(seed=2**40 + 3, optimizer=OptimizerConfig(learning_rate=0.1), coefficient=CoefficientConfig(rules=(("head/.*", 1.0), (".*", 0))))
    hyper = default_hyper(config)
    assert len(hyper["coefficient"]) == 2
    assert hyper["seed"] == 3
    for leaf in jax.tree.leaves(hyper):
        assert isinstance(leaf, jax.Array)
        assert leaf.shape == ()
        assert not leaf.weak_type


def test_float64_hyperparameters_keep_every_digit() -> None:
    with jax.enable_x64(True):
        learning_rate = default_hyper(Config(optimizer=OptimizerConfig(learning_rate=0.1)))["learning_rate"]
        assert learning_rate.dtype == jnp.float64
        assert np.asarray(learning_rate) == 0.1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(), "optimizer.learning_rate is open; give a number or let a recipe fill it"),
        (Config(optimizer=OptimizerConfig(learning_rate=-1.0)), "optimizer.learning_rate is -1.0; it must be finite and 0 or more"),
        (Config(optimizer=OptimizerConfig(learning_rate=float("nan"))), "optimizer.learning_rate is nan; it must be finite and 0 or more"),
        (Config(optimizer=OptimizerConfig(learning_rate=1.0, weight_decay=-1.0)), "optimizer.weight_decay is -1.0; it must be finite and 0 or more"),
        (Config(optimizer=OptimizerConfig(learning_rate=1.0, clip_norm=0.0)), "optimizer.clip_norm is 0.0; it must be above 0 (None: never clip)"),
        (Config(optimizer=OptimizerConfig(learning_rate=1.0, beta2=1.0)), "optimizer.beta2 is 1.0; it must be at least 0 and below 1"),
        (
            Config(optimizer=OptimizerConfig(learning_rate=1.0), coefficient=CoefficientConfig(layer_decay=1.5)),
            "coefficient.layer_decay is 1.5; it must be above 0 and at most 1; freeze with a rule of value 0",
        ),
        (
            Config(optimizer=OptimizerConfig(learning_rate=1.0), coefficient=CoefficientConfig(head_factor=0.0)),
            "coefficient.head_factor is 0.0; it must be above 0; freeze with a rule of value 0",
        ),
        (
            Config(optimizer=OptimizerConfig(learning_rate=1.0), anchor=AnchorConfig(ball=0.0)),
            "anchor.ball is 0.0; it must be above 0 (None: no ball); freeze with a rule of value 0",
        ),
        (
            Config(optimizer=OptimizerConfig(learning_rate=1.0), anchor=AnchorConfig(mixout=1.0)),
            "anchor.mixout is 1.0; it must be at least 0 and below 1",
        ),
        (
            Config(optimizer=OptimizerConfig(learning_rate=1.0), task=TaskConfig(label_smoothing=1.0)),
            "task.label_smoothing is 1.0; it must be at least 0 and below 1",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(config: Config, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        default_hyper(config)
