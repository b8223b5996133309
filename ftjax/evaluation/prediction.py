"""Predictions as a file: one row per example, `.jsonl` or `.csv`, written whole or not at all.

Class and file names may hold anything (commas, quotes, line breaks, any script): both formats read back to the same names.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.errors import ConfigError
from ftjax.files import write_text

SUFFIXES = (".jsonl", ".csv")


def prediction_rows(logits: np.ndarray, ids: Sequence[str | int], classes: Sequence[str], *, probabilities: bool = False) -> list[dict[str, Any]]:
    """`{"id", "label", "probability"}` per row of logits, with `"probabilities": {class: p}` on request.

    The label is the class of the highest logit (the first on ties) and the probability its softmax. A row whose logits are not all finite has no prediction:
    label, probability and probabilities are None.

    Args:
      logits: float `[n classes]`.
      ids: what names each row, usually the file.
      classes: names in the order of the logits.
      probabilities: also give every class's.

    Raises:
      ValueError: the three do not fit each other; a bug of the caller.
    """
    if np.shape(logits) != (len(ids), len(classes)):
        raise ValueError(f"logits of shape {np.shape(logits)} for {len(ids)} ids and {len(classes)} classes")
    scores = np.asarray(logits, np.float64)
    finite = np.all(np.isfinite(scores), axis=1)
    shares = _softmax(np.where(finite[:, None], scores, 0.0))
    rows = []
    for name, known, share in zip(ids, finite, shares):
        best = int(np.argmax(share))
        row: dict[str, Any] = {"id": name, "label": classes[best] if known else None, "probability": float(share[best]) if known else None}
        if probabilities:
            row["probabilities"] = dict(zip(classes, share.tolist())) if known else None
        rows.append(row)
    return rows


def check_output(path: Path) -> None:
    """Refuse a file name whose ending names no format; call it before the work, not after.

    Raises:
      ConfigError: naming the endings that are allowed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"predictions cannot be written to {path}: unknown ending {path.suffix!r}; allowed: {', '.join(map(repr, SUFFIXES))}")


def write_predictions(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of `Measures.rows` to `path`, through a temporary file and a rename.

    `.jsonl`: one object per line. `.csv`: a column per key; `probabilities` becomes `probability of <class>` for each class, lists and objects are JSON inside
    their cell, and None is an empty cell.

    Raises:
      ConfigError: the ending is neither.
      OSError: the folder cannot be written; an old file is untouched.
    """
    check_output(path)
    write_text(path, _jsonl(rows) if path.suffix.lower() == ".jsonl" else _csv(rows))


def _jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    # ASCII escapes: some readers split lines at U+2028, and file names may hold bytes that are no text.
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row)) or ["id", "label", "probability"]
    buffer = io.StringIO(newline="")
    # Quoting every text is the one setting that protects a lone carriage return on every Python.
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    for row in flat:
        writer.writerow([_cell(row.get(name)) for name in columns])
    # Undecodable bytes of a file name become \udcXX in the text.
    return buffer.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """`probabilities` of classes as a column each, in its place; nothing where they are None."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "probabilities" and (value is None or isinstance(value, Mapping)):
            flat |= {f"probability of {label}": share for label, share in (value or {}).items()}
        else:
            flat[name] = value
    return flat


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) if isinstance(value, (list, tuple, Mapping)) else value


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
