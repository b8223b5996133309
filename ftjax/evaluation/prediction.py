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


def write_predictions(path: Path, rows: Sequence[dict[str, Any]], inputs: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Write the rows of `Measures.rows` to `path`, through a temporary file and a rename.

    `.jsonl`: one object per line. `.csv`: a column per key; `probabilities` becomes `probability of <class>` for each class, lists and objects are JSON inside
    their cell, and None is an empty cell.

    Args:
      path: where to.
      rows: predictions.
      inputs: the rows as they were read, one for each prediction: their columns come first and `id` is left out. A prediction's key that an input column has,
        too, is written as `predicted <key>`.

    Raises:
      ConfigError: the ending is neither.
      OSError: the folder cannot be written; an old file is untouched.
    """
    check_output(path)
    told = rows if inputs is None else beside(inputs, rows)
    write_text(path, _jsonl(told) if path.suffix.lower() == ".jsonl" else _csv(told))


def beside(inputs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each prediction after the columns of its input.

    Raises:
      ValueError: there are not as many of the one as of the other; a bug of the caller.
    """
    taken = {name for given in inputs for name in given}

    def renamed(key: str) -> str:
        while key in taken:
            key = f"predicted {key}"
        return key

    plain = [{name: _plain(value) for name, value in given.items()} for given in inputs]
    return [given | {renamed(key): value for key, value in row.items() if key != "id"} for given, row in zip(plain, rows, strict=True)]


def _plain(value: Any) -> Any:
    """What a table may hold as JSON can: numbers that are not finite as None, dates and the like as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, dict)) else str(value)


def _jsonl(rows: Sequence[dict[str, Any]]) -> str:
    # ASCII escapes: some readers split lines at U+2028, and file names may hold bytes that are no text.
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
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
