"""A BERT of random weights with a tokenizer, as transformers writes it, and a table of texts that it can learn."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = tuple(f"{first}{last}" for first in ("ba", "di", "ko", "lu", "me", "ni", "po") for last in ("ra", "se", "ti", "vo", "zu", "n"))
CLASSES = ("apple", "pear", "plum")


def write_tokenizer(folder: Path, words: tuple[str, ...] = WORDS) -> int:
    """A WordPiece tokenizer of whole words; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {token: index for index, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"tokenizer_class": "BertTokenizer", "model_max_length": 64}))
    return len(vocabulary)


def write_bert(folder: Path, transformers: Any, seed: int = 0) -> Path:
    """A Hugging Face directory: two blocks of width 32, a head for `CLASSES`, no dropout, biases and norms away from 0 and 1."""
    import torch

    size = write_tokenizer(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: index for index, name in enumerate(CLASSES)},
    )
    model = transformers.BertForSequenceClassification(config)
    with torch.no_grad():
        for value in (value for value in model.parameters() if value.ndim == 1):
            value.add_(0.1 * torch.randn(value.shape))
    model.save_pretrained(folder)
    return folder


def write_texts(path: Path, rows: int, seed: int = 0) -> Path:
    """Texts of 2 to 24 words; the label is the class whose third of the vocabulary the text draws on most."""
    draw = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for index in range(rows):
            label, length = index % len(CLASSES), int(draw.integers(2, 25))
            own = np.array(WORDS[label :: len(CLASSES)])
            words = np.where(draw.random(length) < 0.6, draw.choice(own, length), draw.choice(np.array(WORDS), length))
            writer.writerow((" ".join(words), CLASSES[label]))
    return path
