"""The step: exact accumulation, nothing non-finite applied, still leaves without gradient, moments or work, one program for all hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_parts as small
from jax.sharding import Mesh

from ftjax import distribution, trees
from ftjax.config import MeshConfig
from ftjax.data import HorizontalFlip, RandomResizedCrop
from ftjax.training.step import gradient_norms, make_step

PROBE = (("head/.*", 1.0), (".*", 0.0))


def run(parts, state, hyper, steps=3, **batch):
    step = jax.jit(make_step(parts))
    for t in range(steps):
        state, metrics = step(state, small.batch(t, **batch), hyper)
    return state, metrics


def assert_close(one, other, tolerance):
    for (path, a), b in zip(trees.flatten(one).items(), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance, err_msg=path)


def test_microbatches_equal_the_whole_batch_also_with_ragged_weights():
    weight = np.array([1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0.5, 1, 2, 1, 0, 0])
    with jax.enable_x64(True):
        results = []
        for microbatches in (1, 4):
            parts, state, hyper, _ = small.build(
                small.config(), microbatches=microbatches, dtype=jnp.float64, augment=(RandomResizedCrop(0.5), HorizontalFlip())
            )
            results.append(run(parts, state, hyper, weight=weight))
        assert_close(results[0][0].live, results[1][0].live, 1e-10)
        assert float(results[0][1]["loss"]) == pytest.approx(float(results[1][1]["loss"]), abs=1e-12)


def test_nan_guard():
    parts, state, hyper, _ = small.build(small.config())
    step = jax.jit(make_step(parts))
    state, metrics = step(state, small.batch(0), hyper)
    assert int(metrics["finite"]) == 1
    bad = small.batch(1) | {"weight": np.full(16, np.nan, np.float32)}
    worse, metrics = step(state, bad, hyper)
    worse, metrics = step(worse, bad, hyper)
    assert (int(metrics["finite"]), int(metrics["bad_steps"]), int(worse.step)) == (0, 2, 3)
    for path, leaf in trees.flatten((worse.live, worse.opt_state)).items():
        assert np.array_equal(leaf, trees.flatten((state.live, state.opt_state))[path]), path
    better, metrics = step(worse, small.batch(1), hyper)
    assert (int(metrics["finite"]), int(metrics["bad_steps"])) == (1, 0)
    assert not np.array_equal(better.live["head"]["kernel"], worse.live["head"]["kernel"])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_an_overflowing_update_is_not_applied(name: str):
    """Whether the hyperparameters alone could tell (adamw) or not (sgd)."""
    parts, state, hyper, _ = small.build(small.config(learning_rate=1e30, name=name))
    assert (parts.bounded is None) == (name == "sgd")
    step = jax.jit(make_step(parts))
    hyper = hyper | {"weight_decay": jnp.float32(1e30)}
    after, metrics = step(state._replace(step=jnp.int32(5)), small.batch(0), hyper)
    assert int(metrics["finite"]) == 0
    assert np.array_equal(after.live["head"]["kernel"], state.live["head"]["kernel"])


def test_frozen_leaves_stay_bit_equal_and_carry_no_moments():
    parts, state, hyper, _ = small.build(small.config(PROBE))
    before = jax.device_get(state.still)
    after, _ = run(parts, state, hyper, steps=5)
    assert_close(before, after.still, 0)
    assert {path.split("/")[0] for path in trees.flatten(after.live)} == {"head"}
    moments = [path for path in trees.flatten(after.opt_state) if path.endswith(("kernel", "bias", "scale"))]
    assert moments
    assert all("head" in path for path in moments)
    assert not np.array_equal(after.live["head"]["kernel"], state.live["head"]["kernel"])


def test_head_only_training_costs_at_most_0_4_of_full_and_partial_freezing_in_proportion_to_the_lowest_live_block():
    flops = {}
    for name, rules in (("full", None), ("upper half", (("group:stem|block_[0-2]", 0.0), (".*", 1.0))), ("head", PROBE)):
        parts, state, hyper, _ = small.build(small.config(rules), depth=6)
        flops[name] = jax.jit(make_step(parts)).lower(state, small.batch(), hyper).compile().cost_analysis()["flops"]
    assert flops["head"] <= 0.4 * flops["full"], flops
    # A live block costs a gradient of its weights and one of its input; the lowest needs only the first: (2 * 3 - 1) / (2 * 6).
    half = (flops["upper half"] - flops["head"]) / (flops["full"] - flops["head"])
    assert half == pytest.approx(5 / 12, abs=0.03), flops


def test_a_population_of_learning_rates_is_one_trace_and_equals_single_runs():
    # SGD: Adam makes noise of a gradient that is zero in exact arithmetic, such as that of the keys' bias.
    parts, state, hyper, _ = small.build(small.config(name="sgd"))
    rates = jnp.array([1e-3, 1e-2, 1e-1])
    axes = {name: 0 if name == "learning_rate" else None for name in hyper}
    traces = []
    step = make_step(parts)

    def counted(state, batch, hyper):
        traces.append(1)
        return step(state, batch, hyper)

    many = jax.jit(jax.vmap(counted, in_axes=(0, None, axes)))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), state)
    for t in range(3):
        stacked, _ = many(stacked, small.batch(t), hyper | {"learning_rate": rates})
    many(stacked, small.batch(3), hyper | {"learning_rate": rates * 2})
    assert len(traces) == 1
    for member, rate in enumerate(rates):
        single, _ = run(parts, state, hyper | {"learning_rate": rate})
        assert_close(single.live, jax.tree.map(lambda leaf, member=member: leaf[member], stacked.live), 2e-5)


def test_gradient_norms_name_every_live_group():
    parts, state, hyper, model = small.build(small.config())
    norms = gradient_norms(parts, model.group_of)(state, small.batch(), hyper)
    assert set(norms) == set(model.groups)
    assert all(float(norm) > 0 for norm in norms.values())


def sharded_run(mesh: Mesh, microbatches: int):
    parts, state, hyper, model = small.build(small.config(), depth=1, dtype=jnp.float64, microbatches=microbatches, augment=(RandomResizedCrop(0.5),))
    shardings = distribution.state_shardings(mesh, state, state.params, model.partition_spec, minimum_size=8)
    everywhere = distribution.replicated(mesh)
    step = jax.jit(make_step(parts), in_shardings=(shardings, distribution.batch_sharding(mesh), everywhere), out_shardings=(shardings, everywhere))
    state, hyper = jax.device_put(state, shardings), jax.device_put(hyper, everywhere)
    for t in range(5):
        state, metrics = step(state, distribution.put_batch(small.batch(t, size=32), mesh), hyper)
    return state, metrics


@pytest.fixture(scope="module")
def on_one_device():
    with jax.enable_x64(True):
        state, metrics = sharded_run(distribution.make_mesh(MeshConfig(data=1), jax.devices()[:1]), 1)
        return jax.device_get(state.live), float(metrics["loss"])


@pytest.mark.parametrize("axes", [(8, 1, 1), (2, 2, 2), (1, 4, 2), (1, 8, 1), (1, 2, 4)])
def test_mesh_equivalence_f64(axes, on_one_device):
    live, loss = on_one_device
    with jax.enable_x64(True):
        mesh = distribution.make_mesh(MeshConfig(data=axes[0], fsdp=axes[1], tensor=axes[2]))
        many, others = sharded_run(mesh, 2)
        assert_close(live, jax.device_get(many.live), 1e-10)
        assert loss == pytest.approx(float(others["loss"]), abs=1e-10)
        spread = [leaf for leaf in jax.tree.leaves(many.live) if not leaf.sharding.is_fully_replicated]
        assert spread or axes == (8, 1, 1)
