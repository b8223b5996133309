"""PEFT folders in and out: every golden adapter, every key used, the same bytes on a second trip, and the rules of matching."""

import dataclasses
import json

import numpy as np
import pytest
from peft_files import CONFIG, base_of, lora_state, shapes_of, tiny_bert, write_adapter

from ftjax.errors import WeightsError
from ftjax.weights import AdapterFile, Recognised, read_peft, write_peft
from ftjax.weights.readers.safetensors import read_safetensors

GOLDEN = {
    "bert": ("bert_lora", "dora", "ia3", "bias_all", "bias_lora_only", "multi", "multi/other"),
    "roberta": ("roberta_lora",),
    "distilbert": ("distilbert_lora",),
    "vit": ("vit_lora", "vit4_lora", "conv"),
    "llama": ("llama_lora", "rank_pattern", "ia3_llama", "emb_lm_head"),
    "llama_cls": ("llama_cls_lora",),
    "qwen2": ("qwen2_lora",),
    "qwen3": ("qwen3_lora",),
    "gemma3": ("gemma3_lora",),
    "gpt2": ("gpt2_lora",),
}
REFUSED = {"adalora": "peft_type='ADALORA'", "lora_bias_true": "lora_bias=True", "lntuning": "peft_type='LN_TUNING'", "loha": "'LOHA'", "oft": "'OFT'"}
OF_ANOTHER = {"gpt2_lora": "transformer.h.0", "t5_lora": "decoder.block.0"}


def keys_of(folder):
    return set(read_safetensors(folder / "adapter_model.safetensors")[0])


@pytest.mark.parametrize("base", GOLDEN)
def test_every_key_of_the_golden_adapters_is_used_and_comes_back(base, shared_data, tmp_path):
    held, shapes = base_of(shared_data / "golden" / "models" / base)
    for name in GOLDEN[base]:
        golden = shared_data / "golden" / "adapters" / name
        adapter = read_peft(golden, held, shapes)
        junk = {key for key, _ in adapter.left_out if key.startswith("base_model.")}
        assert junk == {key for key in keys_of(golden) if ".original_module." in key or ".modules_to_save." in key}
        generation = 4 if name == "vit4_lora" else 5
        outs = [tmp_path / name / str(index) for index in range(2)]
        for out, value in zip(outs, (adapter, None)):
            again = value or read_peft(outs[0], held, shapes)
            write_peft(out, again, held, shapes, base_name="owner/base", task_type=adapter.settings.get("task_type"), generation=generation)
        written, _ = read_safetensors(outs[0] / "adapter_model.safetensors")
        tensors, _ = read_safetensors(golden / "adapter_model.safetensors")
        assert written.keys() == tensors.keys() - junk
        for key, tensor in written.items():
            np.testing.assert_array_equal(tensor.read(), tensors[key].read())
        for file in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
            assert (outs[0] / file).read_bytes() == (outs[1] / file).read_bytes()
        theirs, ours = (json.loads((folder / "adapter_config.json").read_text()) for folder in (golden, outs[0]))
        same = ("peft_type", "r", "lora_alpha", "task_type") if theirs["peft_type"] == "LORA" else ("peft_type", "feedforward_modules")
        assert {key: ours.get(key) for key in same} == {key: theirs.get(key) for key in same}
        assert list(ours) == sorted(ours)


def test_golden_adapters_of_other_methods_and_bases_are_refused_by_name(shared_data):
    held, shapes = base_of(shared_data / "golden" / "models" / "bert")
    for name, words in (REFUSED | OF_ANOTHER).items():
        with pytest.raises(WeightsError, match=words):
            read_peft(shared_data / "golden" / "adapters" / name, held, shapes)


