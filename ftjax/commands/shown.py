"""Examples of a split as evaluation/test.json keeps them: small pictures, texts that are shortened with their length said, nothing that JSON cannot hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ftjax.data import Dataset
from ftjax.data.suspects import KINDS

LETTERS = 2_000
"""Of a text; the page shows fewer."""
CONTEXT_LETTERS = 50_000
"""Of the text that a question is about: the answer may stand anywhere in it."""
WORDS = 1_000
NOT_SHOWN = ("id", "offsets", "tags", "answers")
"""What `Split.show` says for the measures, or what stands in the example under another name."""


def example(described: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """One example of test.json: what the measures say of it, then what a person sees of it.

    A picture becomes a thumbnail. A text of more than `LETTERS` letters is cut, and `<name>_characters` says how long it is; so is a list of more than `WORDS`
    words, with `<name>_total`.

    Args:
      described: of `Measures.describe`.
      row: of `Split.show`.
    """
    told = {name: value for name, value in described.items() if name != "row"}
    seen = {name: value for name, value in row.items() if name not in NOT_SHOWN and name not in told}
    found: dict[str, Any] = {}
    for name, value in (told | seen).items():
        found |= _kept(name, value)
    return found


def with_examples(dataset: Dataset) -> dict[str, Any]:
    """data.json with what a person sees of the most suspicious rows, under `example` of each."""
    report = dict(dataset.report)
    for kind in KINDS:
        if kind in report:
            rows = [{**row, "example": example({}, dataset.examples[row["id"]])} if row["id"] in dataset.examples else row for row in report[kind]["rows"]]
            report[kind] = {**report[kind], "rows": rows}
    return report


def _kept(name: str, value: Any) -> dict[str, Any]:
    """What the file holds of one value."""
    if isinstance(value, np.ndarray):
        return {name: thumbnail(value)}
    if isinstance(value, str):
        most = CONTEXT_LETTERS if name == "context" else LETTERS
        return {name: encodable(value[:most])} | ({f"{name}_characters": len(value)} if len(value) > most else {})
    if isinstance(value, (list, tuple)):
        kept = [encodable(item[:LETTERS]) if isinstance(item, str) else item for item in value[:WORDS]]
        return {name: kept} | ({f"{name}_total": len(value)} if len(value) > WORDS else {})
    return {name: value}


def encodable(text: str) -> str:
    """`text` with halves of surrogate pairs, which UTF-8 has no bytes for, written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def thumbnail(image: np.ndarray, pixels: int = 112) -> str:
    """A JPEG of at most `pixels` on a side, as a data URL; small images are enlarged without blur."""
    picture = Image.fromarray(image)
    scale = pixels / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
