"""Every leaf is its equation, and at its start it is the weight alone, bit for bit."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import adapters, models, trees
from ftjax.adapters import IA3, OFT, SSF, DoRA, LoRA, PiSSA
from ftjax.config import AdapterConfig
from ftjax.errors import ConfigError
from ftjax.models import ModelSpec, layers

KINDS = ("lora", "dora", "pissa", "ia3", "ssf", "oft")


@pytest.fixture
def wide():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def times_transposed(x, w):
    """What a head that is tied to the embedding does."""
    return w.unembed(x, times_transposed) if hasattr(w, "unembed") else x @ w.T


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@functools.cache
def vit(depth: int = 2, **compute):
    spec = ModelSpec("vit", {"patch": 8, "width": 32, "depth": depth, "heads": 4, "mlp_ratio": 2.0}, 3, (16, 16))
    model = models.build(spec, **compute)
    return model, model.init(jax.random.key(0))[0]


def settings(kind: str, **values) -> AdapterConfig:
    return AdapterConfig(kind=kind, **({"rank": 4, "block": 8} | values))


def moved(params, size: float = 0.1):
    """Every number that trains, somewhere else."""
    flat = adapters.arrays(params, adapters.TRAINED)
    noise = {path: leaf + size * jax.random.normal(jax.random.key(len(path)), leaf.shape, leaf.dtype) for path, leaf in flat.items()}
    return trees.map_with_path(lambda path, leaf: noise.get(path, leaf), params)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("leaf", ["lora", "pissa", "dora", "ia3_output", "ia3_input", "ssf", "oft"])
def test_matmul_and_merged_are_the_equation(leaf):
    w, a, b, x, bias, s = draw(6, 5), draw(6, 2, seed=1), draw(2, 5, seed=2), draw(3, 4, 6, seed=3), draw(5, seed=4), jnp.array(0.5)
    a0, b0, gain, inner, rotation = draw(6, 2, seed=5), draw(2, 5, seed=6), draw(5, seed=7), draw(6, seed=8), draw(2, 3, seed=9)
    added = w + s * (a @ b)
    turn = np.zeros((6, 6))
    for block in range(2):
        q = np.zeros((3, 3))
        q[np.triu_indices(3, 1)] = rotation[block]
        q -= q.T
        turn[3 * block : 3 * block + 3, 3 * block : 3 * block + 3] = (np.eye(3) - q) @ np.linalg.inv(np.eye(3) + q)
    made, expected, offset = {
        "lora": (LoRA(w, a, b, s), added, 0.0),
        "pissa": (PiSSA(w, a, b, s, a0, b0), w + s * (a @ b - a0 @ b0), 0.0),
        "dora": (DoRA(w, a, b, s, gain, jnp.linalg.norm(w, axis=0)), added * (gain / jnp.linalg.norm(added, axis=0))[None], 0.0),
        "ia3_output": (IA3(w, gain, bias), w * gain[None], bias * (gain - 1)),
        "ia3_input": (IA3(w, inner, None, "input"), w * inner[:, None], 0.0),
        "ssf": (SSF(w, gain), w * gain[None], 0.0),
        "oft": (OFT(w, rotation), turn @ w, 0.0),
    }[leaf]
    np.testing.assert_allclose(made.merged(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layers.matmul(x, made), np.asarray(x) @ np.asarray(expected) + np.asarray(offset), rtol=1e-11, atol=1e-12)
    assert next(iter(trees.flatten(made))) == "w"


@pytest.mark.usefixtures("wide")
def test_dora_gradient_takes_the_norm_for_a_constant():
    w, a, b, x = draw(6, 5), draw(6, 2, seed=1), draw(2, 5, seed=2), draw(3, 6, seed=3)
    norm = jnp.linalg.norm(w + 0.5 * a @ b, axis=0)

    def ours(b):
        return jnp.square(layers.matmul(x, DoRA(w, a, b, jnp.array(0.5), jnp.ones(5), jnp.linalg.norm(w, axis=0)))).sum()

    np.testing.assert_allclose(jax.grad(ours)(b), jax.grad(lambda b: jnp.square(x @ (w + 0.5 * a @ b) / norm[None]).sum())(b), rtol=1e-10)


@pytest.mark.usefixtures("wide")
def test_embeddings_and_convolutions_are_the_equation():
    table, a, b, s = draw(7, 5), draw(7, 2, seed=1), draw(2, 5, seed=2), jnp.array(0.5)
    rows = jnp.array([[0, 6], [3, 3]])
    np.testing.assert_allclose(layers.lookup(rows, LoRA(table, a, b, s)), (table + s * a @ b)[rows], rtol=1e-12)
    np.testing.assert_allclose(LoRA(table, a, b, s).unembed(draw(3, 5), times_transposed), draw(3, 5) @ (table + s * a @ b).T, rtol=1e-11)
    for size, strides, padding in ((3, (1, 1), "SAME"), (3, (2, 2), "SAME"), (2, (2, 2), "VALID"), (1, (2, 2), "SAME")):
        kernel, low, x = draw(size, size, 3, 5), draw(size, size, 3, 2, seed=1), draw(2, 6, 6, 3, seed=3)
        merged = kernel + s * jnp.einsum("hwir,ro->hwio", low, b)
        for leaf, plain in ((LoRA(kernel, low, b, s), merged), (SSF(kernel, draw(5, seed=4)), kernel * draw(5, seed=4)[None, None, None])):
            expected = layers.conv(x, plain, strides=strides, padding=padding)
            np.testing.assert_allclose(layers.conv(x, leaf, strides=strides, padding=padding), expected, rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(leaf.merged(), plain, rtol=1e-12)
    with pytest.raises(ConfigError, match="a LoRA adapter on a convolution of 3 groups"):
        layers.conv(draw(2, 6, 6, 3), LoRA(draw(3, 3, 1, 3), draw(3, 3, 1, 2), draw(2, 3), s), groups=3)


def test_int8_is_within_half_a_step_and_goes_under_any_adapter():
    w = draw(64, 8).astype(jnp.float32).at[:, 3].set(0)
    leaf = adapters.quantise(w)
    assert leaf.q.dtype == jnp.int8
    assert bool((jnp.abs(leaf.merged() - w) <= leaf.s[None] * 0.5001).all())
    x, a, b = (draw(5, 64), draw(64, 2, seed=1), draw(2, 8, seed=2))
    x, a, b = x.astype(jnp.float32), a.astype(jnp.float32), b.astype(jnp.float32)
    for under in (LoRA(leaf, a, b, jnp.array(0.5)), DoRA(leaf, a, b, jnp.array(0.5), jnp.ones(8), jnp.ones(8)), OFT(leaf, draw(8, 28).astype(jnp.float32))):
        plain = dataclasses.replace(under, w=leaf.merged())
        np.testing.assert_allclose(layers.matmul(x, under), layers.matmul(x, plain), rtol=2e-4, atol=1e-4)
        np.testing.assert_allclose(under.merged(), plain.merged(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(leaf.unembed(draw(3, 8).astype(jnp.float32), times_transposed), draw(3, 8) @ leaf.merged().T, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layers.lookup(jnp.array([1, 5]), leaf), leaf.merged()[jnp.array([1, 5])])


@pytest.mark.parametrize("kind", KINDS)
def test_at_its_start_an_adapted_model_answers_bit_for_bit_as_it_came(kind):
    model, params = vit(1)
    bound, rows = adapters.bind(params, settings(kind), jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (4, 16, 16, 3))

    def apply(params):
        return model.apply(params, {}, x)[0]

    # Operation by operation: two programs of which XLA makes different loops differ in the last bit even where one adds zeros alone.
    np.testing.assert_array_equal(apply(bound), apply(params))
    if kind == "lora":
        np.testing.assert_allclose(jax.jit(apply)(bound), jax.jit(apply)(params), rtol=1e-5, atol=1e-6)
    assert jax.tree.map(np.array_equal, adapters.merge(bound), params) == jax.tree.map(lambda _: True, params)
    flat, before = trees.flatten(bound), trees.flatten(params)
    assert all(flat[row.path + "/w"] is before[row.path] for row in rows), "the base is not copied"
    away = moved(bound)
    assert not np.array_equal(apply(away), apply(params))
    np.testing.assert_allclose(apply(adapters.merge(away)), apply(away), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_bfloat16_starts_bit_for_bit_too(kind):
    model, params = vit(1, precision="bfloat16")
    bound, _ = adapters.bind(params, settings(kind), jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (4, 16, 16, 3))
    np.testing.assert_array_equal(model.apply(bound, {}, x)[0], model.apply(params, {}, x)[0])


def test_an_int8_base_answers_as_the_rounded_weights():
    model, params = vit(1)
    bound, rows = adapters.bind(params, settings("lora", targets=("attention.query",), base="int8"), jax.random.key(1))
    assert adapters.kinds_of(rows) == {"attention.query": 1, "int8": 5}
    assert {row.kind for row in rows} == {"LoRA", "Int8"}
    assert trees.flatten(bound)["encoder/block_0/attention/query/kernel/w/q"].dtype == jnp.int8
    x = jax.random.normal(jax.random.key(2), (4, 16, 16, 3))
    np.testing.assert_allclose(model.apply(adapters.merge(bound), {}, x)[0], model.apply(bound, {}, x)[0], rtol=1e-4, atol=1e-5)


def test_pissa_starts_at_the_principal_directions():
    w = draw(8, 6).astype(jnp.float32)
    bound, _ = adapters.bind({"encoder": {"mlp": {"kernel": w}}}, settings("pissa", rank=2, alpha=3.0), jax.random.key(0))
    leaf = bound["encoder"]["mlp"]["kernel"]
    u, s, v = np.linalg.svd(w)
    np.testing.assert_allclose(leaf.scale * leaf.a @ leaf.b, (u[:, :2] * s[:2]) @ v[:2], rtol=1e-4, atol=1e-5)


def test_dropout_is_of_the_adapter_alone_and_by_key():
    model, params = vit(1)
    bound, _ = adapters.bind(params, settings("lora"), jax.random.key(1))
    x, away = jax.random.normal(jax.random.key(2), (4, 16, 16, 3)), moved(bound)

    def answers(params, seed, rate):
        return model.apply(adapters.with_dropout(params, jax.random.key(seed), jnp.array(rate)), {}, x)[0]

    np.testing.assert_array_equal(answers(bound, 0, 0.5), model.apply(params, {}, x)[0])
    np.testing.assert_array_equal(answers(away, 0, 0.0), model.apply(away, {}, x)[0])
    np.testing.assert_array_equal(answers(away, 0, 0.5), answers(away, 0, 0.5))
    assert not np.array_equal(answers(away, 0, 0.5), answers(away, 1, 0.5))
    leaf = LoRA(jnp.zeros((64, 4)), jnp.ones((64, 1)), jnp.ones((1, 4)), jnp.array(1.0))
    dropped = jax.vmap(lambda key: layers.matmul(jnp.ones((8, 64)), adapters.with_dropout(leaf, key, jnp.array(0.25))))(jax.random.split(jax.random.key(0), 64))
    assert abs(float(dropped.mean()) - 64) < 0.5, "the mean is kept"


@pytest.mark.parametrize("kind", ["lora", "dora", "pissa", "ia3", "oft"])
def test_neutral_arrays_and_back(kind):
    _, params = vit(1)
    away = moved(adapters.bind(params, settings(kind), jax.random.key(1))[0])
    found = adapters.neutral(away)
    assert found.kind == ("lora" if kind == "pissa" else kind)
    again = adapters.assembled(params, found.tensors, found.scales, found.sides)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), adapters.merge(again), adapters.merge(away))
    if kind == "ia3":
        assert set(found.sides.values()) == {"output", "input"}
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(again)]
    assert len(buffers) == len(set(buffers)), "a buffer that stands in two places cannot be donated"


def test_neutral_arrays_that_make_no_adapter_are_refused():
    _, params = vit(1)
    with pytest.raises(ConfigError, match="the parameters hold adapters of 0 kinds"):
        adapters.neutral(params)
    with pytest.raises(ConfigError, match="is a SSF, which other libraries have no form for; merge it"):
        adapters.neutral(adapters.bind(params, settings("ssf"), jax.random.key(1))[0])
    with pytest.raises(ConfigError, match="the arrays a make no adapter"):
        adapters.assembled(params, {"head/kernel/a": np.ones((32, 2))}, {}, {})
    with pytest.raises(ConfigError, match="adapters for weights that the model does not have: body/kernel"):
        adapters.assembled(params, {"body/kernel/a": np.ones((32, 2))}, {}, {})


def test_sizes_follow_the_configuration():
    _, params = vit()
    config = settings("lora", targets=("attention", "mlp.up"), rank_pattern=(("mlp.up", 2),), alpha_pattern=((r".*block_1.*", 8.0),), scaling="rslora")
    bound, rows = adapters.bind(params, config, jax.random.key(1))
    by_path = {row.path: row for row in rows}
    up, query = by_path["encoder/block_0/mlp/up/kernel"], by_path["encoder/block_1/attention/query/kernel"]
    assert (up.rank, up.alpha, up.scale, up.target) == (2, 16.0, pytest.approx(16 / math.sqrt(2)), "mlp.up")
    assert (query.rank, query.alpha, query.scale, query.target) == (4, 8.0, 4.0, "attention")
    assert sum(row.parameters for row in rows) == sum(leaf.size for leaf in adapters.arrays(bound, adapters.TRAINED).values())
    assert adapters.kinds_of(rows) == {"attention": 8, "mlp.up": 2}
    again, _ = adapters.bind(params, settings("lora", targets=("attention.query",)), jax.random.key(1))
    path = "encoder/block_0/attention/query/kernel/a"
    np.testing.assert_array_equal(trees.flatten(again)[path], trees.flatten(bound)[path], "whatever else is bound")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (settings("lora", targets=("atention.query",)), r"'atention.query' is no role.*did you mean 'attention.query'"),
        (settings("lora", targets=("mlp.gate",)), r"'mlp.gate' matches no weight of this model; allowed: 'all-linear', .*'mlp.up'"),
        (settings("lora", targets=(r"encoder/.*/q_proj/kernel",)), r"matches no weight of this model"),
        (settings("lora", targets=("(",)), r"is not a regular expression"),
        (settings("lora", targets=()), "adapter.targets is empty"),
        (settings("lora", rank_pattern=(("conv", 2),)), "adapter.rank_pattern: 'conv' matches no weight"),
        (settings("dora", targets=("patch",)), r"stem/patch/kernel is a convolution \[8, 8, 3, 32\]; dora, pissa, oft adapt matrices"),
        (settings("pissa", rank=64), "has 32 singular vectors and the rank is 64"),
        (settings("oft", block=7), "has 32 inputs, which blocks of that size do not fill; sizes that do: .2, 4, 8, 16, 32."),
    ],
)
def test_what_cannot_be_bound_says_why(config, message):
    _, params = vit()
    with pytest.raises(ConfigError, match=message):
        adapters.bind(params, config, jax.random.key(0))


def test_other_refusals():
    depthwise = {"encoder": {"block_0": {"depthwise": {"kernel": jnp.ones((3, 3, 1, 8))}}}, "stem": {"word": {"embedding": jnp.ones((9, 4))}}}
    with pytest.raises(ConfigError, match="'conv' matches no weight"):
        adapters.bind(depthwise, settings("lora", targets=("conv",)), jax.random.key(0))
    with pytest.raises(ConfigError, match="is a depthwise convolution"):
        adapters.bind(depthwise, settings("lora", targets=("encoder/.*",)), jax.random.key(0))
    with pytest.raises(ConfigError, match="a table of embeddings, which only lora adapts"):
        adapters.bind(depthwise, settings("ia3", targets=("embedding",)), jax.random.key(0))
    with pytest.raises(ConfigError, match="has no bias, and ssf trains a gain and a bias"):
        adapters.bind({"encoder": {"mlp": {"kernel": jnp.ones((4, 4))}}}, settings("ssf"), jax.random.key(0))
    with pytest.raises(ConfigError, match="a column of zeros, which has no direction"):
        adapters.bind({"encoder": {"mlp": {"kernel": jnp.zeros((4, 4))}}}, settings("dora"), jax.random.key(0))
