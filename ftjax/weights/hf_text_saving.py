"""Text models out: a directory that transformers loads whole, with the tokenizer, and for embeddings one that sentence-transformers loads.

What transformers has no class for is refused: another pooling before a classifier, another head, another task than the model's output serves.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftjax.errors import WeightsError, did_you_mean
from ftjax.files import write_json
from ftjax.weights.hf_decoder_saving import save_decoder
from ftjax.weights.maps.base import NameMap, Recognised
from ftjax.weights.maps.hf_bert import DISTILBERT, HF_BERTS, ROBERTA, Kind, kind_of, refuse_no_counterpart
from ftjax.weights.maps.hf_modernbert import FAR, HF_MODERNBERT, NEAR, layer_types
from ftjax.weights.maps.hf_text import written_activation
from ftjax.weights.readers.hf_config import CONFIG, MODULES, POOLING
from ftjax.weights.saving import save_safetensors

TASKS = {
    "classification": ("sequence", "ForSequenceClassification", "single_label_classification"),
    "multi_label": ("sequence", "ForSequenceClassification", "multi_label_classification"),
    "regression": ("sequence", "ForSequenceClassification", "regression"),
    "token_classification": ("tokens", "ForTokenClassification", None),
    "question_answering": ("tokens", "ForQuestionAnswering", None),
    "sentence_embedding": ("embedding", "Model", None),
}
"""For each task: the output of the model, the class of transformers, and the `problem_type` of `config.json`."""
_NAMES = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert", "modernbert": "ModernBert"}
_SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
    "bos_token": ("<s>",),
    "eos_token": ("</s>",),
}


def save_text(
    folder: Path,
    flat: Mapping[str, Any],
    held: Recognised,
    task: str,
    tokenizer: Path | None,
    max_length: int | None = None,
    carried: Path | None = None,
) -> None:
    """Write `config.json`, `model.safetensors`, the tokenizer's files, and for embeddings what sentence-transformers reads.

    Raises:
      WeightsError: transformers has no model of this kind, a leaf has no name there, or the tokenizer does not fit.
    """
    if held.family == "decoder":
        named = labels(held) if held.options["output"] == "sequence" else {}
        save_decoder(folder, flat, held, task, named, tokenizer, carried)
        return
    if task not in TASKS:
        raise WeightsError(f"task {task!r} is unknown; {did_you_mean(task, TASKS)}")
    output, suffix, problem = TASKS[task]
    if held.options["output"] != output:
        raise WeightsError(f"task {task!r} needs a model with output {output!r}; this one's is {held.options['output']!r}")
    pieces = _read_tokenizer(tokenizer) if tokenizer else {}
    config, name_map, kind = _body(held, _padding(pieces))
    config |= {"architectures": [f"{_NAMES[kind]}{suffix}"], "dtype": "float32", **({"problem_type": problem} if problem else {})}
    config |= {} if task in ("question_answering", "sentence_embedding") else labels(held)
    tensors = name_map.foreign(flat, held)
    if task == "question_answering" and held.family == "bert":
        tensors = {name.replace("classifier.", "qa_outputs."): array for name, array in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    most = held.options["positions"] - held.options.get("position_offset", 0)
    longest = min(max_length or most, most)
    if tokenizer:
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", _tokenizer_config(pieces, longest, kind == "bert"))
    if output == "embedding":
        _write_pooling(folder, held, longest)
    write_json(folder / CONFIG, config)


def labels(held: Recognised) -> dict[str, Any]:
    """`id2label` and `label2id`.

    Raises:
      WeightsError: there is no head, or the names are not as many different ones.
    """
    if held.num_classes is None:
        raise WeightsError("a model without a head is no classifier of transformers; give num_classes")
    names = held.classes or tuple(f"LABEL_{index}" for index in range(held.num_classes))
    if len(names) != held.num_classes or len(set(names)) < len(names):
        raise WeightsError(f"{held.num_classes} classes need as many different names; found {len(set(names))}")
    return {"id2label": {str(index): name for index, name in enumerate(names)}, "label2id": {name: index for index, name in enumerate(names)}}


def _body(held: Recognised, padding: int | None) -> tuple[dict[str, Any], NameMap, str]:
    """The architecture as transformers writes it, the map of its names, and the kind of model."""
    if held.family == "modernbert":
        return _modernbert(held.options, padding), HF_MODERNBERT, "modernbert"
    options, kind = held.options, kind_of(held.options)
    refuse_no_counterpart(options, kind)
    config = _config(options, kind, padding)
    return config, HF_BERTS[kind.prefix], kind.prefix


def _config(options: Mapping[str, Any], kind: Kind, padding: int | None) -> dict[str, Any]:
    config = {key: options[name] for name, key in kind.keys.items()} | {
        kind.keys["activation"]: written_activation(options["activation"]),
        "model_type": kind.prefix,
        "vocab_size": options["vocabulary"],
        "max_position_embeddings": options["positions"],
        "pad_token_id": padding or 0,
    }
    if kind is DISTILBERT:
        if options["epsilon"] != 1e-12:
            raise WeightsError(f"transformers' DistilBERT has epsilon 1e-12 only; this model's is {options['epsilon']}")
        return config | {"sinusoidal_pos_embds": False}
    config |= {"layer_norm_eps": options["epsilon"], "type_vocab_size": options["segments"]}
    if kind is ROBERTA:
        if padding is not None and padding != options["position_offset"] - 1:
            wanted = options["position_offset"] - 1
            raise WeightsError(
                f"the tokenizer pads with {padding}, but RoBERTa counts positions from its padding token, {wanted} in this model; allowed: {wanted}"
            )
        config |= {"pad_token_id": options["position_offset"] - 1}
    return config


def _modernbert(options: Mapping[str, Any], padding: int | None) -> dict[str, Any]:
    """In the spellings of transformers 5 and 4."""
    thetas = {FAR: options["theta"], NEAR: options["local_theta"]}
    return {
        "model_type": "modernbert",
        "vocab_size": options["vocabulary"],
        "max_position_embeddings": options["positions"],
        "hidden_size": options["width"],
        "num_hidden_layers": options["depth"],
        "num_attention_heads": options["heads"],
        "intermediate_size": options["hidden"],
        "norm_eps": options["epsilon"],
        "hidden_activation": written_activation(options["activation"]),
        "local_attention": 2 * options["window"],
        "layer_types": layer_types(options["depth"], options["every"]),
        "global_attn_every_n_layers": options["every"],
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        "global_rope_theta": thetas[FAR],
        "local_rope_theta": thetas[NEAR],
        "classifier_pooling": "mean" if options["pool"] == "mean" else "cls",
        "pad_token_id": padding or 0,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
    }


def _read_tokenizer(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a tokenizer.json: {str(error)[:160]}") from None
    if not isinstance(value, dict) or "model" not in value:
        raise WeightsError(f"{path}: not a tokenizer.json: it has no 'model'")
    return value


def _special(pieces: Mapping[str, Any]) -> dict[str, int]:
    """Special tokens and their numbers."""
    return {token["content"]: token["id"] for token in pieces.get("added_tokens") or [] if token.get("special")}


def _padding(pieces: Mapping[str, Any]) -> int | None:
    return next((number for token, number in _special(pieces).items() if token in _SPECIAL["pad_token"]), None)


def _tokenizer_config(pieces: Mapping[str, Any], longest: int, segments: bool) -> dict[str, Any]:
    """What transformers must know beside `tokenizer.json`, from which it takes everything else."""
    special = _special(pieces)
    roles = {role: next((token for token in names if token in special), None) for role, names in _SPECIAL.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "model_input_names": ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"],
        **{role: token for role, token in roles.items() if token is not None},
    }


def _write_pooling(folder: Path, held: Recognised, longest: int) -> None:
    """The files of sentence-transformers: a body, then its pooling."""
    pool = held.options["pool"]
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling")
    modules = [{"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"} for index, (kind, path) in enumerate(kinds)]
    pooling = {"cls_token": pool == "first", "mean_tokens": pool == "mean", "max_tokens": False, "mean_sqrt_len_tokens": False}
    (folder / POOLING).parent.mkdir(exist_ok=True)
    write_json(folder / POOLING, {"word_embedding_dimension": held.options["width"]} | {f"pooling_mode_{mode}": on for mode, on in pooling.items()})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    write_json(folder / MODULES, modules)
