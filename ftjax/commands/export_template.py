"""The chat template that a run was trained with, as transformers reads it: `chat_template.jinja`, instead of the one that the pretrained model came with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftjax import files

FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"


def write_template(folder: Path, preprocessing: Mapping[str, Any]) -> None:
    """Write the template of a run into an exported directory, and take another one out of its `tokenizer_config.json`.

    A model that was trained on plain text, or that does not write, keeps what its origin had.

    Args:
      folder: as `weights.save_hugging_face` wrote it.
      preprocessing: as model.json describes it.
    """
    if "writes" not in preprocessing or preprocessing["form"] == "passage":
        return
    template, file = preprocessing["template"], folder / TOKENIZER_CONFIG
    settings = files.read_json(file) if file.is_file() else {}
    if "chat_template" in settings:
        files.write_json(file, {name: value for name, value in settings.items() if name != "chat_template"})
    files.write_text(folder / FILE, _with_ends(template, settings) + template["source"])


def _with_ends(template: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Assignments of the tokens that texts began and ended with in training, where transformers would put others into the template."""
    found = ""
    for name in ("bos", "eos"):
        theirs = settings.get(f"{name}_token")
        theirs = theirs.get("content") if isinstance(theirs, Mapping) else theirs
        if (theirs or "") != template[name]:
            # The plus keeps a line break that the template may begin with.
            found += f"{{% set {name}_token = {json.dumps(template[name], ensure_ascii=False)} +%}}"
    return found
