"""The low-rank product in bfloat16 is the sum of two products, whatever is done with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.adapters import LoRA
from ftjax.models import layers, low_rank, products
from ftjax.models.low_rank import low_rank_bfloat16
from ftjax.models.products import matmul_bfloat16


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def drawn(rows=(3, 5), r=4):
    return normal(0, *rows, 24), normal(1, 24, 16), normal(2, 24, r), normal(3, r, 16), jnp.float32(0.5)


def apart(x, w, a, b, scale):
    return matmul_bfloat16(x, w) + matmul_bfloat16(matmul_bfloat16(x, a) * scale, b)


def with_pullback(function):
    def run(g, *inputs):
        answer, pullback = jax.vjp(function, *inputs)
        return answer, pullback(g)

    return run


def test_undifferentiated_it_is_bit_for_bit_two_products():
    np.testing.assert_array_equal(low_rank_bfloat16(*drawn()), apart(*drawn()))


@pytest.mark.parametrize("rows", [(7,), (1, 7), (3, 5), (2, 3, 4)])
def test_answer_and_gradients_are_those_of_two_products(rows):
    g = normal(4, *rows, 16)
    expected = jax.jit(with_pullback(apart))(g, *drawn(rows))
    for got, wanted in zip(jax.tree.leaves(jax.jit(with_pullback(low_rank_bfloat16))(g, *drawn(rows))), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-5 * float(jnp.abs(wanted).max()))


def test_derivatives_by_hand_are_autodiffs_without_rounding(monkeypatch):
    for module in (low_rank, products):
        monkeypatch.setattr(module, "narrow", lambda x: x)
    monkeypatch.setattr(low_rank, "beside", lambda one, other, axis: jnp.concatenate([one, other], axis=axis))
    g, inputs = normal(4, 3, 5, 16), drawn()
    expected = with_pullback(lambda x, w, a, b, scale: x @ w + scale * ((x @ a) @ b))(g, *inputs)
    for got, wanted in zip(jax.tree.leaves(with_pullback(low_rank_bfloat16)(g, *inputs)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_in_each_direction_there_is_one_large_product():
    x, w, a, b, scale = drawn(r=4)
    program = jax.jit(jax.grad(lambda x: jnp.sum(low_rank_bfloat16(x, w, a, b, scale) ** 2))).lower(x).as_text()
    assert program.count("x28xbf16>") > 0, "24 + 4 terms: [x h] [w; b]"
    assert program.count("x20xbf16>") > 0, "16 + 4 terms: [g k] [w a]^T"


def test_a_wide_input_of_a_narrow_layer_is_not_copied():
    x, w, a, b = normal(0, 2, 3, 24), normal(1, 24, 8), normal(2, 24, 4), normal(3, 4, 8)
    program = jax.jit(jax.grad(lambda x: jnp.sum(low_rank_bfloat16(x, w, a, b, jnp.float32(0.5)) ** 2))).lower(x).as_text()
    assert "x28xbf16>" not in program
    assert "x12xbf16>" in program, "the gradient, 8 + 4 terms, is"


def test_a_population_of_adapters_shares_one_base():
    x, w, a, b, scale = drawn()
    members = jnp.stack([b, 2 * b, 3 * b])

    def gradients(b):
        return with_pullback(low_rank_bfloat16)(normal(4, 3, 5, 16), x, w, a, b, scale)[1]

    program = jax.jit(jax.vmap(gradients)).lower(members).as_text()
    assert "3x28x16x" not in program
    assert "3x24x20x" not in program
    alone = jax.jit(gradients)(members[1])
    for got, wanted in zip(jax.tree.leaves(jax.jit(jax.vmap(gradients))(members)), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(got[1], wanted, rtol=1e-4, atol=1e-4)


def test_it_composes_with_scan_remat_and_second_derivatives():
    x, w, a, b, scale = normal(0, 2, 5, 8), normal(1, 8, 8) / 3, normal(2, 8, 2), normal(3, 2, 8), jnp.float32(0.5)

    def loss(b, wrap):
        layer = wrap(lambda x: layers.gelu(layers.matmul(x, LoRA(w, a, b, scale), "bfloat16"), "bfloat16"))
        return jax.lax.scan(lambda x, _: (layer(x), None), x, length=3)[0].sum()

    plain, saved = (jax.jit(jax.grad(loss), static_argnums=1)(b, wrap) for wrap in (lambda f: f, jax.checkpoint))
    np.testing.assert_allclose(plain, saved, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda b: jnp.square(jax.grad(loss)(b, lambda f: f)).sum())(b)).all()


def test_leaves_reach_it_in_bfloat16_alone(monkeypatch):
    met = []
    monkeypatch.setattr(layers, "low_rank_bfloat16", lambda *arrays: met.append(arrays) or low_rank_bfloat16(*arrays))
    x, w, a, b, scale = drawn()
    leaf = LoRA(w, a, b, scale)
    np.testing.assert_allclose(layers.matmul(x, leaf), x @ (w + 0.5 * a @ b), rtol=1e-4, atol=1e-4)
    layers.matmul(x, LoRA(LoRA(w, a, 0 * b, scale), a, b, scale), "bfloat16")
    assert len(met) == 1, "the inner leaf, not the outer one: its base is no array"
    np.testing.assert_allclose(layers.matmul(x, leaf, "bfloat16"), layers.matmul(x, leaf), rtol=0.1, atol=0.3)
    assert len(met) == 2
