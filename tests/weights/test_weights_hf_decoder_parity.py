"""Hugging Face decoders in and out: logits equal those of transformers on the golden files, the real stories260K and random models of every family."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_files import loaded_model, target_of, zeros_of

from ftjax import models
from ftjax.trees import flatten
from ftjax.weights import open_weights, plan, recognise, save_hugging_face

pytestmark = pytest.mark.parity
GOLDEN = ("llama", "llama_cls", "qwen2", "qwen3", "gemma3", "gpt2", "r_gpt2", "r_qwen3", "sharded")
BASE = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40}
BASE |= {"max_position_embeddings": 64, "initializer_range": 0.4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 300.0}
GEMMA = BASE | {"head_dim": 8, "query_pre_attn_scalar": 12, "sliding_window": 5}
CASES = {
    "llama": ("Llama", BASE | {"tie_word_embeddings": True, "rope_parameters": {**LLAMA3, "original_max_position_embeddings": 8}}),
    "llama_biased": ("Llama", BASE | {"attention_bias": True, "mlp_bias": True, "head_dim": 10, "rope_parameters": LINEAR}),
    "qwen2": ("Qwen2", BASE | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("Qwen3", BASE | {"head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", GEMMA | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}),
    "gemma3": (
        "Gemma3Text",
        GEMMA
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": LINEAR, "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}},
        },
    ),
    "gpt2": ("GPT2", {"vocab_size": 60, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.4}),
}


@pytest.fixture(scope="module")
def hf():
    """The package transformers, or a skip."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def shared():
    """The shared data, or a skip."""
    if "FTJAX_SHARED_DATA" not in os.environ:
        pytest.skip("FTJAX_SHARED_DATA is not set")
    return Path(os.environ["FTJAX_SHARED_DATA"])


def loaded(folder):
    source = open_weights(str(folder))
    held = recognise(source)
    model = models.build(models.ModelSpec(held.family, held.options, held.num_classes or held.options["vocabulary"]))
    target = target_of(model)
    return model, held, *loaded_model(model, plan(source, held, target).apply(zeros_of(target)))


def texts(vocabulary, length=18):
    """Three rows: whole, padded on the right, padded on the left; padding is 0 and no text has it."""
    mask = np.ones((3, length), bool)
    mask[1, -5:], mask[2, :7] = False, False
    return np.where(mask, np.random.default_rng(0).integers(1, vocabulary, mask.shape), 0).astype(np.int32), mask


def theirs(hf, folder, output, tokens, mask):
    import torch

    kind = hf.AutoModelForSequenceClassification if output == "sequence" else hf.AutoModelForCausalLM
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    if output == "sequence":
        model.config.pad_token_id = 0
    positions = torch.tensor(np.maximum(mask.cumsum(1) - 1, 0))
    with torch.no_grad():
        return model(input_ids=torch.tensor(tokens).long(), attention_mask=torch.tensor(mask).long(), position_ids=positions).logits.numpy()


def differ(hf, folder):
    """The largest difference over the largest logit (or 1), and our model."""
    model, held, params, extra = loaded(folder)
    tokens, mask = texts(model.spec.options["vocabulary"])
    ours = np.asarray(jax.jit(model.apply)(params, extra, {"tokens": jnp.asarray(tokens), "mask": jnp.asarray(mask)})[0])
    wanted = theirs(hf, folder, model.spec.options["output"], tokens, mask)
    seen = mask if ours.ndim == 3 else slice(None)
    assert np.ptp(wanted[seen]) > 0.05
    return np.abs(ours[seen] - wanted[seen]).max() / max(1, np.abs(wanted[seen]).max()), (model, held, params)


def again(folder, model, held, params, **carried):
    task = "classification" if model.spec.options["output"] == "sequence" else "language_modeling"
    save_hugging_face(folder, {name: np.asarray(leaf) for name, leaf in flatten(params).items()}, _complete(model, held), task=task, **carried)


def _complete(model, held):
    return dataclasses.replace(held, options=dict(model.spec.options))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_models_have_their_logits(hf, shared, name):
    assert differ(hf, shared / "golden/models" / name)[0] < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_random_models_in_and_out(hf, tmp_path, name):
    import torch

    stem, values = CASES[name]
    torch.manual_seed(0)
    config = getattr(hf, f"{stem}Config")(**values)
    theirs_class = "GPT2LMHeadModel" if stem == "GPT2" else f"{stem.removesuffix('Text')}ForCausalLM"
    model = getattr(hf, theirs_class)(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms and biases start at one and zero, where mistakes do not show
                parameter.add_(0.3 * torch.randn_like(parameter))
            assert parameter.isfinite().all(), key
    model.save_pretrained(tmp_path / "in")
    far, held = differ(hf, tmp_path / "in")
    assert far < 3e-5
    again(tmp_path / "out", *held, carried=tmp_path / "in")
    assert differ(hf, tmp_path / "out")[0] < 3e-5
    first, second = (open_weights(str(tmp_path / side)).tensors for side in ("in", "out"))
    assert sorted(first) == sorted(second)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert [written[key] for key in ("model_type", "architectures")] == [config.model_type, [theirs_class]]
    assert (tmp_path / "out/generation_config.json").read_text() == (tmp_path / "in/generation_config.json").read_text()


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_classifiers_in_and_out(hf, tmp_path, name):
    import torch

    stem, values = CASES[name]
    torch.manual_seed(1)
    config = getattr(hf, f"{stem}Config")(**{**values, "pad_token_id": 0, "num_labels": 3})
    getattr(hf, f"{stem}ForSequenceClassification")(config).save_pretrained(tmp_path / "in")
    far, held = differ(hf, tmp_path / "in")
    assert far < 1e-5
    again(tmp_path / "out", *held, carried=tmp_path / "in")
    assert differ(hf, tmp_path / "out")[0] < 1e-5


def test_files_in_bfloat16_with_the_spelling_of_transformers_4(hf, tmp_path):
    import torch

    torch.manual_seed(2)
    values = GEMMA | {"num_hidden_layers": 6, "sliding_window": 5}
    config = hf.Gemma3TextConfig(**values)
    hf.Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "new", max_shard_size="20KB")
    assert differ(hf, tmp_path / "new")[0] < 1e-5
    spelled = json.loads((tmp_path / "new/config.json").read_text())
    old = {key: value for key, value in spelled.items() if key not in ("rope_parameters", "layer_types", "_sliding_window_pattern", "dtype")}
    old |= {"rope_theta": 1e6, "rope_local_base_freq": 10000.0, "rope_scaling": None, "sliding_window_pattern": 6, "torch_dtype": "bfloat16"}
    new = loaded(tmp_path / "new")[0].spec
    (tmp_path / "new/config.json").write_text(json.dumps(old))
    assert loaded(tmp_path / "new")[0].spec == new


def test_the_real_small_llama_in_and_out(hf, shared, tmp_path):
    far, held = differ(hf, shared / "weights/stories260K")
    assert far < 1e-5
    again(tmp_path, *held, carried=shared / "weights/stories260K")
    assert differ(hf, tmp_path)[0] < 1e-5
    assert "lm_head.weight" not in open_weights(str(tmp_path)).tensors
