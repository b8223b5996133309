"""Schedules: functions of a traced step with the published shapes, refused where they could never act."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax import trees
from ftjax.coefficients.rules import is_zero
from ftjax.coefficients.schedules import evaluate, learning_rate_shape, on_clock
from ftjax.config import OptimizerConfig
from ftjax.durations import Clock
from ftjax.errors import ConfigError

CLOCK = Clock(batch_size=10, examples_per_epoch=100, total_steps=100)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 2)), min_size=1, max_size=5, unique_by=lambda point: point[0]).map(sorted))
def test_points_are_interpolated_as_numpy_does(points: list[tuple[int, float]]) -> None:
    steps = np.arange(60)
    expected = np.interp(steps, [step for step, _ in points], [value for _, value in points])
    np.testing.assert_allclose(evaluate(tuple(points), jnp.asarray(steps)), expected, atol=1e-6)


def test_a_jump_is_exact_on_both_sides() -> None:
    schedule = on_clock((("0%", 0.0), ("20%", 0.0), ("20%", 1.0)), CLOCK, "c")
    assert evaluate(schedule, jnp.array([0, 19, 20, 99])).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_one_compilation_serves_every_step() -> None:
    traces = []
    run = jax.jit(lambda step: traces.append(1) or evaluate(((0, 0.0), (4, 1.0)), step))
    assert [float(run(step)) for step in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert len(traces) == 1


@pytest.mark.parametrize("value", [(("0%", 0.0), ("100%", 0.0), ("100%", 1.0)), (("200 steps", 0.0), ("300 steps", 1.0))])
def test_a_schedule_that_starts_after_the_run_is_refused(value: tuple) -> None:
    with pytest.raises(ConfigError, match=r"^c: the schedule .* is never above 0 in the 100 steps of this run; write the number 0 to freeze$"):
        on_clock(value, CLOCK, "c")


def test_a_schedule_above_zero_only_between_its_points_is_kept() -> None:
    schedule = on_clock((("0 steps", 0.0), ("10 steps", 1.0), ("10 steps", 0.0)), CLOCK, "c")
    assert float(evaluate(schedule, jnp.array(9))) == pytest.approx(0.9)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "slanted"])
def test_the_learning_rate_never_wastes_a_step(name: str) -> None:
    shape = learning_rate_shape(OptimizerConfig(schedule=name, warmup="10%"), CLOCK)
    factors = np.array([shape(jnp.array(step)) for step in range(100)])
    assert factors.min() > 0
    assert factors.argmax() == 10
    assert factors[10] == 1
    assert np.all(np.diff(factors[:11]) > 0)
    assert np.all(np.diff(factors[10:]) <= 0)
    assert float(shape(jnp.array(100))) == pytest.approx({"constant": 1.0, "slanted": 1 / 32}.get(name, 0.0), abs=1e-7)


def test_the_decays_are_those_of_optax() -> None:
    steps = jnp.arange(100)
    cosine = jax.vmap(learning_rate_shape(OptimizerConfig(schedule="cosine", warmup="0 steps"), CLOCK))(steps)
    np.testing.assert_allclose(cosine, jax.vmap(optax.cosine_decay_schedule(1.0, 100))(steps), atol=1e-6)
    linear = jax.vmap(learning_rate_shape(OptimizerConfig(schedule="linear", warmup="20 steps"), CLOCK))(steps)
    np.testing.assert_allclose(linear[20:], jax.vmap(optax.linear_schedule(1.0, 0.0, 80))(steps[:80]), atol=1e-6)


def test_a_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer.warmup: '11 epochs' is 110 steps of a run of 100; it cannot be longer than the run$"):
        learning_rate_shape(OptimizerConfig(warmup="11 epochs"), CLOCK)


@pytest.mark.parametrize("total", [1, 2, 7])
def test_the_peak_is_reached_in_the_shortest_run_and_by_the_longest_warmup(total: int) -> None:
    clock = Clock(batch_size=10, examples_per_epoch=100, total_steps=total)
    for warmup in ("10%", "100%"):
        shape = learning_rate_shape(OptimizerConfig(warmup=warmup), clock)
        assert max(float(shape(step)) for step in range(total)) == 1


def test_the_slanted_triangle_is_ulmfits_formula() -> None:
    total, fraction, ratio = 100, 0.1, 32
    cut = int(total * fraction)
    steps = np.arange(total)
    p = np.where(steps < cut, steps / cut, 1 - (steps - cut) / (cut * (1 / fraction - 1)))
    shape = learning_rate_shape(OptimizerConfig(schedule="slanted", warmup="10%"), CLOCK)
    np.testing.assert_allclose(jax.vmap(shape)(jnp.asarray(steps)), (1 + p * (ratio - 1)) / ratio, rtol=1e-6)
    assert float(shape(jnp.array(cut))) == 1
    assert float(shape(jnp.array(0))) == float(shape(jnp.array(total))) == 1 / 32


@pytest.mark.parametrize("schedule", [optax.cosine_decay_schedule(1.0, 100), optax.linear_onecycle_schedule(100, 1.0), optax.constant_schedule(0.5)])
def test_any_optax_schedule_is_a_value(schedule: optax.Schedule) -> None:
    value = on_clock(schedule, CLOCK, "c")
    assert value is schedule
    steps = jnp.array([[0, 1], [50, 99]])
    np.testing.assert_allclose(evaluate(value, steps), [[float(schedule(int(step))) for step in row] for row in steps], atol=1e-6)
    assert jax.jit(lambda step: evaluate(value, step))(jnp.array(50)).shape == ()


def test_a_function_that_never_acts_or_goes_below_0_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^c: the schedule <.*> is never above 0 in the 100 steps of this run; write the number 0 to freeze$"):
        on_clock(lambda step: 0.0 * step, CLOCK, "c")
    with pytest.raises(ConfigError, match=r"^c: the schedule <.*> has value -0.5; it must be finite and 0 or more \(0 freezes\)$"):
        on_clock(lambda step: jnp.where(step == 7, -0.5, 1.0), CLOCK, "c")


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_an_array_is_its_own_value_and_all_zero_freezes_by_structure(make: Callable[[list], Any]) -> None:
    mask = make([[1.0], [0.0]])
    assert on_clock(mask, CLOCK, "c") is mask
    assert evaluate(mask, jnp.array(3)) is mask
    assert not is_zero(mask)
    assert is_zero(make([[0.0], [0.0]]))
    with pytest.raises(ConfigError, match=r"^c: the array has value -1; it must be finite and 0 or more \(0 freezes\)$"):
        on_clock(make([1.0, -1.0]), CLOCK, "c")


def test_a_traced_array_is_not_a_static_zero() -> None:
    assert jax.jit(lambda array: jnp.asarray(is_zero(array) or is_zero(on_clock(array, CLOCK, "c"))))(jnp.zeros(3)).item() is False


def test_a_mask_of_elements_moves_only_what_it_lets_through(law: Callable[..., Any]) -> None:
    the = law(rules=(("head/kernel", 1.0), (".*", 0)), clip_norm=None, anchor={})
    mask = np.array([[1.0], [0.0], [2.0]])
    masked = dataclasses.replace(the.table, rows=tuple(dataclasses.replace(row, value=mask) if row.path == "head/kernel" else row for row in the.table.rows))
    before, after, plain = (trees.flatten(the.params)["head/kernel"], the.train(link=the.link(masked))["head/kernel"], the.train()["head/kernel"])
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_allclose(after[0], plain[0], rtol=1e-6)
    assert not np.allclose(after[2], plain[2])
    assert "6 live" in masked.lines()[-1]
    row = next(row for row in masked.to_json()["rows"] if row["path"] == "head/kernel")
    assert row["coefficient"] == {"0%": 1.0, "50%": 1.0, "100%": 1.0}


def test_a_function_of_the_step_in_a_row_is_obeyed_and_traced_once(law: Callable[..., Any]) -> None:
    the = law(rules=(("head/.*", 1.0), (".*", 0)), anchor={})

    def late(step: jax.Array) -> jax.Array:
        return jnp.where(step < 10, 0.0, 1.0)

    table = dataclasses.replace(the.table, rows=tuple(dataclasses.replace(row, value=late) if row.head else row for row in the.table.rows))
    before = trees.flatten(the.params)["head/kernel"]
    np.testing.assert_array_equal(the.train(steps=10, link=the.link(table))["head/kernel"], before)
    assert np.all(np.asarray(the.train(steps=11, link=the.link(table))["head/kernel"]) != before)
