"""Retractions: the published SPD, balls that keep their radius and the direction, every number traced, nothing that is not a number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import trees
from ftjax.coefficients import partition
from ftjax.coefficients.retractions import ball, retraction, select
from ftjax.config import AnchorConfig
from ftjax.durations import Clock

KEYS = jax.random.split(jax.random.key(1), 4)
ZERO, ONE = jnp.zeros((2, 3)), jnp.ones((2, 3))


def norm_of(x: jax.Array, norm: str) -> float:
    x = np.asarray(x, np.float64)
    return float(np.sqrt((x**2).sum()) if norm == "l2" else np.abs(x).reshape(-1, x.shape[-1]).sum(axis=0).max())


def test_without_ball_and_select_there_is_no_retraction() -> None:
    assert retraction(AnchorConfig(pull=1.0, mixout=0.5)) is None


def adam_spd(theta0: np.ndarray, gradient: object, steps: int, rate: float, strength: float) -> np.ndarray:
    """Algorithm 1 of Tian et al. 2024 on one tensor, in float64: Adam's step, then the selective projection."""
    theta, first, second = theta0.copy(), np.zeros_like(theta0), np.zeros_like(theta0)
    for step in range(steps):
        g = gradient(theta, step)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        ended = theta - rate * (first / (1 - 0.9 ** (step + 1))) / (np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8)
        if np.sum(g * (theta - theta0)) > 0:
            before, after = np.linalg.norm(theta - theta0), np.linalg.norm(ended - theta0)
            ended = ended - strength * np.clip((after - before) / after, 0, 1) * (ended - theta0)
        theta = ended
    return theta


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_adam_with_select_is_the_published_adamspd_over_60_steps(law, strength: float) -> None:
    the = law(
        rules=(("stem/.*", 1.0), (".*", 0)), anchor={"select": strength}, learning_rate=0.05, weight_decay=0.0, clip_norm=float("inf"), clock=Clock(8, 80, 60)
    )
    live, _ = partition(the.params, {"stem/patch/kernel"})
    link, shape = the.link(), (60, 2, 3)
    noise = np.random.default_rng(0).normal(size=shape)

    @jax.jit
    def step(theta: dict, state: object, index: jax.Array, noise: jax.Array) -> tuple:
        gradients = jax.tree.map(lambda leaf, start: leaf - start - 0.3 + noise, theta, live)
        updates, state = link.update(gradients, state, theta, step=index, hyper=the.hyper, anchor=live)
        return jax.tree.map(jnp.add, theta, updates), state

    theta, state = live, link.init(live)
    for index in range(60):
        theta, state = step(theta, state, jnp.array(index), jnp.asarray(noise[index], jnp.float32))
    start = np.asarray(live["stem"]["patch"]["kernel"], np.float64)

    def published(strength: float) -> np.ndarray:
        return adam_spd(start, lambda theta, index: theta - start - 0.3 + noise[index], 60, 0.05, strength)

    np.testing.assert_allclose(theta["stem"]["patch"]["kernel"], published(strength), rtol=0, atol=1e-5)
    assert np.abs(published(strength) - published(0.0)).max() > 1e-2


def test_select_acts_only_where_the_descent_points_home_and_the_step_goes_away() -> None:
    x, away, home = jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0]), jnp.array([0.5, 0.0])
    np.testing.assert_allclose(select(away, x, x, jnp.array(1.0)), [1.0, 0.0])
    np.testing.assert_allclose(select(away, x, x, jnp.array(0.5)), [1.5, 0.0])
    np.testing.assert_array_equal(select(away, x, -x, jnp.array(1.0)), away)
    np.testing.assert_array_equal(select(home, x, x, jnp.array(1.0)), home)


@pytest.mark.parametrize("norm", ["l2", "mars"])
@pytest.mark.parametrize("unit", ["relative", "absolute"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 3, 2, 5)])
def test_a_ball_ends_x_at_its_radius_and_keeps_what_is_inside(norm: str, unit: str, shape: tuple) -> None:
    start, x = (jax.random.normal(key, shape) for key in KEYS[:2])
    radius = 0.25 * norm_of(start, norm)
    given = jnp.array(0.25 if unit == "relative" else radius)
    ended = ball(x, start, given, norm, unit)
    assert norm_of(ended, norm) == pytest.approx(radius, rel=1e-6)
    inside = x * (0.9 * radius / norm_of(x, norm))
    np.testing.assert_array_equal(ball(inside, start, given, norm, unit), inside)


