"""The law inside the step: SAM, mixout and averages, each against its definition, under micro-batches, the guard and populations."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from training_parts import batch, config
from training_parts import build as build_parts

from ftjax import trees
from ftjax.coefficients import combine
from ftjax.config import AnchorConfig
from ftjax.training.step import StepParts, make_step

build = functools.partial(build_parts, depth=1)
SGD: dict[str, Any] = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None, "schedule": "constant", "warmup": "0 steps"}


@functools.cache
def compiled(parts: StepParts) -> Any:
    return jax.jit(make_step(parts))


def after(parts: StepParts, state: Any, hyper: Any, steps: int = 1, start: int = 0) -> Any:
    step = compiled(parts)
    for index in range(start, start + steps):
        state, _ = step(state, batch(index), hyper)
    return state


def assert_close(ours: Any, theirs: Any, atol: float) -> None:
    for path, leaf in trees.flatten(ours).items():
        np.testing.assert_allclose(leaf, trees.flatten(theirs)[path], rtol=0, atol=atol, err_msg=path)


def test_sam_takes_the_gradient_uphill_over_the_live_leaves() -> None:
    rules = (("group:stem", 0.0), (".*", 1.0))
    parts, state, hyper, model = build(config(rules, sam=0.3, **SGD))
    data = batch(0)

    def loss(live: Any) -> Any:
        logits, _ = model.apply(combine(live, state.still), {}, parts.preprocessing.evaluate(data["image"]))
        return parts.task.loss(logits, data, hyper)[0] / 16

    gradient = jax.grad(loss)(state.live)
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient)))
    uphill = jax.tree.map(lambda theta, g: theta + 0.3 * g / norm, state.live, gradient)
    expected = jax.tree.map(lambda theta, g: theta - 1e-2 * g, state.live, jax.grad(loss)(uphill))
    assert_close(after(parts, state, hyper).live, expected, atol=2e-7)
    plain = jax.tree.map(lambda theta, g: theta - 1e-2 * g, state.live, gradient)
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(expected))) > 1e-5


def test_sam_of_distance_0_is_off() -> None:
    with_sam, state, hyper, _ = build(config(sam=0.0, **SGD))
    without, other, plain, _ = build(config(**SGD))
    assert_close(after(with_sam, state, hyper, 3).live, after(without, other, plain, 3).live, atol=1e-6)


def test_a_resting_leaf_is_not_carried_uphill_and_counts_in_no_norm() -> None:
    """c = 0 by arithmetic is c = 0 by structure, for SAM's radius and for clipping."""
    static, traced = (("group:head", 1.0), (".*", 0.0)), (("group:head", 1.0), (".*", 1.0))
    settings = SGD | {"clip_norm": 0.01}
    still, state, hyper, _ = build(config(static, sam=0.3, **settings))
    resting, other, theirs, _ = build(config(traced, sam=0.3, **settings))
    theirs = theirs | {"coefficient": (theirs["coefficient"][0], jnp.zeros(()))}
    assert_close(after(still, state, hyper, 3).params, after(resting, other, theirs, 3).params, atol=1e-6)


def test_micro_batches_equal_the_batch_under_sam_and_mixout() -> None:
    settings = config(sam=0.1, anchor=AnchorConfig(mixout=0.5), **SGD)
    whole, state, hyper, _ = build(settings)
    parts, other, _, _ = build(settings, microbatches=4)
    assert_close(after(parts, other, hyper, 3).live, after(whole, state, hyper, 3).live, atol=2e-6)


def test_mixout_trains_the_mixed_network_and_leaves_the_weights_themselves_alone() -> None:
    mixed, state, hyper, _ = build(config(anchor=AnchorConfig(mixout=0.5), **SGD))
    plain, other, _, _ = build(config(**SGD))
    # At theta0 the network is the plain one, and the gradient of what is mixed is m / (1 - p) times its gradient: nothing, or twice as much.
    start, first, whole = (trees.flatten(tree) for tree in (state.live, after(mixed, state, hyper).live, after(plain, other, hyper).live))
    kernel = "encoder/block_0/mlp/up/kernel"
    moved, usual = first[kernel] - start[kernel], whole[kernel] - start[kernel]
    dropped = moved == 0
    assert 0.4 < float(jnp.mean(dropped)) < 0.6
    np.testing.assert_allclose(moved, jnp.where(dropped, 0, 2 * usual), atol=2e-8)
    np.testing.assert_allclose(first["norm/scale"], whole["norm/scale"], atol=1e-7)
    ours, theirs = after(mixed, state, hyper, 6).live, after(plain, other, hyper, 6).live
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs))) > 1e-5
    off = after(mixed, state, hyper | {"mixout": jnp.zeros(())}, 6).live
    assert_close(off, theirs, atol=1e-6)


def test_averages_are_those_of_the_weights_after_each_step() -> None:
    parts, state, hyper, _ = build(config(), averages=("ema", "swa"))
    ema, late = jax.tree.map(np.asarray, state.live), []
    for index in range(5):
        state = after(parts, state, hyper, 1, index)
        decay = min(0.999, (1 + index) / (10 + index))
        ema = jax.tree.map(lambda e, theta, d=decay: d * e + (1 - d) * np.asarray(theta), ema, state.live)
        late += [state.live] if index >= 2 else []
    assert_close(state.extra["averages"]["ema"], ema, atol=1e-6)
    assert_close(state.extra["averages"]["swa"], jax.tree.map(lambda *members: np.mean(members, axis=0), *late), atol=1e-6)


def test_a_step_that_is_not_applied_enters_no_average() -> None:
    parts, state, hyper, _ = build(config(sam=0.1), averages=("ema", "swa"))
    state = after(parts, state, hyper, 4)
    skipped = after(parts, state, hyper | {"sam": jnp.array(jnp.nan)}, 1, 4)
    assert int(skipped.extra["bad_steps"]) == 1
    assert_close(skipped.extra["averages"], state.extra["averages"], atol=0)
    assert_close(skipped.live, state.live, atol=0)


def test_a_population_over_sam_mixout_and_averages_is_one_trace_and_equals_its_members() -> None:
    parts, state, hyper, _ = build(config(sam=0.1, anchor=AnchorConfig(mixout=0.3), **SGD), averages=("ema",))
    traces = []

    def counted(state: Any, data: Any, hyper: Any) -> Any:
        traces.append(1)
        return make_step(parts)(state, data, hyper)

    values = {"sam": [0.0, 0.2], "mixout": [0.0, 0.6], "ema_decay": [0.1, 0.9], "learning_rate": [1e-2, 1e-3]}
    several = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), hyper) | {name: jnp.array(value) for name, value in values.items()}
    population = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
    step = jax.jit(jax.vmap(counted, in_axes=(0, None, 0)))
    for index in range(3):
        population, _ = step(population, batch(index), several)
    assert len(traces) == 1
    for member in range(2):
        alone = after(parts, state, jax.tree.map(lambda leaf, m=member: leaf[m], several), 3)
        assert_close(jax.tree.map(lambda leaf, m=member: leaf[m], population.live), alone.live, atol=5e-6)
        assert_close(jax.tree.map(lambda leaf, m=member: leaf[m], population.extra["averages"]), alone.extra["averages"], atol=5e-6)
