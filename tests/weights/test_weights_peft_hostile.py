"""PEFT folders that are damaged, misleading or hostile: each is refused with the key and what is near, and nothing of them is run."""

import json
import pickle

import numpy as np
import pytest
from peft_files import CONFIG, lora_state, tiny_bert, write_adapter

from ftjax.errors import WeightsError
from ftjax.weights import read_peft

KEY = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"


def renamed(old, new):
    return lambda state: {key.replace(old, new): array for key, array in state.items()}


def changed(key, array):
    return lambda state: state | {key: array}


def without(key):
    return lambda state: {name: array for name, array in state.items() if name != key}


KEYS = {
    "missing": (without(KEY), r"missing base_model\.model\.bert\.encoder\.layer\.0\.attention\.self\.query: a, which .* promises"),
    "missing head": (without("base_model.model.classifier.bias"), r"missing base_model\.model\.classifier\.bias"),
    "misspelt": (renamed("0.attention.self.query.lora_A", "0.attention.self.qeury.lora_A"), r"unexpected .*qeury.*did you mean .*self\.query\.lora_A"),
    "suffix": (renamed("lora_A.weight", "lora_a.weight"), r"unexpected .*lora_a\.weight.*did you mean .*lora_A\.weight"),
    "no prefix": (renamed("base_model.model.", ""), r"keys begin with 'base_model\.model\.'; did you mean"),
    "other layer": (renamed("layer.1.", "layer.7."), r"unexpected .*layer\.7.* has no such tensor"),
    "not targeted": (renamed("self.value", "self.key"), r"unexpected .*self\.key.* says LORA without use_dora on target_modules=\['query', 'value'\]"),
    "not asked": (changed("base_model.model.bert.pooler.dense.bias", np.ones(8, np.float32)), r"neither modules_to_save nor bias='none'"),
    "path": (changed("../../etc/passwd", np.ones(8, np.float32)), r"unexpected '\.\./\.\./etc/passwd'"),
    "rank": (changed(KEY, np.ones((3, 8), np.float32)), r"query: a has the shape \[3, 8\]; base and adapter_config\.json ask for \[2, 8\]"),
    "width": (changed(KEY, np.ones((2, 9), np.float32)), r"\[2, 9\]"),
    "flat": (changed(KEY, np.ones(16, np.float32)), r"\[16\]"),
    "head width": (changed("base_model.model.classifier.weight", np.ones((5, 8), np.float32)), r"is head/kernel, which has the shape \[8, 3\]"),
    "nan": (changed(KEY, np.full((2, 8), np.nan, np.float32)), r"16 numbers that are not finite"),
    "whole numbers": (changed(KEY, np.ones((2, 8), np.int32)), r"of type int32; allowed: floating-point numbers"),
    "empty": (lambda state: {}, "holds no tensors"),
    "dora": (changed(KEY.replace("lora_A.weight", "lora_magnitude_vector"), np.ones(8, np.float32)), "unexpected .*lora_magnitude_vector.*without use_dora"),
}
CONFIGS = {
    "prompt": ({"peft_type": "PROMPT_TUNING"}, r"peft_type='PROMPT_TUNING' is not read; allowed: 'LORA' .* 'IA3'"),
    "unknown": ({"use_xlora": True}, r"the key 'use_xlora' is unknown, and may change what the adapter computes; did you mean"),
    "pissa": ({"init_lora_weights": "pissa"}, r"changed the base before training.*path_initial_model_for_weight_conversion"),
    "qalora": ({"use_qalora": True}, r"use_qalora=True changes what the adapter computes"),
    "tokens": ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    "replication": ({"layer_replication": [[0, 2]]}, "layer_replication"),
    "rank": ({"r": 0}, "r='0'; allowed: a positive whole number"),
    "alpha": ({"lora_alpha": "8"}, "lora_alpha"),
    "pattern": ({"target_modules": r"((a+)+)+$"}, "without a repetition inside a repetition"),
    "no pattern": ({"target_modules": "("}, "target_modules"),
    "rank pattern": ({"rank_pattern": {"(a*)*": 2}}, "rank_pattern"),
    "bias": ({"bias": "some"}, "bias='some'; allowed: 'none', 'all', 'lora_only'"),
    "nothing": ({"target_modules": ["quary"]}, r"unexpected"),
    "no targets": ({"target_modules": None}, "target_modules"),
    "dora": ({"use_dora": True}, r"missing .*query: magnitude"),
    "bias all": ({"bias": "all"}, r"missing .*\.bias"),
}