def test_arrays_are_ours_and_scales_follow_rank_alpha_and_rslora(tmp_path):
    held, shapes = tiny_bert()
    state = lora_state()
    key = "base_model.model.bert.encoder.layer.1.attention.self.value"
    state |= {f"{key}.lora_A.weight": np.ones((4, 8), np.float32), f"{key}.lora_B.weight": np.ones((8, 4), np.float32)}
    config = CONFIG | {"rank_pattern": {r"layer.1.*value": 4}, "alpha_pattern": {"value": 6}}
    read = read_peft(write_adapter(tmp_path / "plain", config, state), held, shapes)
    paths = [f"encoder/block_{index}/attention/{name}/kernel" for index in range(2) for name in ("query", "value")]
    assert set(read.adapted) == set(paths)
    assert [read.scales[path] for path in paths] == [2.0, 3.0, 2.0, 1.5]
    np.testing.assert_array_equal(read.tensors[f"{paths[0]}/a"], state["base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"].T)
    np.testing.assert_array_equal(read.saved["head/kernel"], state["base_model.model.classifier.weight"].T)
    root = read_peft(write_adapter(tmp_path / "root", config | {"use_rslora": True}, state), held, shapes)
    assert [root.scales[path] for path in paths] == pytest.approx([4 / 2**0.5, 6 / 2**0.5, 4 / 2**0.5, 3.0])
    for folder, adapter in (("plain", read), ("root", root)):
        write_peft(tmp_path / folder / "out", adapter, held, shapes, base_name=None)
        settings = json.loads((tmp_path / folder / "out" / "adapter_config.json").read_text())
        assert (settings["r"], settings["lora_alpha"], settings.get("use_rslora", False)) == (2, 4, folder == "root")
        assert settings["rank_pattern"] == {r"^bert\.encoder\.layer\.1\.attention\.self\.value": 4}
        assert set(settings["alpha_pattern"].values()) == {6}


@pytest.mark.parametrize(
    ("change", "modules", "layers"),
    [
        ({"target_modules": r".*\.layer\.[01]\.attention\.self\.(query|value)"}, ("query", "value"), (0, 1)),
        ({"target_modules": ["query", "value"], "layers_to_transform": [1]}, ("query", "value"), (1,)),
        ({"target_modules": ["query", "value"], "layers_to_transform": 0, "layers_pattern": "layer"}, ("query", "value"), (0,)),
        ({"target_modules": ["query", "value"], "exclude_modules": ["value"]}, ("query",), (0, 1)),
        ({"target_modules": ["bert.encoder.layer.1.attention.self.query"]}, ("query",), (1,)),
    ],
)
def test_targets_are_matched_as_peft_matches_them(change, modules, layers, tmp_path):
    held, shapes = tiny_bert()
    state = {key: array for key, array in lora_state(modules).items() if "layer." not in key or any(f"layer.{index}." in key for index in layers)}
    read = read_peft(write_adapter(tmp_path, CONFIG | change, state), held, shapes)
    assert set(read.adapted) == {f"encoder/block_{index}/attention/{name}/kernel" for name in modules for index in layers}
    write_peft(tmp_path / "out", read, held, shapes, base_name=None)
    for key in [key for key in state if "lora" in key][:1]:
        with pytest.raises(WeightsError, match="missing"):
            read_peft(write_adapter(tmp_path / "less", CONFIG | change, {name: state[name] for name in state if name != key}), held, shapes)


def test_names_are_shortened_only_as_far_as_they_stay_unmistakable(tmp_path):
    held, shapes = tiny_bert()
    rng = np.random.default_rng(1)
    for wanted, targets in (
        ("mlp/down", ["0.output.dense", "1.output.dense"]),
        ("attention/out", ["attention.output.dense"]),
        ("mlp/up", ["intermediate.dense"]),
    ):
        paths = [f"encoder/block_{index}/{wanted}/kernel" for index in range(2)]
        tensors = {f"{path}/a": rng.normal(size=(shapes[path][0], 2)).astype(np.float32) for path in paths}
        tensors |= {f"{path}/b": rng.normal(size=(2, shapes[path][1])).astype(np.float32) for path in paths}
        write_peft(tmp_path / wanted, AdapterFile("lora", tensors, dict.fromkeys(paths, 0.5)), held, shapes, base_name=None)
        assert json.loads((tmp_path / wanted / "adapter_config.json").read_text())["target_modules"] == targets


def test_a_bare_model_has_names_without_prefix_and_an_embedding(tmp_path):
    held, shapes = tiny_bert(output="embedding", pool="mean")
    path = "stem/word/embedding"
    rng = np.random.default_rng(1)
    tensors = {f"{path}/a": rng.normal(size=(20, 2)).astype(np.float32), f"{path}/b": rng.normal(size=(2, 8)).astype(np.float32)}
    adapter = AdapterFile("lora", tensors, {path: 1.0}, {path: rng.normal(size=(20, 8)).astype(np.float32)})
    write_peft(tmp_path, adapter, held, shapes, base_name=None, task_type="FEATURE_EXTRACTION")
    assert keys_of(tmp_path) == {f"base_model.model.embeddings.word_embeddings.{end}" for end in ("base_layer.weight", "lora_embedding_A", "lora_embedding_B")}
    inside = read_peft(tmp_path, *tiny_bert())
    np.testing.assert_array_equal(inside.tensors[f"{path}/a"], tensors[f"{path}/a"])


