"""JSON files of a run directory: written whole or not at all, never with NaN, always in the same order of keys."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def _plain(value: Any) -> Any:
    """NumPy and JAX scalars and arrays as Python values; anything else is not ours to guess."""
    if isinstance(value, np.generic) or hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not belong in a JSON file")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file in the same folder and a rename.

    Raises:
      OSError: the disk is full or the folder cannot be written; it names the file, and the old one is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN, no infinity) atomically.

    Raises:
      ValueError: `value` holds a number that is not finite.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=_plain, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value that `write_json` stored."""
    return json.loads(path.read_text(encoding="utf-8"))
