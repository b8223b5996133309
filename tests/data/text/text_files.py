"""A tokenizer of forty words, and files written for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data.dataset import Dataset
from ftjax.data.text import Tokenizer, collect_text, open_tokenizer

_WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] a the film was good bad great dull plot actor cat dog sat on mat mr smith lives in paris who where is he
##s ##ly un ##lik ##e nice place to be or not yes no , . ? ! ' 1 2 3 x ##x"""
PIECES = _WORDS.split()
GOOD = ("good", "great", "nice", "a good film", "the film was good", "a great plot", "the plot was nice", "great actor", "a nice place", "good cat")
BAD = ("bad", "dull", "no", "a bad film", "the film was bad", "a dull plot", "the plot was dull", "bad actor", "not a nice place", "bad dog")


def tiny_folder(folder: Path) -> Path:
    """A folder with the tokenizer's vocab.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


def tiny(folder: Path) -> Tokenizer:
    """The tokenizer."""
    return open_tokenizer(tiny_folder(folder / "tiny"), "tiny")


def write(path: Path, text: str | bytes) -> Path:
    """A file with this content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def reviews(extra: str = "") -> str:
    """Twenty short texts of two classes as csv."""
    rows = [f"{text},{label}" for label, texts in (("pos", GOOD), ("neg", BAD)) for text in texts]
    return "\n".join(["text,label", *rows]) + "\n" + extra


def jsonl(*rows: dict[str, Any]) -> str:
    """One object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def collected(path: Path, task: str = "classification", *, source: str = "table", max_length: int = 16, seed: int = 0, **settings: Any) -> Dataset:
    """`collect_text` with the tiny tokenizer; settings of text and data by their names."""
    of_text = {key: settings.pop(key) for key in list(settings) if key in TextConfig.__dataclass_fields__}
    data = DataConfig(source=source, path=str(path), **settings)  # pyrefly: ignore
    root = path if path.is_dir() else path.parent
    return collect_text(data, TextConfig(**of_text), TaskConfig(name=task), tiny(root / ".tokenizer"), max_length, seed)  # pyrefly: ignore
