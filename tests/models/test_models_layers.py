"""Layers: weights are values, bfloat16 products stay correct and alive under every transformation, derivatives by hand equal autodiff's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ftjax.models import layers, pointwise, products


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def rounded(x):
    return np.asarray(x.astype(jnp.bfloat16).astype(jnp.float32), np.float64)


def with_pullback(function):
    def run(g, *inputs):
        answer, pullback = jax.vjp(function, *inputs)
        return answer, pullback(g)

    return run


@functools.partial(jax.tree_util.register_dataclass, data_fields=["w", "scale"], meta_fields=[])
@dataclasses.dataclass
class Scaled:
    """A leaf that stands for scale * w."""

    w: jax.Array
    scale: jax.Array

    def matmul(self, x, product):
        return product(x, self.w) * self.scale

    def conv(self, x, product):
        return product(x, self.w) * self.scale


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_leaf_that_knows_how_to_multiply_is_asked_to(precision):
    x, w = normal(0, 2, 5, 8), normal(1, 8, 4)
    leaf = Scaled(w, jnp.float32(3))
    np.testing.assert_allclose(layers.matmul(x, leaf, precision), 3 * layers.matmul(x, w, precision), rtol=1e-6)
    gradient = jax.grad(lambda leaf: layers.matmul(x, leaf, precision).sum())(leaf)
    np.testing.assert_allclose(gradient.scale, layers.matmul(x, w, precision).sum(), rtol=1e-4)


def test_a_nested_leaf_reaches_the_plain_product():
    x, w = normal(0, 2, 8), normal(1, 8, 4)
    np.testing.assert_allclose(layers.matmul(x, Scaled(Scaled(w, jnp.float32(2)), jnp.float32(3))), 6 * (x @ w), rtol=1e-5)


def test_a_leaf_convolves_with_the_layers_own_settings():
    x, w = normal(0, 2, 9, 9, 4), normal(1, 3, 3, 1, 4)
    settings = {"strides": (2, 2), "padding": ((1, 1), (1, 1)), "groups": 4}
    np.testing.assert_allclose(layers.conv(x, Scaled(w, jnp.float32(2)), **settings), 2 * layers.conv(x, w, **settings), rtol=1e-6)


@pytest.mark.parametrize(("size", "stride", "padding"), [(1, 1, "SAME"), (1, 2, "SAME"), (4, 4, "VALID"), (3, 2, "SAME"), (2, 2, ((1, 1), (1, 1)))])
def test_convolutions_that_are_products_equal_xlas_convolution(size, stride, padding):
    x, w = normal(0, 2, 9, 10, 6), normal(1, size, size, 6, 5)
    expected = jax.lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(layers.conv(x, w, strides=(stride, stride), padding=padding), expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 3), (2, 0))])
@pytest.mark.parametrize(("size", "strides"), [((8, 9), (1, 1)), ((8, 9), (2, 2)), ((7, 10), (2, 1)), ((7, 5), (3, 2))])
@pytest.mark.parametrize("kernel", [(3, 3), (7, 5)])  # unrolled, and in a loop over its rows
def test_the_depthwise_convolution_and_its_derivatives_are_xlas(size, strides, padding, kernel):
    with jax.enable_x64(True):
        x, w = normal(0, 2, *size, 4, dtype=jnp.float64), normal(1, *kernel, 1, 4, dtype=jnp.float64)
        settings = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 4}
        expected = with_pullback(lambda x, w: jax.lax.conv_general_dilated(x, w, strides, padding, **settings))
        ours = with_pullback(lambda x, w: layers.conv(x, w, strides=strides, padding=padding, groups=4))
        g = normal(2, *jax.eval_shape(lambda x, w: layers.conv(x, w, strides=strides, padding=padding, groups=4), x, w).shape, dtype=jnp.float64)
        for got, wanted in zip(jax.tree.leaves(jax.jit(ours)(g, x, w)), jax.tree.leaves(jax.jit(expected)(g, x, w))):
            np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_the_bfloat16_product_rounds_operands_only():
    x, w, g = normal(0, 3, 17, 32), normal(1, 32, 24), normal(2, 3, 17, 24)
    answer, (dx, dw) = jax.jit(with_pullback(products.matmul_bfloat16))(g, x, w)
    np.testing.assert_allclose(answer, rounded(x) @ rounded(w), atol=2e-5)
    np.testing.assert_allclose(dx, rounded(g) @ rounded(w).T, atol=2e-5)
    np.testing.assert_allclose(dw, np.einsum("abn,abm->nm", rounded(x), rounded(g)), atol=4e-5)


@pytest.mark.parametrize("rows", [(1,), (6,), (1, 1), (1, 7), (7, 1), (4, 7), (1, 4, 7), (2, 3, 4)])
def test_every_shape_of_rows_runs_compiled_transposed_flattened_and_vmapped(rows):
    """XLA:CPU chooses a kernel, rewrites the product and then refuses it at run time; each of these once failed so."""
    x, w, g = normal(0, *rows, 16), normal(1, 16, 3), normal(2, *rows, 3)
    run = with_pullback(products.matmul_bfloat16)

    def turned(*inputs):
        return jax.tree.map(lambda a: a.T * 2, run(*inputs))

    def flat(g, x, w):
        return run(g, x.reshape(*rows, 16), w)

    def twice(*arrays):
        return [jnp.stack([a, 2 * a]) for a in arrays]

    expected = run(g, x, w)
    for answer, wanted in zip(jax.tree.leaves(jax.jit(turned)(g, x, w)), jax.tree.leaves(expected)):
        np.testing.assert_allclose(answer, 2 * wanted.T, rtol=1e-2, atol=1e-2)
    for answer, wanted in zip(jax.tree.leaves(jax.jit(flat)(g, x.reshape(-1, 16), w)), jax.tree.leaves(expected)):
        np.testing.assert_allclose(answer, wanted, rtol=1e-2, atol=1e-2)
    for answer, wanted in zip(jax.tree.leaves(jax.jit(jax.vmap(run))(*twice(g, x, w))), jax.tree.leaves(expected)):
        np.testing.assert_allclose(answer[0], wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 1, 8), (1, 4, 1, 8), (1, 7, 1, 8), (3, 1, 4, 8), (3, 16, 4, 1), (2, 17, 3, 8)])
def test_bfloat16_attention_runs_in_every_shape_and_is_close_to_float32(shape):
    g, *inputs = (normal(seed, *shape) for seed in range(4))
    for transform in (jax.jit, lambda f: jax.jit(lambda *a: jax.tree.map(lambda x: x[0], jax.vmap(f)(*(jnp.stack([x, x]) for x in a))))):
        answer = transform(with_pullback(products.attention_bfloat16))(g, *inputs)
        expected = with_pullback(layers.attention)(g, *inputs)
        for got, wanted in zip(jax.tree.leaves(answer), jax.tree.leaves(expected)):
            np.testing.assert_allclose(got, wanted, atol=0.06)


@pytest.mark.parametrize("length", [11, 12])
def test_attentions_derivative_by_hand_is_autodiffs(monkeypatch, length):
    """The same formulas without rounding, so that only the derivation is compared."""
    monkeypatch.setattr(products, "narrow", lambda x: x)
    g, *inputs = (normal(seed, 2, length, 3, 5) for seed in range(4))
    answer, expected = with_pullback(products.attention_bfloat16)(g, *inputs), with_pullback(layers.attention)(g, *inputs)
    for got, wanted in zip(jax.tree.leaves(answer), jax.tree.leaves(expected)):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_matmuls_derivative_by_hand_is_autodiffs(monkeypatch):
    monkeypatch.setattr(products, "narrow", lambda x: x)
    g, x, w = normal(0, 2, 11, 6), normal(1, 2, 11, 5), normal(2, 5, 6)
    answer, expected = with_pullback(products.matmul_bfloat16)(g, x, w), with_pullback(jnp.matmul)(g, x, w)
    for got, wanted in zip(jax.tree.leaves(answer), jax.tree.leaves(expected)):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_layer_norms_and_gelus_derivatives_by_hand_are_autodiffs_in_float64():
    with jax.enable_x64(True):
        x, scale, bias, g = (normal(seed, *shape, dtype=jnp.float64) for seed, shape in enumerate([(2, 5, 7), (7,), (7,), (2, 5, 7)]))
        by_hand = with_pullback(lambda *a: pointwise.layer_norm_by_hand(*a, 1e-6))(g, x, scale, bias)
        plain = with_pullback(lambda *a: layers.layer_norm(*a, 1e-6))(g, x, scale, bias)
        for got, wanted in zip(jax.tree.leaves(by_hand), jax.tree.leaves(plain)):
            assert got.dtype == jnp.float64
            np.testing.assert_allclose(got, wanted, atol=1e-12)
        for got, wanted in zip(jax.tree.leaves(with_pullback(pointwise.gelu_by_hand)(g, x)), jax.tree.leaves(with_pullback(layers.gelu)(g, x))):
            np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_gelu_is_the_exact_one():
    assert float(layers.gelu(jnp.float32(1.0))) == pytest.approx(0.8413447, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_float64_inputs_give_float64_answers_and_gradients(precision):
    with jax.enable_x64(True):
        x, w, g = (normal(seed, *shape, dtype=jnp.float64) for seed, shape in enumerate([(2, 5, 8), (8, 4), (2, 5, 4)]))
        leaves = jax.tree.leaves(with_pullback(lambda x, w: layers.matmul(x, w, precision))(g, x, w))
        assert [leaf.dtype for leaf in leaves] == [jnp.float64] * 3


def test_the_bfloat16_product_composes_with_scan_remat_and_second_derivatives():
    x, w = normal(0, 2, 5, 8), normal(1, 8, 8) / 3

    def loss(w, wrap):
        layer = wrap(lambda x: layers.gelu(layers.matmul(x, w, "bfloat16"), "bfloat16"))
        return jax.lax.scan(lambda x, _: (layer(x), None), x, length=3)[0].sum()

    plain, saved = (jax.jit(jax.grad(loss), static_argnums=1)(w, wrap) for wrap in (lambda f: f, jax.checkpoint))
    np.testing.assert_allclose(plain, saved, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda w: jnp.square(jax.grad(loss)(w, lambda f: f)).sum())(w)).all()


def test_a_batch_sharded_over_devices_gives_the_same_product_and_gradients():
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("data", "tensor"))
    x, w, g = normal(0, 8, 6, 16), normal(1, 16, 8), normal(2, 8, 6, 8)
    run = with_pullback(products.matmul_bfloat16)
    by_batch = NamedSharding(mesh, PartitionSpec("data"))
    sharded = jax.jit(run)(*jax.device_put((g, x), by_batch), jax.device_put(w, NamedSharding(mesh, PartitionSpec(None, "tensor"))))
    for got, wanted in zip(jax.tree.leaves(sharded), jax.tree.leaves(run(g, x, w))):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
