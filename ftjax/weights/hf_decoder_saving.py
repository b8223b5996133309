"""Decoders out: `config.json` (minimal, read by transformers 4 and 5), the weights, `generation_config.json`, and the tokenizer's files as they came."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftjax.errors import WeightsError, did_you_mean
from ftjax.files import read_json, write_json
from ftjax.weights.maps.base import Recognised
from ftjax.weights.maps.hf_decoder import HF_DECODER, kind_of
from ftjax.weights.maps.hf_decoder_options import FAR, GEMMAS, NEAR
from ftjax.weights.maps.hf_text import written_activation
from ftjax.weights.readers.hf_config import CONFIG
from ftjax.weights.saving import save_safetensors

TASKS = {
    "language_modeling": ("language", None),
    "preference": ("language", None),
    "classification": ("sequence", "single_label_classification"),
    "multi_label": ("sequence", "multi_label_classification"),
    "regression": ("sequence", "regression"),
}
"""For each task: the output of the model and the `problem_type` of `config.json`."""
GENERATION = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CARRIED = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", GENERATION)
"""Files beside a model that belong to its tokenizer and its manner of writing, not to its weights."""
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_NAMES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma2": "Gemma2", "gemma3_text": "Gemma3", "gpt2": "GPT2"}
_ENDS = {
    "bos_token_id": ("<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos_token_id": ("</s>", "<eos>", "<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "<|endoftext|>"),
    "pad_token_id": ("<pad>", "<|pad|>", "<|finetune_right_pad_id|>", "<|endoftext|>"),
}
_STANDS_IN = (*_ENDS["pad_token_id"][:3], "<unk>", *_ENDS["eos_token_id"])
"""What pads where nobody said what does, the best first: `<unk>` is hardly ever in a text, the end of one sometimes."""


def carry(origin: Path, folder: Path) -> None:
    """Copy what `save_decoder` takes over from the directory that a decoder came from: `config.json` and the files of `CARRIED`, those that are there."""
    for name in (CONFIG, *CARRIED):
        if (origin / name).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / name, folder / name)


def save_decoder(
    folder: Path, flat: Mapping[str, Any], held: Recognised, task: str, labels: Mapping[str, Any], tokenizer: Path | None, carried: Path | None
) -> None:
    """Write a directory that transformers loads.

    Args:
      folder: the directory, which is made.
      flat: every parameter by its path.
      held: what they are.
      task: what the model was trained for.
      labels: `id2label` and `label2id` of a classifier, else empty.
      tokenizer: its tokenizer.json.
      carried: the directory that the model came from: the files of `CARRIED` are copied and the ids of its special tokens kept.

    Raises:
      WeightsError: the task's output is another, transformers has no such model, or a leaf has no name there.
    """
    if task not in TASKS:
        raise WeightsError(f"task {task!r} of a decoder: {did_you_mean(task, TASKS)}")
    output, problem = TASKS[task]
    if held.options["output"] != output:
        raise WeightsError(f"task {task!r} needs a model with output {output!r}; this one's is {held.options['output']!r}")
    kind, tensors = kind_of(held.options), HF_DECODER.foreign(flat, held)
    ids = _ids(carried, tokenizer)
    if output == "sequence" and ids["pad_token_id"] is None:
        ids |= {"pad_token_id": _stand_in(tokenizer)}
    config = {"model_type": kind, "architectures": [_class(kind, output)], **config_of(held.options, kind), **ids, **labels, "dtype": "float32"}
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    if tokenizer is not None:
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    for name in CARRIED:
        if carried is not None and (carried / name).is_file() and (output == "language" or name != GENERATION):
            shutil.copyfile(carried / name, folder / name)
    _fill_in(folder, output, ids, tokenizer, held.options["positions"])
    write_json(folder / CONFIG, config | ({"problem_type": problem} if problem else {}))


def _fill_in(folder: Path, output: str, ids: Mapping[str, Any], tokenizer: Path | None, longest: int) -> None:
    """The plainest of the files that were not carried over."""
    if output == "language" and not (folder / GENERATION).is_file():
        write_json(folder / GENERATION, {name: value for name, value in ids.items() if value is not None})
    if tokenizer is None:
        return
    special = {number: token for token, number in _special(tokenizer).items()}
    if (folder / TOKENIZER_CONFIG).is_file():
        held = read_json(folder / TOKENIZER_CONFIG)
        if output == "sequence" and not held.get("pad_token") and ids["pad_token_id"] in special:
            write_json(folder / TOKENIZER_CONFIG, held | {"pad_token": special[ids["pad_token_id"]]})
    else:
        roles = {name.removesuffix("_id"): special.get(value) for name, value in ids.items() if isinstance(value, int)}
        known = {role: token for role, token in roles.items() if token is not None}
        inputs = ["input_ids", "attention_mask"]
        write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, "model_input_names": inputs, **known})


def _class(kind: str, output: str) -> str:
    if output == "sequence":
        return f"{'Gemma3Text' if kind == 'gemma3_text' else _NAMES[kind]}ForSequenceClassification"
    return "GPT2LMHeadModel" if kind == "gpt2" else f"{_NAMES[kind]}ForCausalLM"


def _special(tokenizer: Path | None) -> dict[str, int]:
    """Special tokens and their numbers.

    Raises:
      WeightsError: the file is no tokenizer.json.
    """
    if tokenizer is None:
        return {}
    try:
        value = json.loads(tokenizer.read_text("utf-8"))
        return {token["content"]: token["id"] for token in value.get("added_tokens") or [] if token.get("special")}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{tokenizer}: not a tokenizer.json: {str(error)[:160]}") from None


def _ids(carried: Path | None, tokenizer: Path | None) -> dict[str, Any]:
    """Numbers of the special tokens: those of the model that this one came from, else those that the tokenizer's names tell; None: there is none."""
    if carried is not None and (carried / CONFIG).is_file():
        try:
            held = json.loads((carried / CONFIG).read_text("utf-8"))
            return {name: held.get(name) for name in _IDS}
        except (ValueError, AttributeError) as error:
            raise WeightsError(f"{carried / CONFIG}: not a table: {str(error)[:160]}") from None
    special = _special(tokenizer)
    return {role: next((special[token] for token in names if token in special), None) for role, names in _ENDS.items()}


