"""Bottlenecks: hidden units that a branch gains are their equation, start as nothing, and are kept beside merged weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import adapters, models, trees
from ftjax.adapters import AdaptFormer, Houlsby
from ftjax.config import AdapterConfig
from ftjax.errors import ConfigError
from ftjax.models import ModelSpec, layers

SPECS = {
    "vit": ModelSpec("vit", {"patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0}, 3, (16, 16)),
    "bert": ModelSpec("bert", {"vocabulary": 20, "positions": 12, "width": 16, "depth": 2, "heads": 2, "hidden": 24, "activation": "relu"}, 3),
    "decoder": ModelSpec("decoder", {"vocabulary": 20, "positions": 12, "width": 16, "depth": 2, "heads": 2, "hidden": 24}, 20),
    "modernbert": ModelSpec("modernbert", {"vocabulary": 20, "positions": 12, "width": 16, "depth": 2, "heads": 2, "hidden": 24}, 3),
    "convnext": ModelSpec("convnext", {"patch": 2, "widths": [8, 16], "depths": [1, 1], "layer_scale": 1.0}, 3, (16, 16)),
}


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def made(family: str, kind: str, **settings):
    """(model, plain parameters, with bottlenecks, rows, inputs)."""
    model = models.build(SPECS[family], **{name: settings.pop(name) for name in ("scan", "remat") if name in settings})
    params = model.init(jax.random.key(0))[0]
    bound, rows = adapters.bind(params, AdapterConfig(kind=kind, units=3, **settings), jax.random.key(1))
    texts = {"tokens": jnp.arange(10).reshape(2, 5), "mask": jnp.ones((2, 5), bool), "segments": jnp.zeros((2, 5), jnp.int32)}
    return model, params, bound, rows, texts if model.family.reads == "text" else jnp.asarray(draw(2, 16, 16, 3))


def moved(params):
    return trees.map_with_path(lambda path, leaf: leaf + 0.3 * draw(*leaf.shape, seed=len(path)) if path.endswith(("/a", "/b", "_bias")) else leaf, params)


def test_both_are_their_equations():
    w, a, b, a_bias, b_bias, bias = draw(6, 4), draw(5, 3, seed=1), draw(3, 4, seed=2), draw(3, seed=3), draw(4, seed=4), draw(4, seed=5)
    h, x = draw(2, 6, seed=6), draw(2, 5, seed=7)
    beside = layers.matmul(h, AdaptFormer(w, a, b, a_bias, b_bias, jnp.array(0.1)), entered=jnp.asarray(x))
    np.testing.assert_allclose(beside, h @ w + 0.1 * (np.maximum(x @ a + a_bias, 0) @ b + b_bias), rtol=1e-5, atol=1e-5)
    a = draw(4, 3, seed=8)
    behind = layers.matmul(h, Houlsby(w, a, b, a_bias, b_bias, jnp.array(1.0), jnp.asarray(bias)), entered=jnp.asarray(x))
    np.testing.assert_allclose(behind, h @ w + np.maximum((h @ w + bias) @ a + a_bias, 0) @ b + b_bias, rtol=1e-5, atol=1e-5)
    with pytest.raises(
        ConfigError, match="an adaptformer on a layer that ends no branch of a block; allowed: paths that end in attention/out/kernel, mlp/down"
    ):
        layers.matmul(h, AdaptFormer(w, draw(5, 3), b, a_bias, b_bias, jnp.array(0.1)))


@pytest.mark.parametrize(("family", "kind"), [(family, "adaptformer") for family in SPECS] + [("vit", "houlsby"), ("decoder", "houlsby")])
def test_at_its_start_a_model_answers_bit_for_bit_as_it_came_and_then_otherwise(family, kind):
    model, params, bound, rows, inputs = made(family, kind)
    run = jax.jit(lambda params: model.apply(params, {}, inputs)[0])
    if family in ("vit", "decoder"):  # operation by operation: two programs may be fused differently
        np.testing.assert_array_equal(model.apply(bound, {}, inputs)[0], model.apply(params, {}, inputs)[0])
    np.testing.assert_allclose(run(bound), run(params), rtol=1e-5, atol=1e-6)
    assert len(rows) == (4 if kind == "houlsby" else 2)
    assert not any(row.merges for row in rows)
    assert not np.allclose(run(moved(bound)), run(params), atol=1e-4)


def test_units_beside_a_relu_mlp_are_units_of_a_wider_one():
    """What "new hidden units" means: theta0 is a point of the larger model whose rows of the second matrix are 0."""
    model, _, bound, _, inputs = made("bert", "adaptformer", units_scale=0.5)
    away = moved(bound)
    wider = models.build(ModelSpec("bert", SPECS["bert"].options | {"hidden": 27}, 3))
    flat = trees.flatten(away)
    for block in ("encoder/block_0/mlp", "encoder/block_1/mlp"):
        taken = {name: flat.pop(f"{block}/down/kernel/{name}") for name in ("w", "a", "b", "a_bias", "b_bias", "scale")}
        flat[f"{block}/up/kernel"] = jnp.concatenate([flat[f"{block}/up/kernel"], taken["a"]], axis=1)
        flat[f"{block}/up/bias"] = jnp.concatenate([flat[f"{block}/up/bias"], taken["a_bias"]])
        flat[f"{block}/down/kernel"] = jnp.concatenate([taken["w"], 0.5 * taken["b"]], axis=0)
        flat[f"{block}/down/bias"] = flat[f"{block}/down/bias"] + 0.5 * taken["b_bias"]
    np.testing.assert_allclose(wider.apply(trees.unflatten(flat), {}, inputs)[0], model.apply(away, {}, inputs)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compute", [{"scan": True}, {"remat": True}])
def test_scan_and_remat_change_nothing(compute):
    model, _, bound, _, inputs = made("vit", "adaptformer")
    other = models.build(SPECS["vit"], **compute)
    np.testing.assert_allclose(other.apply(moved(bound), {}, inputs)[0], model.apply(moved(bound), {}, inputs)[0], rtol=1e-4, atol=1e-5)


def test_merging_leaves_them_on_plain_weights_and_their_layout_can_be_made_again():
    model, params, bound, rows, inputs = made("vit", "houlsby", base="int8")
    away = moved(bound)
    merged = adapters.merge(away)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype("float32")}, "nothing in 8 bits is left"
    np.testing.assert_allclose(model.apply(merged, {}, inputs)[0], model.apply(away, {}, inputs)[0], rtol=1e-4, atol=1e-5)
    kept = [{"path": row.path, "kind": row.kind, "fields": dict(row.fields)} for row in adapters.kept_apart(rows)]
    again = adapters.laid_out(jax.eval_shape(lambda: params), kept)
    assert jax.tree.structure(again) == jax.tree.structure(merged)
    assert [leaf.shape for leaf in jax.tree.leaves(again)] == [leaf.shape for leaf in jax.tree.leaves(merged)]


def test_dropout_is_of_the_units_alone():
    model, params, bound, _, inputs = made("vit", "adaptformer")
    dropped = [adapters.with_dropout(tree, jax.random.key(0), jnp.array(0.5)) for tree in (bound, moved(bound))]
    np.testing.assert_array_equal(model.apply(dropped[0], {}, inputs)[0], model.apply(params, {}, inputs)[0])
    assert not np.allclose(model.apply(dropped[1], {}, inputs)[0], model.apply(moved(bound), {}, inputs)[0], atol=1e-4)


def test_what_cannot_be_bound_or_written_says_why():
    _, _, bound, _, _ = made("vit", "adaptformer")
    with pytest.raises(
        ConfigError, match="'adaptformer': encoder/block_0/attention/query/kernel ends no branch of a block; allowed are paths that end in attention"
    ):
        made("vit", "adaptformer", targets=("attention.query",))
    with pytest.raises(ConfigError, match="is a AdaptFormer, which peft has no form for, and no merged weight stands for; use the run's own model/"):
        adapters.neutral(bound)
