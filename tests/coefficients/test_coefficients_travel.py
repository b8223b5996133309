"""Travel: the norms of the definition, finite for new heads, cheap and jittable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.coefficients import travel


def first_part(path: str) -> str:
    return path.split("/")[0]


START = {"stem": {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])}, "still": {"kernel": None}, "head": {"kernel": jnp.zeros((2, 2))}}
BEFORE = {"stem": {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])}, "still": {"kernel": None}, "head": {"kernel": jnp.ones((2, 2))}}
NOW = {"stem": {"kernel": jnp.array([3.0, 3.0]), "bias": jnp.array([8.0])}, "still": {"kernel": None}, "head": {"kernel": jnp.full((2, 2), 2.0)}}


def test_travel_and_update_are_relative_norms_over_all_live_leaves_of_a_group() -> None:
    measured = travel(NOW, START, BEFORE, first_part)
    assert set(measured) == {"stem", "head"}
    assert float(measured["stem"]["travel"]) == pytest.approx(5 / 5)
    assert float(measured["stem"]["update"]) == pytest.approx(5 / np.sqrt(82))


def test_a_head_that_starts_at_zero_reports_its_distance() -> None:
    measured = travel(NOW, START, BEFORE, first_part)["head"]
    assert float(measured["travel"]) == pytest.approx(4.0)
    assert float(measured["update"]) == pytest.approx(2.0 / 4.0)


def test_what_has_not_moved_has_travelled_exactly_0() -> None:
    assert all(float(value) == 0 for pair in travel(START, START, START, first_part).values() for value in pair.values())


def test_it_compiles_and_measures_bfloat16_in_float32() -> None:
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (NOW, START, BEFORE))
    measured = jax.jit(lambda *trees: travel(*trees, first_part))(*half)
    assert measured["stem"]["travel"].dtype == jnp.float32
    assert float(measured["stem"]["travel"]) == pytest.approx(1.0)