@pytest.mark.parametrize("case", KEYS)
def test_keys_that_do_not_fit_are_refused(case, tmp_path):
    change, words = KEYS[case]
    with pytest.raises(WeightsError, match=words):
        read_peft(write_adapter(tmp_path, CONFIG, change(lora_state())), *tiny_bert())


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations_that_compute_something_else_are_refused(case, tmp_path):
    change, words = CONFIGS[case]
    with pytest.raises(WeightsError, match=words):
        read_peft(write_adapter(tmp_path, CONFIG | change, lora_state()), *tiny_bert())


def test_harmless_keys_are_left_out_by_name(tmp_path):
    config = CONFIG | {"lora_dropout": 0.1, "inference_mode": True, "peft_version": "0.99", "use_shiny_new_thing": False, "megatron_core": "megatron.core"}
    read = read_peft(write_adapter(tmp_path, config, lora_state()), *tiny_bert())
    assert {key for key, _ in read.left_out} == {"lora_dropout", "inference_mode", "peft_version", "use_shiny_new_thing", "megatron_core"}


def test_damaged_files_are_refused(tmp_path):
    base = tiny_bert()
    folder = write_adapter(tmp_path / "whole", CONFIG, lora_state())
    data = (folder / "adapter_model.safetensors").read_bytes()
    huge = (1 << 40).to_bytes(8, "little") + data[8:]
    for damaged, words in ((data[:-4], "truncated"), (data[:5], "truncated"), (huge, "the limit is"), (data + b"1", "too long")):
        (folder / "adapter_model.safetensors").write_bytes(damaged)
        with pytest.raises(WeightsError, match=words):
            read_peft(folder, *base)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(WeightsError, match=r"adapter_model\.bin is a pickle, which could run anything and is not read"):
        read_peft(folder, *base)
    for text, words in (("{", "not JSON"), ("[]", "a list, not a table"), ('{"r": 1, "r": 2}', "'r' occurs twice"), ("\xff", "not JSON")):
        (folder / "adapter_config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(WeightsError, match=words):
            read_peft(folder, *base)


def test_a_folder_of_adapters_names_them(tmp_path):
    write_adapter(tmp_path / "other", CONFIG, lora_state())
    with pytest.raises(WeightsError, match="adapters lie in its folders other: name one of those"):
        read_peft(tmp_path, *tiny_bert())
    with pytest.raises(WeightsError, match="is no PEFT adapter"):
        read_peft(tmp_path / "nowhere", *tiny_bert())


def test_another_head_is_initialised_where_asked(tmp_path):
    state = lora_state() | {"base_model.model.classifier.weight": np.ones((5, 8), np.float32), "base_model.model.classifier.bias": np.ones(5, np.float32)}
    read = read_peft(write_adapter(tmp_path, CONFIG, state), *tiny_bert(), reinitialise=("head",))
    assert not read.saved
    assert [key for key, why in read.left_out if why.endswith("in this run, and is initialised")] == [
        "base_model.model.classifier.bias",
        "base_model.model.classifier.weight",
    ]


def test_the_pooler_that_an_embedding_does_not_use_is_left_out(tmp_path):
    read = read_peft(write_adapter(tmp_path, CONFIG, lora_state()), *tiny_bert(output="embedding", pool="mean"))
    assert {key for key, _ in read.left_out} == {"base_model.model.classifier.weight", "base_model.model.classifier.bias"}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == read.settings["r"]
