"""Generation: the cache computes what the whole text would, sampling draws what it says, batch mates and pauses change nothing, stops are exact."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import models
from ftjax.errors import ConfigError
from ftjax.evaluation.generation import Generator, first_stop
from ftjax.evaluation.sampling import Choice, Sampling, best, drawn
from ftjax.models.decoder import empty_cache

BASE = {"vocabulary": 30, "positions": 80, "width": 16, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 24}
GPT2 = {"kv_heads": 4, "norm": "layer", "position": "learned", "gated": False, "qkv_bias": True}
GEMMA = {"norm": "rms_one", "post_norms": True, "qk_norm": True, "window": 4, "windowed": [1, 0], "local_theta": 100.0, "attention_cap": 5.0, "logit_cap": 9.0}
KINDS = {"llama": {"tied": False}, "gpt2": GPT2, "gemma": GEMMA}


def made(options=None, **compute):
    model = models.build(models.ModelSpec("decoder", BASE | (options or {}), 30), **compute)
    target = jax.eval_shape(model.init, jax.random.key(0))[0]
    leaves, tree = jax.tree.flatten(target)
    rng = np.random.default_rng(0)
    return model, jax.tree.unflatten(tree, [jnp.asarray(rng.normal(0, 0.6, leaf.shape), jnp.float32) for leaf in leaves])


class Letters:
    """A tokenizer whose token i is the i-th of these pieces."""

    pieces = (*"abcdefghijklmnopqrstuvwxyz .\n", "")

    @property
    def engine(self):
        return types.SimpleNamespace(decode=lambda ids, skip_special_tokens: "".join(self.pieces[index] for index in ids))

    opening = ()

    def encode_apart(self, texts):
        return [types.SimpleNamespace(ids=[self.pieces.index(letter) for letter in text]) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_with_the_cache_are_those_of_the_whole_text(kind):
    model, params = made(KINDS[kind])
    document = jnp.asarray([[0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [1] * 10], jnp.int32)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 30, document.shape), jnp.int32)
    whole = np.asarray(jax.jit(model.apply)(params, {}, {"tokens": tokens, "document": document})[0])
    run = jax.jit(model.continued)
    cache, parts = empty_cache(model.spec, 2, 10), []
    for start, end in ((0, 5), *((place, place + 1) for place in range(5, 10))):
        features, cache = run(params, {"tokens": tokens[:, start:end], "document": document, "start": jnp.int32(start)}, cache)
        parts.append(model.head(params, features))
    seen = np.asarray(document) > 0
    assert np.abs(np.concatenate(parts, 1) - whole)[seen].max() < 1e-5 * max(1, np.abs(whole).max())


def test_greedy_tokens_are_the_best_of_the_whole_text_and_batch_mates_change_nothing():
    model, params = made(GEMMA, remat=True)
    generator = Generator(model, params)
    prompts = [[3, 4, 5], [7], list(range(14))]
    together = generator.tokens(prompts, Sampling(max_tokens=12))
    run = jax.jit(model.apply)
    for prompt, written in zip(prompts, together):
        assert len(written.tokens) == 12
        assert (written.ended, written.text) == ("length", "")
        tokens = np.zeros((1, 26), np.int32)
        whole = [*prompt, *written.tokens]
        tokens[0, : len(whole)] = whole
        document = (np.arange(26) < len(whole)).astype(np.int32)[None]
        logits = np.asarray(run(params, {}, {"tokens": jnp.asarray(tokens), "document": jnp.asarray(document)})[0])[0]
        assert logits[len(prompt) - 1 : len(whole) - 1].argmax(-1).tolist() == list(written.tokens)
    hot = Sampling(max_tokens=12, temperature=1.5, top_k=20, top_p=0.95, seed=5)
    drawn_together = generator.tokens(prompts, hot, ids=[11, 5, 9])
    assert generator.tokens([[7], [7]], hot, ids=[5, 6])[0] == drawn_together[1]
    assert generator.tokens([[7], [3, 4, 5]], hot, ids=[6, 11])[1] == drawn_together[0]
    assert generator.tokens([[7], [7]], hot, ids=[5, 6])[1] != drawn_together[1]
    end = together[0].tokens[4]
    stopped = generator.tokens(prompts, Sampling(max_tokens=12, stop_ids=(end, 1000)))
    for before, after in zip(together, stopped):
        count = before.tokens.index(end) + 1 if end in before.tokens else 12
        assert after.tokens == before.tokens[:count]
        assert after.ended == ("token" if end in before.tokens else "length")


def test_texts_stop_at_strings_that_span_tokens_and_pauses():
    model, params = made()
    generator = Generator(model, params, Letters())
    plain = generator.texts(["ab", "hello."], Sampling(max_tokens=40, temperature=3.0))
    assert [len(written.tokens) for written in plain] == [40, 40]
    for cut in (1, 15, 16, 17, 30):  # around the pauses after 16 and 32 tokens
        stops = tuple(written.text[cut : cut + 3] for written in plain)
        found = generator.texts(["ab", "hello."], Sampling(max_tokens=40, temperature=3.0, stop=stops))
        for before, after in zip(plain, found):
            first = min(before.text.find(stop) for stop in stops if stop in before.text)
            assert after.text == before.text[:first]
            assert after.ended == "string"
            assert after.tokens == before.tokens[: len(after.tokens)]
            assert any(stop in Letters().engine.decode(after.tokens, True) for stop in stops)
            assert not any(stop in Letters().engine.decode(after.tokens[:-1], True) for stop in stops)


def test_the_first_stop_is_found_after_the_token_that_completes_it():
    text = "".join
    assert first_stop(text, ["on", "e t", "wo", " three"], 0, ["two", "e"]) == (2, "on")
    assert first_stop(text, ["on", "e t", "wo", " three"], 2, ["two"]) == (3, "one ")
    assert first_stop(text, ["a", "bcd"], 0, ["d", "bc"]) == (2, "a")
    assert first_stop(text, ["a", "b"], 0, ["abc"]) is None


def test_draws_have_the_distribution_that_was_asked_for():
    logits = jnp.asarray([[1.0, 2.0, 0.0, 1.5, -1.0, 2.0]])
    keys = jax.random.split(jax.random.key(0), 20000)
    run = jax.jit(lambda choice: drawn(jnp.repeat(logits, len(keys), 0), keys, choice))
    for temperature, top_k, top_p, allowed in (
        (1.0, 0, 1.0, range(6)),
        (2.0, 3, 1.0, (1, 5, 3)),
        (0.5, 0, 0.6, (1, 5)),
        (1.0, 2, 1.0, (1, 5)),
        (1.0, 0, 0.01, (1,)),
    ):
        weights = np.where(np.isin(np.arange(6), list(allowed)), np.exp(np.asarray(logits[0]) / temperature), 0)
        wanted = weights / weights.sum()
        counts = np.bincount(np.asarray(run(Choice.of(Sampling(temperature=temperature, top_k=top_k, top_p=top_p)))), minlength=6) / len(keys)
        assert np.abs(counts - wanted).max() < 4 * 0.5 / len(keys) ** 0.5
        assert (counts[wanted == 0] == 0).all()
    assert best(logits).tolist() == [1]


@pytest.mark.parametrize(
    ("prompts", "sampling", "message"),
    [
        ([[1], []], {}, "prompt 1 has no token; allowed: at least one"),
        ([[1, 30]], {}, "prompt 0 has tokens 1 to 30; allowed: 0 to 29"),
        ([[1] * 10], {"max_tokens": 76}, "prompt 0 has 10 tokens of the model's 80; max_tokens=76 does not fit, allowed: at most 70"),
        ([[1]], {"stop": ("x",)}, "stop strings need a tokenizer"),
        ([[1]], {"temperature": -1.0}, "sampling: temperature=-1.0; allowed: at least 0"),
        ([[1]], {"top_p": 0.0}, "sampling: top_p=0.0; allowed: above 0 and at most 1"),
        ([[1]], {"max_tokens": 0}, "sampling: max_tokens=0; allowed: at least 1"),
        ([[1]], {"stop": ("",)}, "sampling: stop="),
    ],
)
def test_what_cannot_be_written_is_refused(prompts, sampling, message):
    model, params = made()
    with pytest.raises(ConfigError, match=message):
        Generator(model, params).tokens(prompts, Sampling(**sampling))


@pytest.mark.parametrize("puts", ["<s> $A </s>", "<s> $A", "$A </s>"])
def test_texts_get_what_stands_before_a_text_and_nothing_behind_it(tmp_path, monkeypatch, puts):
    import tiny_language as tiny
    from tokenizers import Tokenizer, processors

    file = tiny.write_tokenizer(tmp_path / "t") / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.post_processor = processors.TemplateProcessing(single=puts, special_tokens=[("<s>", 256), ("</s>", 257)])
    tokenizer.save(str(file))
    seen = []
    monkeypatch.setattr(Generator, "tokens", lambda self, prompts, *_, **__: seen.extend(prompts))
    ours = tiny.open_tokenizer(tmp_path / "t", "t")
    Generator(*made(), ours).texts(["ab", "", "c</s>"], Sampling())
    opening = "<s>" if puts.startswith("<s>") else ""
    assert [ours.engine.decode(prompt, skip_special_tokens=False) for prompt in seen] == [f"{opening}ab", opening, f"{opening}c</s>"]


def test_models_that_do_not_write_and_missing_parts():
    model, params = made()
    with pytest.raises(ConfigError, match="texts need a tokenizer"):
        Generator(model, params).texts(["a"], Sampling())
    with pytest.raises(ConfigError, match="2 ids for 1 prompts"):
        Generator(model, params).tokens([[1]], Sampling(), ids=[1, 2])
    assert Generator(model, params).tokens([], Sampling()) == []
    classifier = models.build(models.ModelSpec("decoder", BASE | {"output": "sequence"}, 3))
    with pytest.raises(ConfigError, match="decoder with output 'sequence' does not write"):
        Generator(classifier, params)
