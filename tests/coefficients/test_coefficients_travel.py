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


def test_the_cosine_tells_whether_the_last_step_went_on_turned_or_went_home() -> None:
    home, here = {"stem": jnp.zeros(2)}, {"stem": jnp.array([1.0, 0.0])}
    for there, cosine in (([3.0, 0.0], 1.0), ([1.0, 1.0], 0.0), ([2.0, 1.0], np.sqrt(0.5)), ([0.5, 0.0], -1.0), ([-1.0, 0.0], -1.0)):
        measured = travel({"stem": jnp.array(there)}, home, here, first_part)["stem"]
        assert float(measured["cosine"]) == pytest.approx(cosine, abs=1e-6)


def test_the_cosine_is_0_at_the_first_step_and_where_nothing_moves() -> None:
    assert all(float(group["cosine"]) == 0 for group in travel(NOW, START, START, first_part).values())
    assert all(float(group["cosine"]) == 0 for group in travel(NOW, START, NOW, first_part).values())


def test_the_cosine_is_that_of_the_whole_group_as_one_vector() -> None:
    rng = np.random.default_rng(0)
    now, start, before = ({"stem": {name: jnp.asarray(rng.normal(size=size), jnp.float32) for name, size in (("a", (3, 4)), ("b", 5))}} for _ in range(3))
    theta, theta0, previous = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (now, start, before))
    u, x = theta - previous, previous - theta0
    measured = travel(now, start, before, first_part)["stem"]
    assert float(measured["cosine"]) == pytest.approx(u @ x / np.linalg.norm(u) / np.linalg.norm(x), abs=1e-6)


@pytest.mark.parametrize("holes", [{"stem": {"kernel": None, "bias": BEFORE["stem"]["bias"]}}, {"stem": {"bias": BEFORE["stem"]["bias"]}}])
def test_what_did_not_train_a_step_ago_has_update_0_and_keeps_its_travel(holes: dict) -> None:
    now = {"stem": NOW["stem"]}
    measured = travel(now, START, holes, first_part)["stem"]
    assert float(measured["travel"]) == pytest.approx(5 / 5)
    assert float(measured["update"]) == pytest.approx(4 / np.sqrt(82))
    nobody = travel(now, START, {"stem": {"kernel": None, "bias": None}}, first_part)["stem"]
    assert (float(nobody["travel"]), float(nobody["update"]), float(nobody["cosine"])) == (1.0, 0.0, 0.0)


def test_it_compiles_and_measures_bfloat16_in_float32() -> None:
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (NOW, START, BEFORE))
    measured = jax.jit(lambda *trees: travel(*trees, first_part))(*half)
    assert measured["stem"]["travel"].dtype == jnp.float32
    assert float(measured["stem"]["travel"]) == pytest.approx(1.0)
