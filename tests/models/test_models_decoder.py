"""Decoders: causal within a document, packing and padding change nothing, tied heads, remat, scan, bfloat16, and options that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import models
from ftjax.errors import ConfigError
from ftjax.models import layers, text
from ftjax.trees import flatten

BASE = {"vocabulary": 30, "positions": 32, "width": 16, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 24}
GPT2 = (
    BASE
    | {"kv_heads": 4, "norm": "layer", "position": "learned", "gated": False, "activation": "gelu_tanh"}
    | dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True)
)
GEMMA = BASE | {
    "norm": "rms_one", "post_norms": True, "qk_norm": True, "window": 3, "windowed": [1, 0], "local_theta": 100.0, "attention_cap": 5.0, "logit_cap": 3.0,
    "embedding_scale": 4.0, "query_scale": 0.25, "rope_scaling": "linear", "rope_factor": 4.0,
}  # fmt: skip
KINDS = {"llama": BASE | {"tied": False, "rope_scaling": "llama3", "rope_factor": 8.0, "rope_original": 8}, "gpt2": GPT2, "gemma": GEMMA}


def made(options, **compute):
    """A model, and parameters that are large enough for every part to show."""
    classes = compute.pop("classes", options["vocabulary"])
    model = models.build(models.ModelSpec("decoder", options, classes), **compute)
    params, extra = model.init(jax.random.key(0))
    noisy = [leaf + 0.2 * jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(jax.tree.leaves(params))]
    return model, jax.tree.unflatten(jax.tree.structure(params), noisy), extra


def batch(document, seed=0):
    document = np.asarray(document, np.int32)
    tokens = np.random.default_rng(seed).integers(0, BASE["vocabulary"], document.shape)
    return {"tokens": jnp.asarray(tokens, jnp.int32), "document": jnp.asarray(document)}


@pytest.mark.parametrize("kind", KINDS)
def test_one_packed_document_does_not_move_another_and_what_is_ahead_moves_nothing(kind):
    model, params, extra = made(KINDS[kind])
    run = jax.jit(lambda inputs: model.apply(params, extra, inputs)[0])
    inputs = batch([[0, 0, 1, 1, 1, 2, 2, 2, 2, 0]] * 2)
    before = np.asarray(run(inputs))
    for place in (0, 3, 6, 9):
        other = inputs | {"tokens": inputs["tokens"].at[0, place].set((inputs["tokens"][0, place] + 1) % 30)}
        moved = np.abs(np.asarray(run(other)) - before).max(-1) > 0
        same = np.asarray(inputs["document"][0]) == np.asarray(inputs["document"][0, place])
        assert not moved[1].any()
        assert not moved[0, ~same].any()
        assert not moved[0, :place].any()
        assert moved[0, place]
    features = model.body(params, extra, inputs)[0]
    assert np.array_equal(np.asarray(model.head(params, features)), np.asarray(model.apply(params, extra, inputs)[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_padded_texts_have_the_logits_that_they_have_alone(kind):
    model, params, extra = made(KINDS[kind])
    run = jax.jit(lambda inputs: model.apply(params, extra, inputs)[0])
    packed = batch([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0]])
    found = np.asarray(run(packed))[0]
    for number in (1, 2):
        own = np.asarray(packed["document"][0]) == number
        alone = {"tokens": packed["tokens"][:, own], "document": jnp.ones((1, int(own.sum())), jnp.int32)}
        assert np.abs(np.asarray(run(alone))[0] - found[own]).max() < 2e-5
        masked = {"tokens": alone["tokens"], "mask": jnp.ones((1, int(own.sum())), bool)}
        assert np.array_equal(np.asarray(run(masked)), np.asarray(run(alone)))


def test_neftune_is_told_which_text_a_token_is_of(monkeypatch):
    """Packed texts are told apart; which tokens there are at all would not do."""
    seen = []
    monkeypatch.setattr(text, "noise", lambda key, words, which, alpha: seen.append(which) or jnp.zeros_like(words))
    model = models.build(models.ModelSpec("decoder", BASE, 30), neftune=5.0)
    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    inputs = batch([[1, 1, 2, 0]])
    jax.eval_shape(lambda params, inputs: model.apply(params, extra, inputs, key=jax.random.key(0), train=True), params, inputs)
    assert seen[0].dtype == jnp.int32
    assert seen[0].shape == (1, 4)


def test_a_window_sees_so_many_tokens_and_itself_among_them():
    options = BASE | {"depth": 1, "window": 3}
    model, params, extra = made(options)
    inputs = batch([[1] * 8])
    before = np.asarray(model.apply(params, extra, inputs)[0])
    after = np.asarray(model.apply(params, extra, inputs | {"tokens": inputs["tokens"].at[0, 1].add(1)})[0])
    assert (np.abs(after - before).max(-1)[0] > 0).tolist() == [False, True, True, True, False, False, False, False]


def test_a_tied_head_is_the_table_and_both_uses_move_it():
    model, params, extra = made(BASE)
    assert "head" not in params
    assert model.groups[-1] == "norm"
    inputs = batch([[1] * 5])
    features = model.features(params, extra, inputs)
    assert np.allclose(model.head(params, features), features @ params["stem"]["word"]["embedding"].T, atol=1e-5)

    class Shifted:
        """A leaf that knows its merged value alone."""

        def merged(self):
            return params["stem"]["word"]["embedding"] + 1

    wanted = features @ (params["stem"]["word"]["embedding"] + 1).T
    assert np.allclose(layers.unembed(features, Shifted()), wanted, atol=1e-4)
    gradient = jax.grad(lambda p: model.apply(p, extra, inputs)[0][:, :, 7].sum())(params)["stem"]["word"]["embedding"]
    assert np.abs(np.asarray(gradient)).max(1).nonzero()[0].tolist() == sorted({*np.asarray(inputs["tokens"])[0].tolist(), 7})


def test_a_classifier_reads_the_last_token_before_the_padding():
    model, params, extra = made(BASE | {"output": "sequence"}, classes=3)
    assert sorted(path for path in flatten(params) if path.startswith("head")) == ["head/kernel"]
    inputs = batch([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    tokens = inputs["tokens"].at[1].set(jnp.roll(inputs["tokens"][0], 2))
    left, right = np.asarray(model.apply(params, extra, {"tokens": tokens, "mask": inputs["document"] > 0})[0])
    assert left.shape == (3,)
    assert np.abs(left - right).max() < 1e-5
    changed = np.asarray(model.apply(params, extra, {"tokens": tokens.at[0, 2].add(1), "mask": inputs["document"] > 0})[0])
    assert np.abs(changed[0] - left).max() > 1e-4


def _value_and_grad(model, params, extra, inputs):
    return jax.jit(jax.value_and_grad(lambda p: jnp.square(model.apply(p, extra, inputs, train=True)[0]).mean()))(params)


def test_remat_and_scan_compute_the_same_and_dropout_needs_a_key():
    inputs = batch([[1, 1, 1, 2, 2, 2, 0, 0]])
    found = {}
    for name, compute in {"plain": {}, "remat": {"remat": True}, "scan": {"scan": True}, "narrow": {"precision": "bfloat16"}}.items():
        model, params, extra = made(BASE, **compute)
        found[name] = jax.tree.map(np.asarray, _value_and_grad(model, params, extra, inputs))
    for name, bound in (("remat", 1e-5), ("scan", 1e-5), ("narrow", 5e-2)):
        far = jax.tree.map(lambda a, b: np.abs(a - b).max() / (np.abs(b).max() + 1e-6), found[name], found["plain"])
        assert max(jax.tree.leaves(far)) < bound, name
    model, params, extra = made(BASE, dropout=0.5)
    with pytest.raises(ConfigError, match="need a random key"):
        model.body(params, extra, inputs, train=True)
    one, two = (model.body(params, extra, inputs, key=jax.random.key(seed), train=True)[0] for seed in (1, 2))
    assert np.abs(np.asarray(one - two)).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "decoder: norm 'batch'"),
        ({"kv_heads": 3}, "decoder: heads 4 is not a multiple of kv_heads 3"),
        ({"head_size": 3}, "head_size 3 must be even"),
        ({"windowed": [1, 0]}, "window must be positive"),
        ({"window": 2, "windowed": [1]}, "must have a 0 or a 1 for each of 2 blocks"),
        ({"vocabulary": 31}, "the next token is one of the vocabulary's 31; num_classes is 30"),
        ({"epsilon": 0.0}, "epsilon 0.0 must be positive"),
        ({"rope_high": 1.0}, "rope_high 1.0 must be above rope_low 1.0"),
        ({"logit_cap": -1.0}, "logit_cap -1.0 must be at least 0"),
        ({"output": "tokens"}, "decoder: output 'tokens'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        models.build(models.ModelSpec("decoder", BASE | options, 30))


def test_ends_and_texts_that_there_are_not():
    with pytest.raises(ConfigError, match="decoder: output 'embedding'"):
        models.for_output("decoder", BASE, "embedding")
    with pytest.raises(ConfigError, match="a text is its last token here"):
        models.for_output("decoder", BASE, "sequence", "mean")
    model, params, extra = made(BASE)
    with pytest.raises(ConfigError, match="a batch of 33 tokens, the model has positions for 32"):
        model.apply(params, extra, batch([[1] * 33]))
    mixed, params, extra = made(GEMMA)
    scanned = models.build(mixed.spec, scan=True)
    with pytest.raises(ConfigError, match=r"model.scan: some blocks of this decoder see a window"):
        scanned.apply(params, extra, batch([[1] * 4]))
