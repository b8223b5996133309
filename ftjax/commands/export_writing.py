"""How a run wrote, as transformers reads it: the chat template it was trained with, not the one it came with, and the tokens that end an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftjax import files
from ftjax.data import LanguagePreprocessing
from ftjax.data.language.template import Template

TEMPLATE, TOKENIZER, GENERATION = "chat_template.jinja", "tokenizer_config.json", "generation_config.json"


def write_manner(folder: Path, preprocessing: LanguagePreprocessing) -> None:
    """Write the template of a run into an exported directory, take another one out of `tokenizer_config.json`, and name the tokens that generation stops at.

    A model that was trained on plain text keeps what its origin had.

    Args:
      folder: as `weights.save_hugging_face` wrote it.
      preprocessing: of the run.
    """
    if preprocessing.form == "passage":
        return
    settings = _read(folder / TOKENIZER)
    if "chat_template" in settings:
        files.write_json(folder / TOKENIZER, {name: value for name, value in settings.items() if name != "chat_template"})
    template = preprocessing.encoder.template
    files.write_text(folder / TEMPLATE, _with_ends(template, settings) + template.source)
    _write_stops(folder / GENERATION, preprocessing.encoder.stops)


def _write_stops(file: Path, stops: tuple[int, ...]) -> None:
    settings = _read(file)
    held = settings.get("eos_token_id")
    known = set(held) if isinstance(held, list) else {held} - {None}
    if not known >= set(stops):
        wanted = sorted(known | set(stops))
        files.write_json(file, settings | {"eos_token_id": wanted if len(wanted) > 1 else wanted[0]})


def _read(file: Path) -> dict[str, Any]:
    return files.read_json(file) if file.is_file() else {}


def _with_ends(template: Template, settings: Mapping[str, Any]) -> str:
    """Assignments of the tokens that texts began and ended with in training, where transformers would put others into the template."""
    found = ""
    for name, ours in (("bos_token", template.bos), ("eos_token", template.eos)):
        theirs = settings.get(name)
        theirs = theirs.get("content") if isinstance(theirs, Mapping) else theirs
        if (theirs or "") != ours:
            # The plus keeps a line break that the template may begin with.
            found += f"{{% set {name} = {json.dumps(ours, ensure_ascii=False)} +%}}"
    return found