def test_an_l2_ball_keeps_the_direction_of_the_whole_tensor() -> None:
    x = jax.random.normal(KEYS[0], (3, 4))
    ended = ball(x, x, jnp.array(0.1), "l2", "relative")
    np.testing.assert_allclose(ended / x, 0.1, rtol=1e-6)


def test_a_mars_ball_shortens_each_output_by_its_own_factor_and_leaves_those_inside() -> None:
    x = jnp.array([[1.0, -4.0, 0.1], [-3.0, 4.0, 0.1]])
    np.testing.assert_allclose(ball(x, x, jnp.array(2.0), "mars", "absolute"), x * jnp.array([[0.5, 0.25, 1.0]]), rtol=1e-6)


def test_a_relative_ball_leaves_a_tensor_free_whose_theta0_is_all_zero() -> None:
    x = jax.random.normal(KEYS[0], (3, 4))
    for norm in ("l2", "mars"):
        np.testing.assert_array_equal(ball(x, jnp.zeros_like(x), jnp.array(0.1), norm, "relative"), x)
        assert norm_of(ball(x, jnp.zeros_like(x), jnp.array(0.1), norm, "absolute"), norm) == pytest.approx(0.1, rel=1e-6)


def test_an_infinite_radius_changes_nothing() -> None:
    x = jax.random.normal(KEYS[0], (3, 4))
    for unit in ("relative", "absolute"):
        for start in (x, jnp.zeros_like(x)):
            np.testing.assert_array_equal(ball(x, start, jnp.array(jnp.inf), "l2", unit), x)


@pytest.mark.parametrize("moved", [ZERO, ONE])
@pytest.mark.parametrize("other", [ZERO, ONE])
def test_values_and_derivatives_are_finite_where_x_or_theta0_is_0(moved: jax.Array, other: jax.Array) -> None:
    def total(moved: jax.Array, other: jax.Array, number: jax.Array) -> jax.Array:
        return jnp.sum(ball(moved, other, number, "l2") + ball(moved, other, number, "mars") + select(moved, other, ONE, number))

    value, derivatives = jax.value_and_grad(total, argnums=(0, 1, 2))(moved, other, jnp.array(0.5))
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.all(jnp.isfinite(leaf))), (value, derivatives)))


def test_no_displacement_stays_none() -> None:
    np.testing.assert_array_equal(select(ZERO, ONE, ONE, jnp.array(1.0)), ZERO)
    np.testing.assert_array_equal(ball(ZERO, ONE, jnp.array(0.0)), ZERO)


def test_what_is_not_finite_stays_so_for_the_guard_of_the_step() -> None:
    for bad in (jnp.nan, jnp.inf):
        x = jnp.array([[bad, 1.0]])
        for norm in ("l2", "mars"):
            assert not np.all(np.isfinite(ball(x, jnp.ones_like(x), jnp.array(0.5), norm, "absolute")))


def test_norms_of_bfloat16_leaves_are_taken_in_float32() -> None:
    """300 ones: bfloat16 counts no further than 256."""
    ones = jnp.ones((300, 1), jnp.bfloat16)
    for norm, length in (("l2", np.sqrt(300)), ("mars", 300.0)):
        ended = ball(ones, ones, jnp.array(length / 2, jnp.float32), norm, "absolute")
        assert ended.dtype == jnp.bfloat16
        np.testing.assert_array_equal(ended.astype(jnp.float32), 0.5)
    kept = select(ones * 2, ones, ones, jnp.array(1.0))
    assert kept.dtype == jnp.bfloat16
    np.testing.assert_array_equal(kept.astype(jnp.float32), 1.0)


