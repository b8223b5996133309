"""Greedy text equals that of transformers' generate, on the real stories260K (also the published text) and on random models of every family."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from ftjax import models
from ftjax.data.text.tokenizer import open_tokenizer
from ftjax.evaluation.generation import Generator
from ftjax.evaluation.sampling import Sampling
from ftjax.trees import flatten, unflatten
from ftjax.weights import Recognised, open_weights, plan, recognise, save_hugging_face

pytestmark = pytest.mark.parity
BASE = {"vocabulary": 40, "positions": 64, "width": 16, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 24, "head_size": 4}
GPT2 = {"kv_heads": 4, "norm": "layer", "position": "learned", "gated": False, "activation": "gelu_tanh"} | dict.fromkeys(
    ("qkv_bias", "out_bias", "mlp_bias"), True
)
GEMMA = {"norm": "rms_one", "post_norms": True, "embedding_scale": 4.0, "query_scale": 12**-0.5, "activation": "gelu_tanh", "window": 5, "windowed": [1, 0]}
KINDS = {
    "llama": {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original": 8},
    "qwen2": {"qkv_bias": True, "tied": False, "window": 4, "windowed": [0, 1]},
    "qwen3": {"qk_norm": True},
    "gemma2": GEMMA | {"attention_cap": 5.0, "logit_cap": 9.0},
    "gemma3": GEMMA | {"qk_norm": True, "theta": 1e4, "local_theta": 100.0},
    "gpt2": GPT2,
}
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play "
    "with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play "
    "with your ball, but I can't find it.\"\nLily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\n"
    "Lily didn't want to help her mom, so she"
)
"""What llama2.c's own test expects of this model at temperature 0 in 200 steps."""
PROMPTS = [[5, 6, 7], [9], [3, 30, 8, 1, 12, 39, 4, 4, 20]]


@pytest.fixture(scope="module")
def hf():
    """The package transformers, or a skip."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def theirs(hf, folder, prompts, count):
    """What generate writes after each prompt by itself."""
    import torch

    model = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    told = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        found = [model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), **told)[0] for prompt in prompts]
    return [tuple(ids[len(prompt) :].tolist()) for ids, prompt in zip(found, prompts)]


def loaded(folder):
    source = open_weights(str(folder))
    held = recognise(source)
    model = models.build(models.ModelSpec(held.family, held.options, held.options["vocabulary"]))
    target = {path: (leaf.shape, leaf.dtype) for path, leaf in flatten(jax.eval_shape(model.init, jax.random.key(0))[0]).items()}
    zeros = {path: np.zeros(shape, dtype) for path, (shape, dtype) in target.items()}
    return model, unflatten(plan(source, held, target).apply(zeros))


@pytest.mark.parametrize("kind", KINDS)
def test_random_models_write_what_transformers_writes(hf, tmp_path, kind):
    spec = models.build(models.ModelSpec("decoder", BASE | KINDS[kind], 40)).spec
    target = flatten(jax.eval_shape(models.build(spec).init, jax.random.key(0))[0])
    rng = np.random.default_rng(3)
    flat = {path: rng.normal(0, 0.1 if path.endswith("bias") else 0.6, leaf.shape).astype(np.float32) for path, leaf in target.items()}
    save_hugging_face(tmp_path, flat, Recognised("decoder", dict(spec.options), 40, None, "Hugging Face decoder", None), task="language_modeling")
    model, params = loaded(tmp_path)
    ours = [written.tokens for written in Generator(model, params).tokens(PROMPTS, Sampling(max_tokens=20))]
    assert len(set(ours)) == len(ours)
    assert ours == theirs(hf, tmp_path, PROMPTS, 20)


def test_the_real_small_llama_writes_the_published_story(hf):
    if "FTJAX_SHARED_DATA" not in os.environ:
        pytest.skip("FTJAX_SHARED_DATA is not set")
    folder = Path(os.environ["FTJAX_SHARED_DATA"]) / "weights/stories260K"
    model, params = loaded(folder)
    generator = Generator(model, params, open_tokenizer(folder, str(folder)))
    prompts = ["", "Once upon a time", "Tom and his dog"]
    found = generator.texts(prompts, Sampling(max_tokens=200, stop_ids=(1, 2)))
    assert found[0].text.strip() == STORY
    ids = [encoding.ids for encoding in open_tokenizer(folder, str(folder)).engine.encode_batch(prompts)]
    assert ids[0] == [1]
    wanted = theirs(hf, folder, ids, 200)
    assert [written.tokens for written in found] == [tokens[: len(written.tokens)] for tokens, written in zip(wanted, found)]
    stopped = generator.texts(prompts, Sampling(max_tokens=200, stop=("named Lily", "dog")))
    assert stopped[0].text == found[0].text[: found[0].text.index("named Lily")]
