"""Prompts: new inputs are what the papers say, for every family, packed, padded and written."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import adapters, models, trees
from ftjax.config import AdapterConfig
from ftjax.errors import ConfigError
from ftjax.evaluation.generation import Generator
from ftjax.evaluation.sampling import Sampling
from ftjax.models import ModelSpec, vit
from ftjax.models.spec import Compute

VIT = ModelSpec("vit", {"patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0}, 3, (16, 16))
TEXT = {"vocabulary": 20, "positions": 24, "width": 16, "depth": 3, "heads": 2, "hidden": 24}
ENCODERS = {"bert": ModelSpec("bert", TEXT | {"pool": "mean"}, 3), "modernbert": ModelSpec("modernbert", TEXT | {"window": 2, "pool": "mean"}, 3)}
LLAMA = TEXT | {"heads": 4, "kv_heads": 2, "tied": False}
N = 3


def noisy(model):
    """Parameters that are large enough for every part to show."""
    params = model.init(jax.random.key(0))[0]
    leaves = [leaf + 0.2 * jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(jax.tree.leaves(params))]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def prompted(params, kind, size=1.0):
    bound, rows = adapters.bind(params, AdapterConfig(kind=kind, tokens=N), jax.random.key(1))
    tokens = {f"{row.path}/tokens": size * jax.random.normal(jax.random.key(len(row.path) + index), row.shape) for index, row in enumerate(rows)}
    return trees.map_with_path(lambda path, leaf: tokens.get(path, leaf), bound)


def texts(rows, length, left=False):
    """Texts padded on one side, with tokens in the padding that nobody may see."""
    tokens, mask = np.full((len(rows), length), 7, np.int32), np.zeros((len(rows), length), bool)
    for index, row in enumerate(rows):
        place = slice(length - len(row), length) if left else slice(0, len(row))
        tokens[index, place], mask[index, place] = row, True
    return {"tokens": jnp.asarray(tokens), "mask": jnp.asarray(mask), "segments": jnp.zeros_like(tokens)}


@pytest.mark.parametrize("kind", ["vpt", "prompt"])
def test_a_vision_transformer_with_prompts_is_the_published_one(kind):
    """VPT (Jia et al. 2022): the blocks see [tokens, prompts]; deep ones are replaced before every block, shallow ones go through all."""
    model = models.build(VIT)
    params, images = prompted(noisy(model), kind), jax.random.normal(jax.random.key(2), (2, 16, 16, 3))
    compute = Compute()
    x = vit.Stem(8, 16, False, compute).apply({"params": {name: leaf for name, leaf in params["stem"].items() if name != "prompt"}}, images)
    length = x.shape[1]
    for index in range(2):
        own = params["encoder"][f"block_{index}"]
        found = (own if kind == "vpt" else params["stem"]).get("prompt")["tokens"]
        x = x if kind == "prompt" and index else jnp.concatenate([x[:, :length], jnp.broadcast_to(found[None], (2, N, 16))], axis=1)
        block = vit.Block(2, 32, 1e-6, False, 0.0, compute)
        x = block.apply({"params": {name: leaf for name, leaf in own.items() if name != "prompt"}}, x, False)
    features = vit.LayerNorm(1e-6, compute).apply({"params": params["norm"]}, x[:, 0])
    np.testing.assert_allclose(model.features(params, {}, images), features, rtol=1e-4, atol=1e-5)
    for other in ({"scan": True}, {"remat": True}):
        np.testing.assert_allclose(models.build(VIT, **other).features(params, {}, images), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("kind", ["vpt", "prompt"])
def test_padding_changes_nothing_of_a_text_with_prompts(family, kind):
    model = models.build(ENCODERS[family])
    plain = noisy(model)
    params, rows = prompted(plain, kind), [[3, 4, 5, 6, 8], [9, 1]]
    run = jax.jit(lambda inputs: model.apply(params, {}, inputs)[0])
    alone = np.concatenate([run(texts([row], len(row))) for row in rows])
    for left in (False, True):
        np.testing.assert_allclose(run(texts(rows, 8, left)), alone, rtol=1e-4, atol=1e-4)
    assert not np.allclose(alone, model.apply(plain, {}, texts(rows, 8))[0], atol=1e-2)


def longer(params, tokens):
    """A decoder whose vocabulary has the prompt's tokens as further words: what a prompt is by definition (Lester et al. 2021)."""
    flat = trees.flatten(params)
    flat["stem/word/embedding"] = jnp.concatenate([flat["stem/word/embedding"], tokens])
    flat["head/kernel"] = jnp.pad(flat["head/kernel"], ((0, 0), (0, N)))
    return models.build(ModelSpec("decoder", LLAMA | {"vocabulary": 20 + N}, 20 + N)), trees.unflatten(flat)