def displacements(the: object, after: dict) -> dict:
    return {path: after[path] - leaf for path, leaf in trees.flatten(the.params).items()}


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_through_the_chain_every_anchored_parameter_stays_in_its_ball_and_the_new_head_is_free(law, norm: str) -> None:
    the = law(clip_norm=float("inf"), anchor={"ball": 0.02, "ball_norm": norm, "rules": (("stem/.*", 2.0), ("norm/.*", 0), (".*", 1.0))})
    free = law(clip_norm=float("inf")).train(anchored=True)
    start, moved = trees.flatten(the.params), displacements(the, the.train(anchored=True))
    for path, x in moved.items():
        if path.startswith(("norm", "head")):
            np.testing.assert_allclose(x, free[path] - start[path], atol=1e-6)
        else:
            radius = (0.01 if path.startswith("stem") else 0.02) * norm_of(start[path], norm)
            assert norm_of(x, norm) <= radius * (1 + 1e-6) + 4e-7 * norm_of(start[path], norm), path
            assert norm_of(free[path] - start[path], norm) > radius, path


def test_select_comes_before_ball() -> None:
    """From x = 1 the step ends at 4 while the descent points home: select gives 1, the ball of 2 lets it pass. The other way round it would be less."""
    row = type("Row", (), {"anchor": 1.0})()
    composed = retraction(AnchorConfig(select=1.0, ball=2.0, ball_unit="absolute"))
    hyper = {"select": jnp.array(0.5), "ball": jnp.array(2.0)}
    x = jnp.array([1.0])
    np.testing.assert_allclose(composed(row, 4 * x, x, x, jnp.array(0), hyper, x), [2.0])
    np.testing.assert_allclose(composed(row, 3 * x, x, x, jnp.array(0), hyper, x), [2.0])
    np.testing.assert_allclose(composed(row, 2.5 * x, x, x, jnp.array(0), hyper, x), [1.75])


def test_an_anchor_that_reaches_0_on_its_schedule_leaves_the_parameter_free() -> None:
    row = type("Row", (), {"anchor": ((0, 1.0), (2, 0.0))})()
    x, hyper = jnp.array([4.0]), {"select": jnp.array(1.0), "ball": jnp.array(1.0)}
    both = retraction(AnchorConfig(select=1.0, ball=1.0, ball_unit="absolute"))
    for step, ended in ((0, 1.0), (1, 2.0), (2, 4.0)):
        np.testing.assert_allclose(both(row, x, x * 0, x, jnp.array(step), hyper, x), [ended])


def test_a_coefficient_of_0_freezes_bit_for_bit_also_outside_a_smaller_ball(law) -> None:
    """Free for 10 steps, then at rest while the ball shrinks."""
    pulses = (("0%", 1.0), ("50%", 1.0), ("50%", 0.0), ("95%", 0.0), ("100%", 1.0))
    the = law(rules=(("head/.*", 1.0), (".*", pulses)), anchor={"ball": 1.0, "rules": ((".*", (("0%", 1.0), ("100%", 50.0))),)})
    half, later = the.train(steps=10, anchored=True), the.train(steps=19, anchored=True)
    for path in half:
        assert np.array_equal(half[path], later[path]) != path.startswith("head"), path


def test_a_population_over_radius_strength_and_pull_equals_the_loop_in_one_trace(law) -> None:
    the = law(anchor={"ball": 0.1, "select": 1.0, "pull": 1.0})
    traces = []

    def train(hyper: dict) -> dict:
        traces.append(1)
        return the.train(hyper=hyper, anchored=True)

    varied = {"ball": jnp.array([0.01, 0.1, jnp.inf]), "select": jnp.array([0.0, 0.5, 1.0]), "pull": jnp.array([5.0, 0.0, 1.0])}
    hyper = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, 3), the.hyper) | varied
    together = jax.jit(jax.vmap(train))(hyper)
    assert len(traces) == 1
    one = jax.jit(train)
    for index in range(3):
        alone = one(jax.tree.map(lambda leaf, index=index: leaf[index], hyper))
        for path, leaf in together.items():
            np.testing.assert_allclose(leaf[index], alone[path], rtol=0, atol=2e-6, err_msg=path)
    assert len(traces) == 2
    start = trees.flatten(the.params)["encoder/block_0/mlp/up/kernel"]
    lengths = [norm_of(together["encoder/block_0/mlp/up/kernel"][index] - start, "l2") for index in range(3)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]


def test_a_row_without_an_anchor_is_returned_untouched(law) -> None:
    the = law()
    row = dataclasses.replace(the.table.rows[0], anchor=0.0)
    x = jax.random.normal(KEYS[0], row.shape)
    assert retraction(AnchorConfig(ball=1.0, select=1.0))(row, x, x, x, jnp.array(0), {}, x) is x