def test_fused_weights_share_one_adapter(tmp_path):
    options = {
        "vocabulary": 20,
        "positions": 8,
        "width": 8,
        "depth": 1,
        "heads": 2,
        "hidden": 12,
        "epsilon": 1e-5,
        "activation": "gelu",
        "window": 4,
        "every": 1,
    }
    options |= {"theta": 1e4, "local_theta": 1e4, "pool": "mean", "output": "sequence"}
    held = Recognised("modernbert", options, 3, None, "Hugging Face ModernBERT", None)
    shapes = shapes_of(held)
    rng = np.random.default_rng(1)
    paths = [f"encoder/block_0/attention/{name}/kernel" for name in ("query", "key", "value")]
    shared = rng.normal(size=(8, 2)).astype(np.float32)
    tensors = {f"{path}/a": shared for path in paths} | {f"{path}/b": rng.normal(size=(2, 8)).astype(np.float32) for path in paths}
    write_peft(tmp_path, AdapterFile("lora", tensors, dict.fromkeys(paths, 0.5)), held, shapes, base_name=None)
    assert read_safetensors(tmp_path / "adapter_model.safetensors")[0]["base_model.model.model.layers.0.attn.Wqkv.lora_B.weight"].shape == (24, 2)
    with pytest.raises(WeightsError, match="adapters of their own"):
        write_peft(tmp_path, AdapterFile("lora", tensors | {f"{paths[0]}/a": shared + 1}, dict.fromkeys(paths, 0.5)), held, shapes, base_name=None)
    one = {name: array for name, array in tensors.items() if name.startswith(paths[0])}
    with pytest.raises(WeightsError, match=r"Wqkv\.weight of a Hugging Face ModernBERT holds .*key/kernel.* too; adapt all of them or none"):
        write_peft(tmp_path, AdapterFile("lora", one, {paths[0]: 0.5}), held, shapes, base_name=None)


def test_what_peft_cannot_hold_is_refused_when_writing(tmp_path):
    held, shapes = tiny_bert()
    path = "encoder/block_0/attention/query/kernel"
    tensors = {f"{path}/a": np.ones((8, 2), np.float32), f"{path}/b": np.ones((2, 8), np.float32)}
    one = np.ones(8, np.float32)
    cases = {
        "encoder/block_0/norm1/scale: it was trained, the rest of its layer was not": {"encoder/block_0/norm1/scale": one},
        "has no tensor for it": {"encoder/block_0/gate": one},
    }
    for words, saved in cases.items():
        with pytest.raises(WeightsError, match=words):
            write_peft(tmp_path, AdapterFile("lora", tensors, {path: 1.0}, saved), held, shapes, base_name=None)
    whole = {"encoder/block_0/norm1/scale": one, "encoder/block_0/norm1/bias": one}
    write_peft(tmp_path, AdapterFile("lora", tensors, {path: 1.0}, whole), held, shapes, base_name=None)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == ["bert.encoder.layer.0.attention.output.LayerNorm"]
    with pytest.raises(WeightsError, match="generation=3"):
        write_peft(tmp_path, AdapterFile("lora", tensors, {path: 1.0}), held, shapes, base_name=None, generation=3)


def test_a_tied_table_is_refused_both_ways(tmp_path, shared_data):
    """peft adapts the lookup and leaves the head as it was; here both are one array."""
    held, shapes = base_of(shared_data / "golden" / "models" / "qwen2")
    held = dataclasses.replace(held, options=held.options | {"tied": True})
    shapes = {path: shape for path, shape in shapes.items() if not path.startswith("head/")}
    with pytest.raises(WeightsError, match=r"unexpected 'base_model\.model\.lm_head\.base_layer\.weight'"):
        read_peft(shared_data / "golden" / "adapters" / "emb_lm_head", held, shapes)
    path, (rows, width) = "stem/word/embedding", shapes["stem/word/embedding"]
    tensors = {f"{path}/a": np.ones((rows, 2), np.float32), f"{path}/b": np.ones((2, width), np.float32)}
    with pytest.raises(WeightsError, match=r"stem/word/embedding is the head too \(a tied model\)"):
        write_peft(tmp_path, AdapterFile("lora", tensors, {path: 1.0}), held, shapes, base_name=None)
