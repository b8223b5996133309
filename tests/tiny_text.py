"""A tiny BERT of random weights as a Hugging Face directory with its tokenizer, and texts that it can learn, written by hand: no torch, no network."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.weights import save_safetensors

WORDS = tuple(f"{first}{last}" for first in ("ba", "di", "ko", "lu", "me", "ni", "po") for last in ("ra", "se", "ti", "vo", "zu", "n"))
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLASSES = ("apple", "pear", "plum")
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "attention_probs_dropout_prob": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 32,
    "id2label": {str(index): name for index, name in enumerate(CLASSES)},
    "initializer_range": 0.1,
    "intermediate_size": 64,
    "label2id": {name: index for index, name in enumerate(CLASSES)},
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 64,
    "model_type": "bert",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": len(SPECIAL) + len(WORDS),
}


def write_tokenizer(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """A WordPiece tokenizer of whole words: `tokenizer.json` and `tokenizer_config.json`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special: Any = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"tokenizer_class": "BertTokenizer", "model_max_length": 64}))
    return folder


def bert_state(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by transformers' names, with a pooler and a head of `id2label`."""
    width, hidden, draw = config["hidden_size"], config["intermediate_size"], np.random.default_rng(seed)
    shapes = {
        "bert.embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "bert.embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "bert.embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
    }
    layers = {"bert.pooler.dense": (width, width), "classifier": (len(config["id2label"]), width)}
    norms = ["bert.embeddings.LayerNorm"]
    for index in range(config["num_hidden_layers"]):
        block = f"bert.encoder.layer.{index}"
        layers |= {f"{block}.attention.self.{name}": (width, width) for name in ("query", "key", "value")}
        layers |= {f"{block}.attention.output.dense": (width, width), f"{block}.intermediate.dense": (hidden, width), f"{block}.output.dense": (width, hidden)}
        norms += [f"{block}.attention.output.LayerNorm", f"{block}.output.LayerNorm"]
    shapes |= {f"{name}.weight": shape for name, shape in layers.items()} | {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    state = {name: draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        scale, bias = draw.normal(0, 0.1, (2, width)).astype(np.float32)
        state |= {f"{name}.weight": 1 + scale, f"{name}.bias": bias}
    return state


def write_bert(folder: Path, **changed: Any) -> Path:
    """The whole directory; `changed` replaces keys of `CONFIG`."""
    write_tokenizer(folder)
    config = CONFIG | changed
    (folder / "config.json").write_text(json.dumps(config))
    save_safetensors(folder / "model.safetensors", bert_state(config), {"format": "pt"})
    return folder


def texts(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of 2 to 24 words with their label: the class whose third of the vocabulary the text draws on most."""
    draw, found = np.random.default_rng(seed), []
    for index in range(rows):
        label, length = index % len(CLASSES), int(draw.integers(2, 25))
        words = np.where(draw.random(length) < 0.6, draw.choice(np.array(WORDS[label :: len(CLASSES)]), length), draw.choice(np.array(WORDS), length))
        found.append((" ".join(words), CLASSES[label]))
    return found


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    """A csv file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path