@pytest.mark.parametrize("compute", [{}, {"scan": True}])
def test_a_decoders_prompt_stands_before_every_packed_text_as_words_would(compute):
    model = models.build(ModelSpec("decoder", LLAMA, 20), **compute)
    plain = noisy(model)
    params = prompted(plain, "prompt", size=0.5)
    reference, theirs = longer(plain, params["stem"]["prompt"]["tokens"])
    packed = {"tokens": jnp.asarray([[3, 4, 5, 6, 8, 9, 1]]), "document": jnp.asarray([[1, 1, 1, 1, 2, 2, 2]])}
    found = model.apply(params, {}, packed)[0][0]
    for start, stop in ((0, 4), (4, 7)):
        tokens = jnp.concatenate([jnp.arange(20, 20 + N), packed["tokens"][0, start:stop]])[None]
        expected = reference.apply(theirs, {}, {"tokens": tokens, "document": jnp.ones_like(tokens)})[0][0, N:, :20]
        np.testing.assert_allclose(found[start:stop], expected, rtol=1e-4, atol=1e-4)


def test_what_a_decoder_writes_after_its_prompt_is_what_it_writes_after_the_words():
    model = models.build(ModelSpec("decoder", LLAMA, 20))
    plain = noisy(model)
    params = prompted(plain, "prompt", size=0.5)
    reference, theirs = longer(plain, params["stem"]["prompt"]["tokens"])
    asked, words = [[3, 4, 5], [6]], list(range(20, 20 + N))
    ours = Generator(model, params).tokens(asked, Sampling(max_tokens=5))
    # Its head gives the prompt's words a logit of 0, which is not always below the others: what it may write is compared up to one of them.
    expected = Generator(reference, theirs).tokens([[*words, *row] for row in asked], Sampling(max_tokens=5))
    for one, other in zip(ours, expected):
        upto = next((index for index, token in enumerate(other.tokens) if token >= 20), 5)
        assert one.tokens[:upto] == other.tokens[:upto]
    assert [len(one.tokens) for one in ours] == [5, 5]


@pytest.mark.parametrize("kind", ["prompt", "vpt"])
def test_writing_with_a_cache_is_reading_all_again(kind):
    model = models.build(ModelSpec("decoder", LLAMA | {"window": 3, "windowed": [1, 0, 1], "local_theta": 100.0}, 20))
    params = prompted(noisy(model), kind, size=0.5)
    written = Generator(model, params).tokens([[3, 4, 5]], Sampling(max_tokens=4))[0].tokens
    tokens = [3, 4, 5]
    for token in written:
        logits = model.apply(params, {}, {"tokens": jnp.asarray([tokens]), "document": jnp.ones((1, len(tokens)), jnp.int32)})[0][0, -1]
        assert int(logits.argmax()) == token
        tokens.append(token)


def test_tokens_start_as_the_papers_have_them_and_by_path():
    params = models.build(ModelSpec("decoder", LLAMA, 20)).init(jax.random.key(0))[0]
    bound, rows = adapters.bind(params, AdapterConfig(kind="vpt", tokens=N), jax.random.key(1))
    assert [row.path for row in rows] == [f"encoder/block_{index}/prompt" for index in range(3)]
    assert sum(row.parameters for row in rows) == 3 * N * 16
    table, first = params["stem"]["word"]["embedding"], bound["encoder"]["block_0"]["prompt"]["tokens"]
    assert all((np.asarray(table) == np.asarray(token)[None]).all(1).any() for token in first), "rows of the table of words"
    images = models.build(VIT).init(jax.random.key(0))[0]
    tokens = adapters.bind(images, AdapterConfig(kind="prompt", tokens=100), jax.random.key(1))[0]["stem"]["prompt"]["tokens"]
    bound = np.sqrt(6 / (3 * 8 * 8 + 16))
    assert 0.8 * bound < float(jnp.abs(tokens).max()) <= bound
    assert adapters.has_prompts({"stem": {"prompt": {"tokens": tokens}}})
    assert jax.tree.structure(adapters.without_prompts({**images, "stem": images["stem"] | {"prompt": {"tokens": tokens}}})) == jax.tree.structure(images)


def test_a_model_without_attention_takes_none():
    params = models.build(ModelSpec("convnext", {"patch": 2, "widths": [8], "depths": [1]}, 3, (16, 16))).init(jax.random.key(0))[0]
    with pytest.raises(ConfigError, match=r"adapter\.kind='vpt': this model has no attention, so nothing would read new tokens; allowed for transformers"):
        adapters.bind(params, AdapterConfig(kind="vpt"), jax.random.key(1))
