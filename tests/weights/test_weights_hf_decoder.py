"""Hugging Face decoders without transformers: written and read again, both spellings of rotary settings, and everything that is refused by its key."""

import dataclasses
import json

import numpy as np
import pytest
from weights_files import loaded_model, target_of, zeros_of

from ftjax import models
from ftjax.errors import WeightsError
from ftjax.trees import flatten
from ftjax.weights import Recognised, open_weights, plan, recognise, save_hugging_face, save_safetensors

BASE = {"vocabulary": 20, "positions": 16, "width": 8, "depth": 2, "heads": 2, "kv_heads": 1, "hidden": 12}
GPT2 = {"kv_heads": 2, "norm": "layer", "position": "learned", "gated": False, "activation": "gelu_tanh"} | dict.fromkeys(
    ("qkv_bias", "out_bias", "mlp_bias"), True
)
GEMMA = {"norm": "rms_one", "post_norms": True, "embedding_scale": 8**0.5, "query_scale": 16**-0.5, "activation": "gelu_tanh", "window": 4, "windowed": [1, 0]}
KINDS = {
    "llama": {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original": 8, "tied": False},
    "qwen2": {"qkv_bias": True, "rope_scaling": "linear", "rope_factor": 2.0},
    "qwen3": {"qk_norm": True, "window": 4, "windowed": [0, 1]},
    "gemma2": GEMMA | {"attention_cap": 50.0, "logit_cap": 30.0},
    "gemma3_text": GEMMA | {"qk_norm": True, "theta": 1e6, "local_theta": 10000.0},
    "gpt2": GPT2,
}


def written(folder, kind, **options):
    """A random model as a directory; gives its spec and leaves."""
    spec = models.build(models.ModelSpec("decoder", BASE | KINDS[kind] | options, 20)).spec
    target = target_of(models.build(spec))
    flat = {path: np.random.default_rng(index).normal(size=shape).astype(np.float32) for index, (path, (shape, _)) in enumerate(sorted(target.items()))}
    save_hugging_face(folder, flat, Recognised("decoder", dict(spec.options), 20, None, "Hugging Face decoder", None), task="language_modeling")
    return spec, flat


def changed(folder, **values):
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again_in_both_spellings(tmp_path, kind):
    spec, flat = written(tmp_path, kind)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == kind
    assert ("lm_head.weight" in open_weights(str(tmp_path)).tensors) == (kind == "llama")
    for gone in (("unknown",), ("rope_parameters",), ("rope_theta", "rope_scaling", "rope_local_base_freq")):
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in gone}))
        source = open_weights(str(tmp_path))
        held = recognise(source)
        again = models.build(models.ModelSpec("decoder", held.options, held.num_classes)).spec
        assert again == dataclasses.replace(spec, options=dict(again.options)), gone
        differ = {name: (value, spec.options[name]) for name, value in again.options.items() if value != pytest.approx(spec.options[name])}
        assert not differ, gone
        (tmp_path / "config.json").write_text(json.dumps(config))
    target = target_of(models.build(spec))
    params, _ = loaded_model(models.build(spec), plan(source, held, target).apply(zeros_of(target)))
    assert all(np.array_equal(flat[path], leaf) for path, leaf in flatten(params).items())


