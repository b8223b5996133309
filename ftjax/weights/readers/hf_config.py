"""The JSON files beside Hugging Face weights: `config.json` (architecture, class names), `preprocessor_config.json` (the input of images), and what
sentence-transformers adds: `modules.json` and the pooling.

They come with the weights and are as untrusted: a limit on their size, strict JSON, no repeated names, and every value is checked where it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftjax.errors import WeightsError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
MODULES, POOLING = "modules.json", "1_Pooling/config.json"
FILES = (CONFIG, PREPROCESSOR)
LIMIT = 4 * 2**20
"""Bytes; the names of ImageNet-21k's classes, twice, are 2 MiB."""

Settings = Mapping[str, Mapping[str, Any]]
"""The content of each file by its name."""


def read_settings(folder: Path) -> Settings:
    """The files of a folder that `transformers` wrote; empty where `config.json` is missing or another library's.

    Raises:
      WeightsError: a file is too large, not JSON, or not a table.
    """
    if not (folder / CONFIG).is_file():
        return {}
    settings = {name: _read(folder / name) for name in FILES if (folder / name).is_file()}
    if (folder / MODULES).is_file() and (folder / POOLING).is_file():
        settings |= {MODULES: _read(folder / MODULES, "modules"), POOLING: _read(folder / POOLING)}
    return settings if isinstance(settings[CONFIG].get("model_type"), str) else {}


def _read(path: Path, key: str | None = None) -> dict[str, Any]:
    """A table; a list becomes one under `key`."""
    if path.stat().st_size > LIMIT:
        raise WeightsError(f"{path}: {path.stat().st_size} bytes; the limit is {LIMIT}")
    try:
        value = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not JSON: {str(error)[:200]}") from None
    if key is not None and isinstance(value, list):
        value = {key: value}
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: a {type(value).__name__}, not a table")
    return value


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise WeightsError(f"{path}: the name {twice!r} occurs twice")
    return dict(pairs)
