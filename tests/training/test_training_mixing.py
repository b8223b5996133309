"""A step that mixes pictures: the same numbers however its batch is computed, and views averaged when testing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_parts as small

from ftjax import distribution, trees
from ftjax.config import MeshConfig
from ftjax.data import HorizontalFlip, ImageFormat, Mixing, Normalize, Preprocessing
from ftjax.training.plan import predict
from ftjax.training.step import make_step

BOTH = Mixing(0.4, 1.0)


def trained(mesh, microbatches: int):
    parts, state, hyper, model = small.build(small.config(), depth=1, dtype=jnp.float64, microbatches=microbatches, augment=(HorizontalFlip(),), mixing=BOTH)
    shardings = distribution.state_shardings(mesh, state, state.params, model.partition_spec, minimum_size=8)
    everywhere = distribution.replicated(mesh)
    step = jax.jit(make_step(parts), in_shardings=(shardings, distribution.batch_sharding(mesh), everywhere), out_shardings=(shardings, everywhere))
    state, hyper = jax.device_put(state, shardings), jax.device_put(hyper, everywhere)
    weight = np.where(np.arange(32) % 7 == 3, 0, 1)
    for number in range(2):
        state, metrics = step(state, distribution.put_batch(small.batch(number, size=32, weight=weight), mesh), hyper)
    return jax.device_get(state.live), {name: float(value) for name, value in metrics.items()}


def test_microbatches_and_eight_devices_give_the_numbers_of_one():
    with jax.enable_x64(True):
        one, metrics = trained(distribution.make_mesh(MeshConfig(data=1), jax.devices()[:1]), 1)
        many, others = trained(distribution.make_mesh(MeshConfig(data=4, fsdp=2)), 2)
        for path, leaf in trees.flatten(one).items():
            np.testing.assert_allclose(trees.flatten(many)[path], leaf, atol=1e-10, err_msg=path)
        assert others == pytest.approx(metrics, abs=1e-10)


@pytest.mark.parametrize(("views", "count"), [("flip", 2), ("crops", 5), ("crops_flip", 10)])
def test_views_are_averaged_to_the_softmax_of_mean_log_probabilities(views, count):
    _, state, _, model = small.build(small.config(), depth=1)
    given = small.batch(size=4)
    params, normalize = state.params, Normalize((0.5,) * 3, (0.5,) * 3)
    once, many = (Preprocessing(ImageFormat((16, 16)), normalize, views=name) for name in ("one", views))
    found = predict(model, many, params, {}, given)
    assert found.shape == (4, 3)
    inputs = np.asarray(many.test_inputs(given)).reshape(4, count, 16, 16, 3)
    np.testing.assert_array_equal(inputs[:, 0], once.test_inputs(given))
    mirrored = {"image": given["image"][:, :, ::-1]}
    if views.endswith("flip"):
        np.testing.assert_allclose(inputs[:, count // 2], once.test_inputs(mirrored), atol=1e-6)
        np.testing.assert_allclose(found, predict(model, many, params, {}, mirrored), atol=1e-4)
    each = (
        np.asarray(jax.nn.log_softmax(model.apply(params, {}, jnp.asarray(inputs.reshape(-1, 16, 16, 3)), train=False)[0])).reshape(4, count, 3).swapaxes(0, 1)
    )
    np.testing.assert_allclose(jax.nn.log_softmax(found), jax.nn.log_softmax(jnp.asarray(each.mean(axis=0))), atol=1e-5)
    assert np.abs(each - each[0]).max() > 1e-3


def test_a_corner_is_seven_eighths_of_the_sides_enlarged():
    ramp = np.broadcast_to((np.arange(16) * 8).reshape(1, 1, 16, 1), (1, 16, 16, 3)).astype(np.uint8)
    inputs = np.asarray(Preprocessing(ImageFormat((16, 16)), Normalize((0.0,) * 3, (1 / 255,) * 3), views="crops").test_inputs({"image": ramp}))
    places = (np.arange(16) + 0.5) * 7 / 8 - 0.5
    for view, shift in ((1, 0), (2, 2), (3, 0), (4, 2)):
        np.testing.assert_allclose(inputs[view, 8, :, 0], np.clip(places + shift, 0, 15) * 8, atol=1e-3)