def _stand_in(tokenizer: Path | None) -> int | None:
    """What pads a batch of a classifier whose model had no padding: transformers' classifiers take the last token that is not padding, and refuse batches
    where nothing pads."""
    special = _special(tokenizer)
    return next((special[token] for token in _STANDS_IN if token in special), None)


def config_of(options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The architecture as `config.json` of this kind has it."""
    if kind == "gpt2":
        names = {"n_embd": "width", "n_layer": "depth", "n_head": "heads", "n_inner": "hidden", "n_positions": "positions", "vocab_size": "vocabulary"}
        config = {theirs: options[ours] for theirs, ours in names.items()}
        dropouts = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
        activation = {"activation_function": "gelu_new" if options["activation"] == "gelu_tanh" else written_activation(options["activation"])}
        return config | activation | dropouts | {"layer_norm_epsilon": options["epsilon"], "tie_word_embeddings": options["tied"]}
    return _llama(options, kind) | _rope(options, kind) | _windows(options, kind) | (_gemma(options) if kind in GEMMAS else {})


def _llama(options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    config = {
        "vocab_size": options["vocabulary"],
        "max_position_embeddings": options["positions"],
        "hidden_size": options["width"],
        "num_hidden_layers": options["depth"],
        "num_attention_heads": options["heads"],
        "num_key_value_heads": options["kv_heads"],
        "intermediate_size": options["hidden"],
        "rms_norm_eps": options["epsilon"],
        "hidden_activation" if kind in GEMMAS else "hidden_act": written_activation(options["activation"]),
        "tie_word_embeddings": options["tied"],
    }
    if kind != "qwen2" and options["activation"] == "gelu_tanh":
        config["hidden_activation" if kind in GEMMAS else "hidden_act"] = "gelu_pytorch_tanh"
    if kind == "qwen2" and options["head_size"] * options["heads"] != options["width"]:
        raise WeightsError(f"transformers' qwen2 has no head_size={options['head_size']}; allowed: width / heads")
    config |= {} if kind == "qwen2" else {"head_dim": options["head_size"], "attention_bias": options["qkv_bias"]}
    return config | ({"mlp_bias": options["mlp_bias"]} if kind == "llama" else {})


def _gemma(options: Mapping[str, Any]) -> dict[str, Any]:
    if abs(options["embedding_scale"] - options["width"] ** 0.5) > 1e-6 * options["embedding_scale"]:
        raise WeightsError(f"transformers' Gemma scales embeddings by sqrt(width); this model's embedding_scale is {options['embedding_scale']}")
    scalar = float(options["query_scale"] or options["head_size"] ** -0.5) ** -2
    if abs(scalar - round(scalar)) > 1e-6 * scalar:
        raise WeightsError(f"transformers' Gemma divides by the root of a whole number; this model's query_scale is {options['query_scale']}")
    return {
        "query_pre_attn_scalar": round(scalar),
        "attn_logit_softcapping": options["attention_cap"] or None,
        "final_logit_softcapping": options["logit_cap"] or None,
    }


def _windows(options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if kind == "llama":
        return {}
    types = {"layer_types": [NEAR if near else FAR for near in options["windowed"]]}
    if kind in GEMMAS:
        return types | {"sliding_window": options["window"] or 4096}
    return types | {"use_sliding_window": options["window"] > 0, "sliding_window": options["window"] or None}


def _rope(options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """In the spellings of transformers 5 and 4."""
    scaled: dict[str, Any] = {"rope_type": "default"}
    if options["rope_scaling"] == "linear":
        scaled = {"rope_type": "linear", "factor": options["rope_factor"]}
    elif options["rope_scaling"] == "llama3":
        scaled = {"rope_type": "llama3", "factor": options["rope_factor"], "low_freq_factor": options["rope_low"], "high_freq_factor": options["rope_high"]}
        scaled |= {"original_max_position_embeddings": options["rope_original"]}
    far = {**scaled, "rope_theta": options["theta"]}
    old = {"rope_theta": options["theta"], "rope_scaling": None if options["rope_scaling"] == "none" else scaled}
    if kind != "gemma3_text":
        return {"rope_parameters": far, **old}
    near = {"rope_type": "default", "rope_theta": options["local_theta"] or options["theta"]}
    return {"rope_parameters": {FAR: far, NEAR: near}, "rope_local_base_freq": near["rope_theta"], **old}
