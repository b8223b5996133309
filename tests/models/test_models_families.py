"""Behaviour of the families in training: batch statistics, dropout, remat, precision, types, and populations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import models, trees
from ftjax.errors import ConfigError
from ftjax.models.modules import Drop

SMALL = {
    "vit": models.ModelSpec("vit", {"patch": 4, "width": 32, "depth": 2, "heads": 4}, 5, (8, 12)),
    "resnet": models.ModelSpec("resnet", {"stem": "cifar", "widths": [8, 16], "depths": [1, 1]}, 5, (8, 12)),
    "preact": models.ModelSpec("resnet", {"stem": "cifar", "block": "preact", "widths": [8, 16], "depths": [1, 1], "final_norm": True}, 5, (8, 12)),
    "bottleneck": models.ModelSpec("resnet", {"block": "bottleneck", "widths": [4, 8], "depths": [1, 1]}, 5, (16, 20)),
    "deit": models.ModelSpec("vit", {"patch": 4, "width": 32, "depth": 2, "heads": 4, "distillation": True}, 5, (8, 12)),
    "dinov2": models.ModelSpec("vit", {"patch": 4, "width": 32, "depth": 2, "heads": 4, "layer_scale": True, "pool": "token_mean"}, 5, (8, 12)),
    "convnext": models.ModelSpec("convnext", {"widths": [8, 16], "depths": [1, 1], "layer_scale": 0.5}, 5, (16, 24)),
    "subsample": models.ModelSpec("resnet", {"stem": "cifar", "shortcut": "subsample", "widths": [8, 16], "depths": [1, 1]}, 5, (8, 12)),
}


def images_of(spec, count=3):
    return jnp.asarray(np.random.default_rng(0).normal(size=(count, *spec.image_size, 3)), jnp.float32)


@functools.cache
def started(name):
    params, extra = models.build(SMALL[name]).init(jax.random.key(1))
    return params, extra, images_of(SMALL[name])


def loss_and_gradient(model, params, extra, images, key=None):
    def loss(params):
        logits, new = model.apply(params, extra, images, key=key, train=True)
        return -jax.nn.log_softmax(logits)[:, 0].sum(), new

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def differences(one, two):
    return [float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)]


@pytest.mark.parametrize("name", ["vit", "resnet", "convnext"])
def test_remat_changes_no_gradient(name):
    params, extra, images = started(name)
    plain, saved = (loss_and_gradient(models.build(SMALL[name], remat=remat), params, extra, images) for remat in ("none", "blocks"))
    assert max(differences(plain, saved)) < 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_has_a_gradient_but_the_key_biases_which_softmax_cannot_see(name):
    (loss, _), gradient = loss_and_gradient(models.build(SMALL[name]), *started(name))
    assert np.isfinite(loss)
    still = [path for path, leaf in trees.flatten(gradient).items() if float(jnp.abs(leaf).max()) < 1e-6]
    assert [path for path in still if not path.endswith("key/bias")] == []


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_bfloat16_logits_and_gradients_are_close_to_float32_and_stay_float32(name):
    params, extra, images = started(name)
    (loss, _), exact = loss_and_gradient(models.build(SMALL[name]), params, extra, images)
    (rounded_loss, _), rounded = loss_and_gradient(models.build(SMALL[name], precision="bfloat16"), params, extra, images)
    assert float(rounded_loss) == pytest.approx(float(loss), rel=0.02)
    assert float(rounded_loss) != float(loss)
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype(jnp.float32)}
    norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(exact)))
    error = jnp.sqrt(sum(jnp.square(a - b).sum() for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(rounded))))
    assert float(error / norm) < 0.05


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_float64_parameters_compute_in_float64(name):
    params, extra, images = started(name)  # outside: it is cached, and other tests want it in float32
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, extra))
        logits, _ = models.build(SMALL[name]).apply(*wide, images)
        narrow, _ = models.build(SMALL[name]).apply(params, extra, images)
    assert (logits.dtype, narrow.dtype) == (jnp.float64, jnp.float32)
    assert 0 < np.abs(np.asarray(logits) - np.asarray(narrow)).max() < 1e-4


@pytest.mark.parametrize("name", ["vit", "preact"])
def test_a_vmapped_population_equals_its_members_one_by_one(name):
    params, extra, images = started(name)
    model = models.build(SMALL[name])
    population = jax.tree.map(lambda a: jnp.stack([a, 1.1 * a]), params)
    together = jax.jit(jax.vmap(lambda p: model.apply(p, extra, images, train=True)[0]))(population)
    for member, scale in zip(together, (1, 1.1)):
        alone, _ = model.apply(jax.tree.map(lambda a, scale=scale: scale * a, params), extra, images)
        np.testing.assert_allclose(member, alone, atol=1e-4)


def test_frozen_batch_statistics_never_change_and_decide_what_training_sees():
    params, extra, images = started("resnet")
    model = models.build(SMALL["resnet"], batch_statistics="frozen")
    training, after = model.apply(params, extra, images, train=True)
    assert after is extra
    np.testing.assert_array_equal(training, model.apply(params, extra, images)[0])


def test_updated_batch_statistics_follow_the_batch_with_momentum_nine_tenths():
    params, extra, images = started("resnet")
    model = models.build(SMALL["resnet"], batch_statistics="updated")
    logits, after = jax.jit(functools.partial(model.apply, train=True))(params, extra, images)
    before_norm = jax.lax.conv_general_dilated(images, params["stem"]["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    moments = after["batch_stats"]["stem"]["norm"]
    np.testing.assert_allclose(moments["mean"], 0.1 * before_norm.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(moments["var"], 0.9 + 0.1 * before_norm.var((0, 1, 2)), rtol=1e-4)
    assert float(jnp.abs(logits - model.apply(params, extra, images)[0]).max()) > 1e-3
    assert jax.tree.structure(after) == jax.tree.structure(extra)
    assert model.apply(params, extra, images)[1] is extra


def test_dropout_needs_a_key_draws_from_it_and_rests_in_evaluation():
    params, extra, images = started("vit")
    model = models.build(SMALL["vit"], dropout=0.2, drop_path=0.3)
    with pytest.raises(ConfigError, match=r"model\.dropout, model\.drop_path and augment\.neftune need a random key when training"):
        model.apply(params, extra, images, train=True)
    one, two, again = (model.apply(params, extra, images, key=jax.random.key(seed), train=True)[0] for seed in (0, 1, 0))
    np.testing.assert_array_equal(one, again)
    assert float(jnp.abs(one - two).max()) > 1e-3
    np.testing.assert_array_equal(model.apply(params, extra, images)[0], models.build(SMALL["vit"]).apply(params, extra, images)[0])


def test_stochastic_depth_drops_whole_examples_and_keeps_the_mean():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Drop(0.25, whole=True)(x, True)

    dropped = Both().apply({}, jnp.ones((4000, 2, 3)), rngs={"dropout": jax.random.key(0)})
    per_example = np.unique(np.asarray(dropped).reshape(4000, -1), axis=1)
    assert per_example.shape == (4000, 1)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)


def test_features_are_what_the_head_sees():
    for name in ("vit", "resnet"):
        params, extra, images = started(name)
        model = models.build(SMALL[name])
        features = model.features(params, extra, images)
        logits = features @ params["head"]["kernel"] + params["head"]["bias"][None]
        np.testing.assert_allclose(logits, model.apply(params, extra, images)[0], atol=1e-5)


def test_training_the_head_alone_costs_about_a_third_of_full_training():
    spec = models.ModelSpec("vit", {"patch": 4, "width": 64, "depth": 6, "heads": 4}, 10, (16, 16))
    model = models.build(spec)
    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((4, 16, 16, 3), jnp.float32)

    def flops(live):
        def loss(moving, still, images):
            return model.apply(still | moving, extra, images, train=True)[0].sum()

        moving, still = ({k: v for k, v in params.items() if (k in live) == wanted} for wanted in (True, False))
        return jax.jit(jax.grad(loss)).lower(moving, still, images).compile().cost_analysis()["flops"]

    assert flops({"head"}) < 0.4 * flops(set(params))


def test_gradients_reach_the_body_on_the_first_step():
    params, extra, images = started("vit")
    _, gradient = loss_and_gradient(models.build(SMALL["vit"]), params, extra, images)
    assert float(jnp.abs(gradient["stem"]["patch"]["kernel"]).max()) > 0
    assert float(jnp.abs(params["head"]["bias"]).max()) == 0


@pytest.mark.parametrize("name", SMALL)
def test_the_head_of_the_features_is_the_whole_model_and_groups_cover_every_path(name):
    model = models.build(SMALL[name])
    params, extra, images = started(name)
    whole = jax.jit(model.apply)(params, extra, images)[0]
    np.testing.assert_allclose(model.head(params, model.features(params, extra, images)), whole, atol=1e-5)
    assert {model.group_of(path) for path in trees.flatten(params)} == set(model.groups)


def test_variants_at_their_defaults_leave_a_spec_as_it_was():
    plain = models.ModelSpec("vit", {"patch": 4, "width": 32, "depth": 2, "heads": 4}, 5, (8, 12))
    named = models.ModelSpec("vit", {**plain.options, "epsilon": 1e-6, "layer_scale": False, "distillation": False, "pool": "token"}, 5, (8, 12))
    assert models.build(named).spec.to_json() == models.build(plain).spec.to_json()
    assert models.build(models.ModelSpec("vit", {**plain.options, "epsilon": 1e-12}, 5, (8, 12))).spec.options["epsilon"] == 1e-12


@pytest.mark.parametrize(
    ("family", "options", "size", "message"),
    [
        ("vit", {"pool": "mean"}, (16, 16), "vit: pool 'mean': "),
        ("vit", {"pool": "token_mean", "distillation": True}, (16, 16), "'token_mean' goes without distillation"),
        ("vit", {"layer_scale": 1}, (16, 16), "vit: option layer_scale 1 is of type int; allowed: bool"),
        ("convnext", {"depths": [3, 3]}, (64, 64), "convnext: widths [96, 192, 384, 768] and depths [3, 3] need one positive entry for each stage"),
        ("convnext", {}, (31, 64), "model.image_size (31, 64): patches of 4 and 4 stages need at least 32 pixels on each side"),
    ],
)
def test_impossible_variants_and_convnexts_are_refused(family, options, size, message):
    with pytest.raises(ConfigError) as refusal:
        models.build(models.ModelSpec(family, options, 5, size))
    assert message in str(refusal.value)
