"""Auto-RGN: factors by hand, measured anew at the right steps, moments kept, and nothing that is not finite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftjax import trees
from ftjax.coefficients import Row, partition
from ftjax.coefficients.auto_rgn import scale_by_rgn

PARAMS = {
    "encoder": {"block_0": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 1e-3)}, "norm1": {"scale": jnp.ones((4,))}},
    "stem": {"kernel": jnp.full((4, 1), 0.5)},
    "head": {"kernel": jnp.full((2, 1), 1.0)},
}
"""Norms 4, .0014, 2, 1 and (new) 1.4."""


HYPER = {"coefficient": (jnp.ones(()),), "layer_decay": jnp.ones(()), "head_factor": jnp.ones(())}


def rows_of(params: Any, new: tuple[str, ...] = ("head/kernel",)) -> dict[str, Row]:
    shapes = {path: leaf.shape for path, leaf in trees.flatten(params).items()}
    return {path: Row(path, shape, path.split("/")[0], 0, 1.0, 0, False, 0.0, 0.0, path in new, "") for path, shape in shapes.items()}


def gradients(scale: float = 1.0, **norms: float) -> dict:
    """Gradients of given norm for some leaves, 0 for the rest."""
    paths = {"block": "encoder/block_0/kernel", "bias": "encoder/block_0/bias", "norm": "encoder/norm1/scale", "stem": "stem/kernel", "head": "head/kernel"}
    wanted = {paths[name]: value for name, value in norms.items()}
    return trees.map_with_path(lambda path, leaf: jnp.full(leaf.shape, scale * wanted.get(path, 0.0) / leaf.size**0.5), PARAMS)


def run(link: optax.GradientTransformationExtraArgs, each: list[dict], params: dict = PARAMS) -> list[dict[str, float]]:
    """The factor of every leaf at every step."""
    traces = []

    @jax.jit
    def step(state: Any, gradient: dict, number: jax.Array) -> tuple[dict, Any]:
        traces.append(1)
        ones = jax.tree.map(jnp.ones_like, params)
        return link.update(ones, state, params, step=number, hyper=HYPER, gradients=gradient)

    state, found = link.init(params), []
    for number, gradient in enumerate(each):
        updates, state = step(state, gradient, jnp.array(number))
        found.append({path: float(leaf.ravel()[0]) for path, leaf in trees.flatten(updates).items()})
    assert len(traces) == 1
    return found


def test_the_factors_are_those_by_hand() -> None:
    factors = run(scale_by_rgn(rows_of(PARAMS), every=10), [gradients(block=8.0, stem=1.0, norm=1.0, bias=5.0, head=100.0)])[0]
    # RGN: block 8 / 4 = 2 (the largest that counts), stem 1 / 1, norm 1 / 2, bias huge, head new.
    expected = {"encoder/block_0/kernel": 1, "stem/kernel": 0.5, "encoder/norm1/scale": 0.25, "encoder/block_0/bias": 1, "head/kernel": 1}
    assert factors == pytest.approx(expected)


def test_only_the_first_batches_of_a_period_are_averaged() -> None:
    """Stem RGN 1 always; block RGN 1, 3, 9, 9 ...: its mean 1, 2, 2, 2; from step 4 on 0.5 and 0.25."""
    norms = [4, 12, 36, 36, 2, 0, 36, 36]
    found = run(scale_by_rgn(rows_of(PARAMS), every=4, batches=2), [gradients(block=norm, stem=1.0) for norm in norms])
    assert [factors["stem/kernel"] for factors in found] == pytest.approx([1, 0.5, 0.5, 0.5, 1, 1, 1, 1])
    assert [factors["encoder/block_0/kernel"] for factors in found] == pytest.approx([1, 1, 1, 1, 0.5, 0.25, 0.25, 0.25])


def test_a_period_shorter_than_its_measurement_is_measured_at_every_step() -> None:
    norms = [4, 12, 4, 2]
    found = run(scale_by_rgn(rows_of(PARAMS), every=1, batches=5), [gradients(block=norm, stem=1.0) for norm in norms])
    assert [factors["encoder/block_0/kernel"] for factors in found] == pytest.approx([1, 1, 1, 0.5])
    assert [factors["stem/kernel"] for factors in found] == pytest.approx([1, 1 / 3, 1, 1])


def test_a_scale_of_all_gradients_changes_nothing() -> None:
    each = [{"block": 3.0, "stem": 1.0, "norm": 0.4}, {"block": 1.0, "stem": 2.0, "norm": 0.1}]
    link = scale_by_rgn(rows_of(PARAMS), every=10)
    small, large = (run(link, [gradients(scale, **norms) for norms in each]) for scale in (1.0, 1000.0))
    for one, other in zip(small, large):
        assert one == pytest.approx(other)


def test_the_moments_of_the_direction_are_untouched() -> None:
    link = scale_by_rgn(rows_of(PARAMS), every=2, batches=1)
    both, alone = optax.chain(optax.scale_by_adam(), link), optax.scale_by_adam()
    state, expected = both.init(PARAMS), alone.init(PARAMS)
    step = jax.jit(lambda state, gradient, number: both.update(gradient, state, PARAMS, step=number, hyper=HYPER, gradients=gradient)[1])
    step_alone = jax.jit(lambda state, gradient: alone.update(gradient, state)[1])
    for number in range(6):
        gradient = gradients(block=float(number + 1), stem=1.0, head=2.0)
        state, expected = step(state, gradient, jnp.array(number)), step_alone(expected, gradient)
    assert trees.flatten(state[0]).keys() == trees.flatten(expected).keys()
    for path, leaf in trees.flatten(expected).items():
        np.testing.assert_array_equal(trees.flatten(state[0])[path], leaf, err_msg=path)


def test_a_parameter_at_zero_a_zero_gradient_and_a_new_head_alone_stay_finite() -> None:
    zero = trees.map_with_path(lambda path, leaf: jnp.zeros_like(leaf) if path != "stem/kernel" else leaf, PARAMS)
    factors = run(scale_by_rgn(rows_of(PARAMS, new=()), every=10), [gradients(block=1.0, bias=1.0, stem=0.5)], zero)[0]
    assert set(factors.values()) == {1.0}
    assert set(run(scale_by_rgn(rows_of(PARAMS), every=10), [gradients()])[0].values()) == {1.0}
    head = {"head": PARAMS["head"]}
    assert run(scale_by_rgn(rows_of(head), every=10), [{"head": {"kernel": jnp.ones((2, 1))}}], head) == [{"head/kernel": 1.0}]


def test_a_parameter_that_is_almost_zero_never_gives_a_number_that_is_not_finite() -> None:
    tiny = trees.map_with_path(lambda path, leaf: jnp.full_like(leaf, 1e-19) if path == "encoder/block_0/bias" else leaf, PARAMS)
    steep = [gradients(1.0, block=4.0, bias=1e19, stem=1.0)] * 3
    assert all(np.isfinite(list(factors.values())).all() for factors in run(scale_by_rgn(rows_of(PARAMS), every=1), steep, tiny))


def test_vectors_alone_set_their_own_scale() -> None:
    biases = {"a": {"bias": jnp.array([1.0])}, "b": {"bias": jnp.array([2.0])}}
    factors = run(scale_by_rgn(rows_of(biases), every=10), [jax.tree.map(jnp.ones_like, biases)], biases)[0]
    assert factors == pytest.approx({"a/bias": 1.0, "b/bias": 0.5})


def test_still_parameters_are_holes_and_one_that_joins_is_measured_from_its_own_first_step() -> None:
    link, gradient = scale_by_rgn(rows_of(PARAMS), every=100, batches=2), gradients(block=4.0, stem=0.5)
    live, _ = partition(PARAMS, ["stem/kernel"])
    held, _ = partition(gradient, ["stem/kernel"])
    state = link.init(live)
    assert trees.flatten(state).keys() == {"mean/stem/kernel", "count/stem/kernel", "period"}
    for number in range(5):
        _, state = link.update(held, state, live, step=jnp.array(number), hyper=HYPER, gradients=held)
    # The border of a phase: what trained keeps its state, the rest gets a fresh one.
    fresh, old = link.init(PARAMS), trees.flatten(state)
    state = trees.map_with_path(lambda path, leaf: old.get(path, leaf), fresh)
    updates, state = link.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS, step=jnp.array(5), hyper=HYPER, gradients=gradient)
    assert float(updates["encoder"]["block_0"]["kernel"][0, 0]) == 1.0
    assert float(updates["stem"]["kernel"][0, 0]) == pytest.approx(0.5)
    assert {path: int(leaf) for path, leaf in trees.flatten(state.count).items()}["stem/kernel"] == 2


def test_a_population_of_gradients_is_one_program() -> None:
    link = scale_by_rgn(rows_of(PARAMS), every=3, batches=2)
    scales = jnp.array([0.5, 1.0, 4.0])

    def final(scale: jax.Array) -> jax.Array:
        state = link.init(PARAMS)
        for number in range(4):
            gradient = jax.tree.map(lambda g: g * scale, gradients(block=4.0)) | {"stem": {"kernel": jnp.full((4, 1), 0.5)}}
            updates, state = link.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS, step=jnp.array(number), hyper=HYPER, gradients=gradient)
        return jnp.stack([updates["stem"]["kernel"][0, 0], updates["encoder"]["block_0"]["kernel"][0, 0]])

    np.testing.assert_allclose(jax.jit(jax.vmap(final))(scales), [[1, 0.5], [1, 1], [0.25, 1]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_type_of_the_update_is_kept(dtype: Any, law: Callable[..., Any]) -> None:
    params = law(dtype=dtype).params
    link = scale_by_rgn({row.path: row for row in law(dtype=dtype).table.rows}, every=2)
    updates, state = jax.eval_shape(lambda params: link.update(params, link.init(params), params, step=jnp.array(0), hyper=HYPER, gradients=params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.mean)} == {jnp.dtype(jnp.float32)}


def test_the_chain_obeys_the_measured_factors_and_a_new_head_keeps_its_rate(law: Callable[..., Any]) -> None:
    """One step of Adam moves every element by the learning rate times the factor; the largest factor of the body is 1."""
    the = law(auto="rgn", auto_every="1 epochs", weight_decay=0.0, clip_norm=None)
    before, after = trees.flatten(the.params), the.train(steps=1)
    moved = {path: float(np.abs(after[path] - leaf).max()) / 0.01 for path, leaf in before.items()}
    plain = law(weight_decay=0.0, clip_norm=None).train(steps=1)
    assert {round(float(np.abs(plain[path] - leaf).max()) / 0.01, 3) for path, leaf in before.items()} == {1.0}
    assert [moved[path] for path in ("head/kernel", "head/bias")] == pytest.approx([1, 1], rel=1e-3)
    body = {path: share for path, share in moved.items() if not path.startswith("head/")}
    assert max(body.values()) == pytest.approx(1, rel=1e-3)
    assert 0 < min(body.values()) < 0.9


def test_a_leaf_that_rests_sets_no_maximum() -> None:
    rows = rows_of(PARAMS)
    waiting = dataclasses.replace(rows["encoder/block_0/kernel"], value=((0, 0.0), (1, 0.0), (1, 1.0)))
    link = scale_by_rgn(rows | {"encoder/block_0/kernel": waiting}, every=10)
    before, since = run(link, [gradients(block=8.0, stem=1.0)] * 2)
    assert (before["stem/kernel"], since["stem/kernel"]) == pytest.approx((1.0, 0.5))
