"""What an update can be at most: the bound holds for the gradients that are worst for Adam, and nothing is promised where a number is out of bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftjax import trees
from ftjax.coefficients import bounded
from ftjax.coefficients.bounds import _largest
from ftjax.coefficients.links import moving, moving_norm


def decided(law, hyper: dict | None = None, **fields: object) -> bool | None:
    the = law(**fields)
    decide = bounded(the.table, the.config, the.clock)
    return None if decide is None else bool(jax.jit(decide)(jnp.array(3), the.hyper | (hyper or {})))


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.0, 0.99), (0.9, 0.95), (0.5, 0.5)])
def test_no_gradients_drive_adam_beyond_the_bound(beta1: float, beta2: float) -> None:
    """Gradients that grow by b2/b1 a step attain the inequality of Cauchy and Schwarz; noise and a first spike are elsewhere."""
    hyper = {"beta1": jnp.array(beta1), "beta2": jnp.array(beta2), "epsilon": jnp.array(1e-8)}
    largest = float(_largest("adamw", hyper))
    steps = np.arange(60)
    noise = np.random.default_rng(0).normal(size=60)
    worst = (beta2 / beta1) ** steps if beta1 else np.ones(60)
    adam, found = optax.scale_by_adam(beta1, beta2, 1e-8), 0.0
    for gradients in (worst, worst[::-1], noise, np.where(steps == 0, 1e10, 1e-3), np.full(60, 1e-25)):
        state = adam.init(jnp.array(0.0))
        for gradient in gradients:
            update, state = adam.update(jnp.array(gradient, jnp.float32), state)
            found = max(found, abs(float(update)))
    assert 1.0 <= round(found, 3) <= largest


def test_updates_stay_below_what_is_promised(law) -> None:
    the = law(rules=((".*", 3.0),), learning_rate=0.5, anchor={"pull": 0.1, "rules": ((".*", 1.0),)})
    assert decided(law, rules=((".*", 3.0),), learning_rate=0.5, anchor={"pull": 0.1, "rules": ((".*", 1.0),)})
    link, live = the.link(), the.params
    gradients = jax.tree.map(lambda theta: jnp.full_like(theta, 1e18), live)
    updates, _ = link.update(gradients, link.init(live), live, step=jnp.array(3), hyper=the.hyper, anchor=live)
    limit = 0.5 * 3.0 * (float(_largest("adamw", the.hyper)) + 0.1 * max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(live)))
    assert all(float(jnp.abs(leaf).max()) <= limit for leaf in trees.flatten(updates).values())


@pytest.mark.parametrize(
    "hyper",
    [
        {"learning_rate": 1e30},
        {"learning_rate": -1e30},
        {"learning_rate": np.nan},
        {"learning_rate": np.inf},
        {"weight_decay": 1e30},
        {"weight_decay": -1e30},
        {"weight_decay": np.nan},
        {"pull": 1e30},
        {"pull": -1e30},
        {"pull": np.nan},
        {"clip_norm": np.nan},
        {"beta1": 1.0},
        {"beta2": 1.0},
        {"beta2": np.nan},
        {"epsilon": 0.0},
        {"head_factor": 1e30},
        {"head_factor": -1e30},
    ],
)
def test_one_number_out_of_bounds_and_nothing_is_promised(law, hyper: dict) -> None:
    assert decided(law) is True
    assert decided(law, {name: jnp.array(value, jnp.float32) for name, value in hyper.items()}) is False


def test_where_no_bound_is_known_there_is_no_decision(law) -> None:
    assert decided(law, name="lion") is True
    for fields in ({"name": "sgd"}, {"name": "muon"}, {"name": "adafactor"}, {"schedule_free": True}, {"auto": "rgn"}, {"anchor": {"ball": 1.0}}):
        assert decided(law, **fields) is None, fields


def test_the_norm_of_what_moves_is_that_of_the_tree_with_zeros(law) -> None:
    """A leaf that rests by a schedule and one that moves in part; infinity in the resting one does not enter."""
    late = (("0 steps", 0.0), ("10 steps", 0.0), ("10 steps", 1.0))
    the = law(rules=(("group:stem", late), (".*", 1.0)))
    mask = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    rows = {row.path: row for row in the.table_with({"head/kernel": mask}).rows}
    tree = the.params | {"stem": jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.inf), the.params["stem"])}
    found = moving_norm(tree, rows, jnp.array(3), the.hyper)
    assert np.isfinite(found)
    np.testing.assert_allclose(found, optax.tree.norm(moving(tree, rows, jnp.array(3), the.hyper)), rtol=1e-6)
    assert float(found) < float(optax.tree.norm(tree | {"stem": {}}))
