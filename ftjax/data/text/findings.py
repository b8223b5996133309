"""The inspection of texts without a model or tokenizer: lengths in characters and words, columns, encodings, copies, and rows that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data.dataset import SPLITS, Members
from ftjax.data.findings import Findings, check_any, common, findings_warnings, histogram
from ftjax.data.near_texts import find_texts
from ftjax.data.text.collect import read_found
from ftjax.data.text.kept import sides

_SHARE = 0.99


def inspect_texts(data: DataConfig, text: TextConfig, task: TaskConfig) -> Findings:
    """Read every row.

    Raises:
      ConfigError: a setting is out of range or does not fit the task.
      DataError: the files cannot be read, or hold no such columns.
    """
    found = read_found(data, text, task)
    examples, texts = found.examples, sides(found.examples)
    check_any(found.rows, examples.rejected)
    near = None if data.near_duplicates == "off" else find_texts(texts, found.contents, data.near_text_similarity)
    members = found.given()
    counts = {split: found.counts(members[split], task.name) for split in SPLITS}
    report = {
        "kind": "texts",
        "task": task.name,
        **examples.facts,
        "rejected": [dict(entry) for entry in examples.rejected],
        "ignored": [],
        "left_out": found.left_out,
        "lengths": {name: _lengths(side, members) for name, side in zip(("text", "text_pair"), texts, strict=False)},
        **common(found.rows, found.labelled, found.contents, members, near, counts),
        "classes": list(found.classes),
    }
    row_of = {name: row for row, name in enumerate(examples.ids)}

    def show(name: str) -> dict[str, Any]:
        row = row_of[name]
        return dict(zip(("text", "text_pair"), (side[row] for side in texts), strict=False))

    return Findings({**report, "warnings": [*findings_warnings(report, found.rows.noun), *examples.warnings]}, show)


def _lengths(texts: Sequence[str], members: Members) -> dict[str, Any]:
    """Characters and words of each split's texts. Words are what white space separates, so a Chinese sentence is one."""
    rows = {split: here for split, here in members.items() if len(here)}
    if not rows:
        return {}
    measured = {
        "characters": {split: np.array([len(texts[row]) for row in here]) for split, here in rows.items()},
        "words": {split: np.array([len(texts[row].split()) for row in here]) for split, here in rows.items()},
    }
    every = {unit: np.concatenate(list(values.values())) for unit, values in measured.items()}
    totals = {
        unit: {"median": float(np.median(values)), "most": int(np.quantile(values, _SHARE)), "longest": int(values.max())} for unit, values in every.items()
    }
    unit = "words" if totals["words"]["median"] > 1 else "characters"
    return {**totals, "histogram": {"unit": unit, **histogram(measured[unit])}}
