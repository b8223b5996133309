"""Mixout: the expectation is theta, rate 0 changes no bit, only what is anchored is mixed, and the gradient is the derivative."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import trees
from ftjax.coefficients.mixout import mixout

KEY = jax.random.key(7)
START = {"stem": {"kernel": jnp.full((40, 50), 2.0), "bias": jnp.zeros(5)}, "still": {"kernel": None}, "head": {"kernel": jnp.ones((3, 2))}}
LIVE = {"stem": {"kernel": jnp.full((40, 50), 3.0), "bias": jnp.ones(5)}, "still": {"kernel": None}, "head": {"kernel": jnp.full((3, 2), 4.0)}}


@dataclasses.dataclass(frozen=True)
class Anchored:
    anchor: object


ROWS = {"stem/kernel": Anchored(1.0), "stem/bias": Anchored(0.0), "head/kernel": Anchored(1.0)}


def mixed(rate: float, live: dict = LIVE, anchor: dict = START, key: jax.Array = KEY) -> dict:
    return mixout(live, anchor, ROWS, key, jnp.array(rate))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_goes_home_is_the_rate_and_the_expectation_is_theta(rate: float) -> None:
    kernel = np.asarray(mixed(rate)["stem"]["kernel"])
    home = kernel == 2.0
    assert home.mean() == pytest.approx(rate, abs=0.03)
    np.testing.assert_allclose(kernel[~home], 2.0 + 1.0 / (1 - rate), rtol=1e-6)
    many = jax.vmap(lambda key: mixed(rate, key=key)["stem"]["kernel"].mean())(jax.random.split(KEY, 100))
    # 200,000 draws of variance p / (1 - p): 4 standard errors.
    assert float(many.mean()) == pytest.approx(3.0, abs=4 * np.sqrt(rate / (1 - rate) / 200_000))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rate_0_is_exactly_theta(dtype: object) -> None:
    live = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, dtype) * 1e3, LIVE)
    start = jax.tree.map(lambda leaf: leaf.astype(dtype), START)
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)) and a.dtype == b.dtype, mixed(0.0, live, start), live)
    assert jax.tree.all(same)


def test_what_is_not_anchored_passes_untouched() -> None:
    anchor = START | {"head": {"kernel": None}}
    result = mixed(0.9, anchor=anchor)
    assert result["stem"]["bias"] is LIVE["stem"]["bias"]
    assert result["head"]["kernel"] is LIVE["head"]["kernel"]
    assert result["still"]["kernel"] is None
    assert np.any(result["stem"]["kernel"] != LIVE["stem"]["kernel"])


def test_a_leafs_draw_depends_on_key_and_path_not_on_who_else_is_live() -> None:
    alone = {"stem": {"kernel": LIVE["stem"]["kernel"], "bias": None}, "still": {"kernel": None}, "head": {"kernel": None}}
    np.testing.assert_array_equal(mixed(0.5, alone)["stem"]["kernel"], mixed(0.5)["stem"]["kernel"])
    other = mixed(0.5, key=jax.random.key(8))
    assert np.any(other["stem"]["kernel"] != mixed(0.5)["stem"]["kernel"])
    square = {"stem": {"kernel": jnp.ones((8, 8))}, "head": {"kernel": jnp.ones((8, 8))}}
    both = mixed(0.5, square, jax.tree.map(jnp.zeros_like, square))
    assert np.any(both["stem"]["kernel"] != both["head"]["kernel"])


def test_the_gradient_is_the_mask_over_1_minus_p() -> None:
    gradient = jax.grad(lambda live: sum(map(jnp.sum, jax.tree.leaves(mixed(0.75, live)))))(LIVE)
    home = np.asarray(mixed(0.75)["stem"]["kernel"] == 2.0)
    np.testing.assert_allclose(gradient["stem"]["kernel"], np.where(home, 0.0, 4.0))
    np.testing.assert_array_equal(gradient["stem"]["bias"], 1.0)


def test_a_population_of_rates_is_one_trace() -> None:
    traces = []

    def run(rate: jax.Array) -> dict:
        traces.append(1)
        return trees.flatten(mixout(LIVE, START, ROWS, KEY, rate))

    together = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.5, 0.9]))
    assert len(traces) == 1
    for index, rate in enumerate((0.0, 0.5, 0.9)):
        np.testing.assert_allclose(together["stem/kernel"][index], run(jnp.array(rate))["stem/kernel"], rtol=1e-6)


def test_the_strength_of_an_anchor_weakens_the_rate_and_its_schedule_ends_it() -> None:
    rows = ROWS | {"stem/kernel": Anchored(((0, 0.5), (10, 0.0)))}
    shares = [float(jnp.mean(mixout(LIVE, START, rows, KEY, jnp.array(0.8), step)["stem"]["kernel"] == 2.0)) for step in (0, 5, 10)]
    assert shares == pytest.approx([0.4, 0.2, 0.0], abs=0.05)
