"""A soft prompt in peft's form: its one key, and the same logits there."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from weights_files import build, loaded_model, target_of, zeros_of

from ftjax.errors import WeightsError
from ftjax.weights import Recognised, open_weights, plan, recognise, write_prompt

DECODER = {"output": "language", "position": "rotary", "window": 0, "embedding_scale": 1.0, "depth": 2, "heads": 4}


def held(**changed) -> Recognised:
    return Recognised("decoder", DECODER | changed, 20, None, "Hugging Face Llama", None)


def test_the_folder_has_one_key_and_what_peft_asks_for(tmp_path):
    tokens = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    write_prompt(tmp_path / "out", tokens, held(), base_name="owner/name")
    np.testing.assert_array_equal(open_weights(str(tmp_path / "out" / "adapter_model.safetensors")).tensors["prompt_embeddings"], tokens)
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert list(settings) == sorted(settings)
    assert (settings["peft_type"], settings["num_virtual_tokens"], settings["token_dim"], settings["num_layers"]) == ("PROMPT_TUNING", 5, 8, 2)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"output": "sequence"}, "does not write"),
        ({"position": "learned"}, "has learned positions"),
        ({"window": 3}, "has blocks that see a window alone"),
        ({"embedding_scale": 4.0}, "scales its words"),
    ],
)
def test_a_model_whose_prompt_peft_would_compute_otherwise_is_refused(tmp_path, changed, why):
    with pytest.raises(WeightsError, match=f"with rotary positions, and this model {why}; allowed: the run's own model/"):
        write_prompt(tmp_path / "out", np.zeros((2, 8), np.float32), held(**changed), base_name=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_peft_answers_as_we_do(tmp_path, shared_data):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    folder = shared_data / "golden" / "models" / "llama"
    source = open_weights(str(folder))
    found = recognise(source)
    model = build(found)
    target = target_of(model)
    params, _ = loaded_model(model, plan(source, found, target).apply(zeros_of(target)))
    tokens = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    params = {**params, "stem": {**params["stem"], "prompt": {"tokens": jnp.asarray(tokens)}}}
    write_prompt(tmp_path / "out", tokens, found, base_name=str(folder))
    theirs = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(folder), tmp_path / "out").eval()
    asked = np.random.default_rng(1).integers(3, 90, (2, 7))
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(asked), attention_mask=torch.ones((2, 7), dtype=torch.long)).logits[:, 5:].numpy()
    ours = model.apply(params, {}, {"tokens": jnp.asarray(asked, jnp.int32), "document": jnp.ones((2, 7), jnp.int32)})[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
