"""Text encoders: what padding may not change, masks, scan, remat, noise, heads, and what is refused."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax import models, trees
from ftjax.errors import ConfigError
from ftjax.models import layers, text
from ftjax.models.modernbert import rotation, window
from ftjax.models.modules import Drop, Encoder
from ftjax.models.transformer import own_positions, rotate

BODY = {"vocabulary": 40, "positions": 20, "width": 16, "depth": 2, "heads": 2, "hidden": 24}
ENDS = {
    "bert": {},
    "roberta": {"position_offset": 2, "segments": 1, "pool": "first", "head": "tanh"},
    "distilbert": {"segments": 0, "pool": "first", "head": "relu"},
    "mean": {"pool": "mean"},
    "tokens": {"output": "tokens"},
    "embedding": {"output": "embedding", "pool": "mean"},
    "modernbert": {"window": 2, "depth": 3},
}


def spec_of(name, **changes):
    options = BODY | ENDS[name] | changes
    return models.ModelSpec("modernbert" if name == "modernbert" else "bert", options, 16 if options.get("output") == "embedding" else 3)


@functools.cache
def started(name):
    """Random parameters that are far from 0 and 1, so that every one of them is felt."""
    params, _ = models.build(spec_of(name)).init(jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), params)


@functools.cache
def program(name, precision="float32"):
    model = models.build(spec_of(name), precision=precision)
    return jax.jit(lambda params, inputs: model.apply(params, {}, inputs)[0])


def batch_of(rows, length, left=False):
    """Texts (lists of tokens) padded to `length` on one side; padding holds other tokens, which nobody may see."""
    tokens, mask = np.full((len(rows), length), 7, np.int32), np.zeros((len(rows), length), bool)
    for index, row in enumerate(rows):
        place = slice(length - len(row), length) if left else slice(0, len(row))
        tokens[index, place], mask[index, place] = row, True
    return {"tokens": jnp.asarray(tokens), "mask": jnp.asarray(mask), "segments": jnp.asarray(np.where(mask, tokens % 2, 0))}


def rows_of(seed, count=3):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 40, rng.integers(1, 9)).tolist() for _ in range(count)]


def answers(name, rows, length, left=False, precision="float32"):
    """The answers at the tokens, one row after the other."""
    inputs = batch_of(rows, length, left)
    found = np.asarray(program(name, precision)(started(name), inputs))
    return found[np.asarray(inputs["mask"])] if name == "tokens" else found


@pytest.mark.parametrize("name", ENDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.just(16), left=st.booleans())
def test_neither_side_nor_length_of_padding_nor_other_texts_change_an_answer(name, seed, length, left):
    rows = rows_of(seed)
    expected = answers(name, rows, 9)
    np.testing.assert_allclose(answers(name, rows, length, left), expected, atol=2e-5)
    alone = np.concatenate([answers(name, [row, rows_of(seed + 1)[0], row], 9)[: len(row) if name == "tokens" else 1] for row in rows])
    np.testing.assert_allclose(alone, expected, atol=2e-5)


def test_bfloat16_sees_no_padding_either_and_is_close_to_float32():
    rows = rows_of(0)
    narrow = answers("bert", rows, 9, precision="bfloat16")
    np.testing.assert_allclose(answers("bert", rows, 16, left=True, precision="bfloat16"), narrow, atol=0.02)
    exact = answers("bert", rows, 9)
    assert 0 < np.abs(narrow - exact).max() < 0.1 * np.abs(exact).max()


def test_order_and_segments_of_tokens_do_matter():
    rows = [[1, 2, 3, 4, 5]]
    inputs = batch_of(rows, 9)
    plain, turned = answers("bert", rows, 9), answers("bert", [[5, 4, 3, 2, 1]], 9)
    second = program("bert")(started("bert"), inputs | {"segments": 1 - inputs["segments"]})
    assert np.abs(plain - turned).max() > 1e-2
    assert np.abs(plain - np.asarray(second)).max() > 1e-2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_masked_keys_have_no_weight_at_all_and_a_row_without_keys_stays_finite(precision):
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.normal(size=(2, 6, 2, 4)), jnp.float32) for _ in range(3))
    mask = jnp.asarray([[True, True, False, True, False, False], [False] * 6])[:, None, None, :]

    def total(key, value):
        mixed = layers.attention(query, key, value, precision, mask)
        return (mixed * jnp.arange(8.0).reshape(1, 1, 2, 4)).sum(), mixed

    (_, mixed), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(key, value)
    assert np.isfinite(mixed).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    hidden = ~np.asarray(mask)[0, 0, 0]
    assert all((np.asarray(gradient)[0, hidden] == 0).all() for gradient in gradients)
    assert all((np.asarray(gradient)[0, ~hidden] != 0).any() for gradient in gradients)
    loud = jnp.where(mask[:, 0, 0, :, None, None], value, 1e30)
    np.testing.assert_array_equal(layers.attention(query, key, loud, precision, mask)[0], mixed[0])
    np.testing.assert_array_equal(layers.attention(query, key, value, precision, jnp.ones_like(mask)), layers.attention(query, key, value, precision))


def test_near_attention_is_the_whole_one_where_texts_are_short_and_cuts_long_ones():
    mask = jnp.ones((1, 6), bool).at[0, 0].set(False)
    positions = own_positions(mask)
    assert window(mask, positions, 5).shape == (1, 1, 1, 6)
    found = np.asarray(window(mask, positions, 2))[0, 0]
    places = np.arange(6)
    np.testing.assert_array_equal(found[1:], ((np.abs(places[:, None] - places) <= 2) & (places > 0))[1:])


def test_rotary_positions_know_distances_only():
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))

    def score(first, second):
        turned = [rotate(x, *rotation(jnp.asarray([[place]]), 8, 100.0)) for x, place in ((query, first), (key, second))]
        return float((turned[0] * turned[1]).sum())

    assert score(3, 7) == pytest.approx(score(13, 17), abs=1e-4)
    assert abs(score(3, 7) - score(3, 8)) > 1e-3


def gradient(model, params, inputs, key=None):
    def loss(params):
        return jnp.square(model.apply(params, {}, inputs, key=key, train=True)[0]).sum()

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize("ways", [{"scan": True}, {"remat": True}, {"scan": True, "remat": True}, {"scan": True, "precision": "bfloat16"}], ids=str)
def test_scan_and_remat_change_neither_answers_nor_gradients_nor_paths(ways):
    params, inputs = started("bert"), batch_of(rows_of(3), 9)
    base = {"precision": ways["precision"]} if "precision" in ways else {}
    (one, plain), (other, changed) = (gradient(models.build(spec_of("bert"), **options), params, inputs) for options in (base, ways))
    np.testing.assert_allclose(other, one, rtol=1e-5)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    for (path, leaf), (same, value) in zip(trees.flatten(plain).items(), trees.flatten(changed).items(), strict=True):
        assert path == same
        np.testing.assert_allclose(value, leaf, atol=(1e-5 if not base else 1e-2) * scale)
    assert trees.flatten(models.build(spec_of("bert"), **ways).init(jax.random.key(0))[0]).keys() == trees.flatten(params).keys()


def test_scan_compiles_one_block_for_all():
    def lines(depth, scan):
        model = models.build(spec_of("bert", depth=depth), scan=scan)
        params, _ = jax.eval_shape(model.init, jax.random.key(0))
        return len(jax.jit(lambda params, inputs: model.apply(params, {}, inputs)[0]).lower(params, batch_of(rows_of(0), 9)).as_text().splitlines())

    whole, repeated = lines(12, False) - lines(6, False), lines(12, True) - lines(6, True)
    assert repeated < 0.5 * whole  # what is left for each block is the stacking of its parameters


def test_a_vit_can_be_scanned_too():
    spec = models.ModelSpec("vit", {"patch": 4, "width": 16, "depth": 3, "heads": 2}, 5, (8, 8))
    params, extra = models.build(spec).init(jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    plain, scanned = (jax.jit(models.build(spec, scan=scan).apply)(params, extra, images)[0] for scan in (False, True))
    np.testing.assert_allclose(scanned, plain, atol=1e-6)


@pytest.mark.parametrize("ways", [{"dropout": 0.2}, {"neftune": 5.0}, {"dropout": 0.2, "scan": True}, {"drop_path": 0.4}], ids=str)
def test_what_is_random_draws_from_the_key_and_rests_in_evaluation(ways):
    model, params, inputs = models.build(spec_of("bert"), **ways), started("bert"), batch_of(rows_of(1), 9)
    one, again, other = (model.apply(params, {}, inputs, key=jax.random.key(seed), train=True)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert float(jnp.abs(one - other).max()) > 1e-3
    np.testing.assert_array_equal(model.apply(params, {}, inputs)[0], models.build(spec_of("bert"), scan=ways.get("scan", False)).apply(params, {}, inputs)[0])
    with pytest.raises(ConfigError, match=r"augment\.neftune need a random key when training"):
        model.apply(params, {}, inputs, train=True)


def test_scanned_blocks_drop_by_numbers_of_their_own():
    """Two blocks that keep half of the elements leave a quarter; with the same numbers in both it would be half."""

    class Half(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return x * self.param("scale", nn.initializers.ones, ()) * Drop(0.5)(jnp.ones_like(x), train)

    params = {"params": {f"block_{index}": {"scale": jnp.ones(())} for index in range(2)}}
    kept = Encoder([Half, Half], scan=True).apply(params, jnp.ones(4000), True, rngs={"dropout": jax.random.key(0)})
    assert float((kept > 0).mean()) == pytest.approx(0.25, abs=0.03)


def test_neftunes_noise_is_uniform_and_bounded_by_alpha_over_the_root_of_tokens_times_width():
    mask = jnp.asarray([[True] * 8, [True] * 2 + [False] * 6])
    drawn = np.asarray(text.noise(jax.random.key(0), jnp.zeros((2, 8, 500)), mask, 5.0))
    packed = np.asarray(text.noise(jax.random.key(0), jnp.zeros((1, 8, 500)), jnp.asarray([[1, 1, 1, 1, 1, 2, 2, 0]]), 5.0))[0]
    for row, tokens in ((drawn[0], 8), (drawn[1, :2], 2), (packed[:5], 5), (packed[5:7], 2)):
        bound = 5 / np.sqrt(tokens * 500)
        assert 0.99 * bound < np.abs(row).max() <= bound
        assert row.std() == pytest.approx(bound / 3**0.5, rel=0.03)


@pytest.mark.parametrize("name", ENDS)
def test_groups_cover_every_path_and_the_head_of_the_features_is_the_whole_model(name):
    model, params, inputs = models.build(spec_of(name)), started(name), batch_of(rows_of(2), 9)
    assert {model.group_of(path) for path in trees.flatten(params)} == set(model.groups)
    features = model.features(params, {}, inputs)
    np.testing.assert_allclose(model.head(params, features), model.apply(params, {}, inputs)[0], atol=1e-5)
    assert features.shape == ((3, 9, 16) if name == "tokens" else (3, 16))


def test_groups_are_in_depth_order_with_the_pooler_before_the_head():
    groups = {name: models.build(spec_of(name)).groups for name in ENDS}
    assert groups["bert"] == ("stem", "block_0", "block_1", "pooler", "head")
    assert groups["roberta"] == groups["tokens"] == ("stem", "block_0", "block_1", "head")
    assert groups["embedding"] == ("stem", "block_0", "block_1")
    assert groups["modernbert"] == ("stem", "block_0", "block_1", "block_2", "norm", "head")


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "modernbert"])
def test_every_parameter_has_a_gradient_but_the_key_biases_which_softmax_cannot_see(name):
    inputs = batch_of([list(range(18)), list(range(18, 36)), [36, 37, 38, 39]], 18)
    _, found = gradient(models.build(spec_of(name)), started(name), inputs)
    still = [path for path, leaf in trees.flatten(found).items() if float(jnp.abs(leaf).max()) < 1e-6]
    assert [path for path in still if not path.endswith("key/bias")] == []


def test_parts_for_tensor_parallelism_fit_every_parameter():
    model = models.build(spec_of("bert"))
    found = {path: model.partition_spec(path, leaf.shape) for path, leaf in trees.flatten(started("bert")).items()}
    assert all(len(found[path]) == leaf.ndim for path, leaf in trees.flatten(started("bert")).items())
    assert found["encoder/block_0/attention/query/kernel"] == (None, "tensor")
    assert found["encoder/block_1/mlp/down/kernel"] == ("tensor", None)
    assert found["stem/word/embedding"] == (None, None)


def test_a_spec_of_text_has_no_image_size_and_comes_back_from_json():
    spec = models.build(spec_of("roberta")).spec
    assert "image_size" not in spec.to_json()
    assert models.ModelSpec.from_json(spec.to_json()) == spec
    assert models.build(spec).longest == 18
    assert models.build(models.ModelSpec("vit", {}, 2, (16, 16))).longest is None


@pytest.mark.parametrize(
    ("held", "output", "pool", "expected"),
    [
        ("bert", "sequence", None, ("pooler", "linear")),
        ("bert", "sequence", "mean", ("mean", "linear")),
        ("bert", "tokens", None, ("pooler", "linear")),
        ("bert", "embedding", None, ("mean", "linear")),
        ("roberta", "sequence", None, ("first", "tanh")),
        ("roberta", "sequence", "pooler", ("pooler", "linear")),
        ("roberta", "tokens", None, ("first", "linear")),
        ("roberta", "embedding", None, ("mean", "linear")),
        ("distilbert", "sequence", "mean", ("mean", "relu")),
        ("mean", "embedding", None, ("mean", "linear")),
        ("tokens", "sequence", None, ("first", "tanh")),
        ("embedding", "embedding", "first", ("first", "linear")),
    ],
)
def test_another_output_gets_the_end_that_is_usual_for_it(held, output, pool, expected):
    options = models.build(spec_of(held)).spec.options
    found = models.for_output("bert", options, output, pool)
    assert (found["output"], found["pool"], found["head"]) == (output, *expected)
    models.build(models.ModelSpec("bert", found, 16))


@pytest.mark.parametrize(
    ("request_of", "message"),
    [
        (lambda: models.build(spec_of("bert", pool="max")), "bert: pool 'max': allowed: 'first', 'mean', 'pooler'"),
        (lambda: models.build(spec_of("bert", activation="gelo")), "bert: activation 'gelo': did you mean 'gelu'?"),
        (lambda: models.build(spec_of("bert", heads=3)), "bert: width 16 is not a multiple of heads 3"),
        (lambda: models.build(spec_of("bert", vocabulary=0)), "bert: vocabulary 0 must be positive"),
        (lambda: models.build(spec_of("bert", position_offset=19)), "bert: positions 20, position_offset 19, segments 2: at least two positions beyond"),
        (lambda: models.build(models.ModelSpec("bert", BODY | ENDS["embedding"], 3)), "bert: an embedding has the model's width 16; num_classes is 3"),
        (lambda: models.build(models.ModelSpec("bert", BODY, 3, (8, 8))), "bert reads text; model.image_size (8, 8) must be left open"),
        (lambda: models.build(models.ModelSpec("vit", {}, 3)), "vit reads images; model.image_size None must be given"),
        (lambda: models.build(models.ModelSpec("resnet", {}, 3, (32, 32)), scan=True), "model.scan: the blocks of resnet are not all alike"),
        (lambda: models.build(spec_of("bert"), scan=True, drop_path=0.1), "model.scan: with model.drop_path=0.1 every block has a rate of its own"),
        (lambda: models.build(models.ModelSpec("vit", {}, 3, (16, 16)), neftune=5.0), "augment.neftune 5.0: vit reads images and has no embeddings of words"),
        (lambda: models.build(spec_of("modernbert"), scan=True), "model.scan: the blocks of modernbert are not all alike, one cannot stand for the others; "),
        (lambda: models.build(spec_of("modernbert", width=6)), "modernbert: width 6 over heads 2 must be even, for rotary positions turn pairs"),
        (lambda: models.build(spec_of("bert"), neftune=-1.0), "augment.neftune -1.0: a number of at least 0 is allowed"),
        (lambda: models.for_output("vit", {}, "tokens"), "vit reads images: output 'tokens' and model.pool=None are of text"),
        (
            lambda: models.build(spec_of("bert")).apply(started("bert"), {}, batch_of([[1]], 21)),
            "text.max_length: a batch of 21 tokens, the model has positions for 20",
        ),
    ],
)
def test_impossible_requests_say_what_would_do(request_of, message):
    with pytest.raises(ConfigError) as refusal:
        request_of()
    assert message in str(refusal.value)


def test_blocks_of_different_kinds_cannot_be_scanned():
    params = started("bert")
    other = {**params["encoder"]["block_1"], "more": jnp.zeros(1)}
    odd = {**params, "encoder": {**params["encoder"], "block_1": other}}
    with pytest.raises(ConfigError, match=r"model\.scan: the parameters of the blocks are not all of one kind"):
        models.build(spec_of("bert"), scan=True).apply(odd, {}, batch_of([[1]], 4))