REFUSED = {
    "pretraining_tp": (2, "pretraining_tp=2 is not supported"),
    "partial_rotary_factor": (0.5, "partial_rotary_factor=0.5 is not supported"),
    "quantization_config": ({"bits": 4}, "quantization_config="),
    "num_local_experts": (8, "num_local_experts=8 is not supported"),
    "hidden_act": ("relu6", "hidden_act='relu6'; allowed: gelu"),
    "rope_parameters": ({"rope_type": "yarn", "factor": 2.0}, "rope_type='yarn'; allowed: default, linear, llama3"),
    "num_hidden_layers": (0, "num_hidden_layers=0; allowed: a positive whole number"),
    "vocab_size": (21, "vocab_size=21"),
    "model_type": ("mixtral", "model_type='mixtral' is a language model that is not supported; allowed: llama, qwen2"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_settings_that_cannot_be_computed_are_refused_by_their_key(tmp_path, key):
    written(tmp_path, "llama")
    value, message = REFUSED[key]
    changed(tmp_path, **{key: value})
    with pytest.raises(WeightsError) as caught:
        recognise(open_weights(str(tmp_path)))
    assert message in str(caught.value)


def test_other_settings_of_the_families_are_refused_too(tmp_path):
    for kind, key, value, message in (
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "scale_attn_by_inverse_layer_idx=True is not supported"),
        ("gemma2", "use_bidirectional_attention", True, "use_bidirectional_attention=True"),
        ("gemma2", "layer_types", ["chunked_attention"] * 2, "layer_types="),
        ("gemma3_text", "query_pre_attn_scalar", 0, "query_pre_attn_scalar=0; allowed: a positive number"),
    ):
        written(tmp_path, kind)
        changed(tmp_path, **{key: value})
        with pytest.raises(WeightsError, match=message.replace("[", r"\[")):
            recognise(open_weights(str(tmp_path)))
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"Hugging Face decoder, whose heads and epsilons only config\.json tells"):
        recognise(open_weights(str(tmp_path)))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("llama", {"embedding_scale": 2.0}, "transformers' llama has no embedding_scale=2.0"),
        ("llama", {"window": 4}, "has no window=4"),
        ("qwen3", {"logit_cap": 3.0}, "transformers' qwen3 has no logit_cap=3.0"),
        ("gemma2", {"embedding_scale": 2.0}, "scales embeddings by sqrt"),
        ("qwen2", {"head_size": 6}, "transformers' qwen2 has no head_size=6"),
    ],
)
def test_models_that_transformers_has_not_are_not_written(tmp_path, kind, options, message):
    with pytest.raises(WeightsError, match=message):
        written(tmp_path, kind, **options)


def test_a_body_of_language_becomes_a_classifier_with_a_new_head(tmp_path):
    written(tmp_path, "llama")
    source = open_weights(str(tmp_path))
    held = recognise(source)
    options = models.for_output("decoder", held.options, "sequence")
    model = models.build(models.ModelSpec("decoder", options, 20))  # as many classes as tokens: the old head would fit, and must not be taken
    made = plan(source, dataclasses.replace(held, options=dict(options)), target_of(model))
    assert [row.target for row in made.rows if row.action == "initialised"] == ["head/kernel"]
    assert [name for name, _ in made.ignored] == ["lm_head.weight"]


def test_a_tied_head_that_is_in_the_file_is_left_out_by_name(tmp_path):
    spec, _ = written(tmp_path, "qwen3")
    source = open_weights(str(tmp_path))
    tensors = {name: np.asarray(source.tensors[name]) for name in source.tensors}
    embedding = tensors["model.embed_tokens.weight"]
    tensors |= {"lm_head.weight": embedding, "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}
    save_safetensors(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    source = open_weights(str(tmp_path))
    made = plan(source, recognise(source), target_of(models.build(spec)))
    assert sorted(name for name, _ in made.ignored) == ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]


@pytest.mark.parametrize(("tokens", "pads"), [({"<unk>": 0, "<s>": 1, "</s>": 2}, 0), ({"</s>": 2, "<pad>": 3}, 3), ({"<|endoftext|>": 5}, 5)])
def test_a_classifier_whose_model_had_no_padding_gets_one(tmp_path, tokens, pads):
    written(tmp_path / "in", "llama")
    changed(tmp_path / "in", pad_token_id=None, bos_token_id=1, eos_token_id=2)
    (tmp_path / "in/tokenizer_config.json").write_text(json.dumps({"add_bos_token": True}))
    added = [{"content": token, "id": number, "special": True} for token, number in tokens.items()]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    held = recognise(open_weights(str(tmp_path / "in")))
    options = models.for_output("decoder", held.options, "sequence")
    model = models.build(models.ModelSpec("decoder", options, 2))
    target = target_of(model)
    held = dataclasses.replace(held, options=dict(model.spec.options), num_classes=2, classes=("a", "b"))
    save_hugging_face(tmp_path / "out", zeros_of(target), held, task="classification", tokenizer=tmp_path / "tokenizer.json", carried=tmp_path / "in")
    config, beside = (json.loads((tmp_path / "out" / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
    assert (config["pad_token_id"], config["eos_token_id"]) == (pads, 2)
    assert beside == {"add_bos_token": True, "pad_token": next(token for token, number in tokens.items() if number == pads)}
