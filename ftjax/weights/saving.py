"""Writing safetensors: canonical order, one tensor in memory at a time, the whole file or none of it.

The library's writer orders the metadata at random; here the same weights always give the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.readers.safetensors import DTYPES

_CODES = {dtype: code for code, dtype in DTYPES.items()}


def save_safetensors(path: str | Path, flat: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write arrays under their paths, sorted, through a temporary file in the same folder and a rename.

    Args:
      path: the file to write; its folder is made.
      flat: NumPy or JAX arrays by path.
      metadata: texts; the native format is `{"format": "ftjax", "spec": ..., "input": ...}`.

    Raises:
      WeightsError: a type that safetensors cannot hold, or metadata that are not texts.
      OSError: the disk is full or the folder cannot be written; an old file is untouched.
    """
    path = Path(path)
    header = _header(flat, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file, header, flat)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _header(flat: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """The JSON header, padded with spaces so that the data begin at a multiple of 8 bytes."""
    odd = [key for key, value in metadata.items() if not isinstance(key, str) or not isinstance(value, str)]
    if odd:
        raise WeightsError(f"metadata of safetensors are texts; {odd[0]!r} is a {type(metadata[odd[0]]).__name__}")
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for name in sorted(flat):
        dtype = np.dtype(flat[name].dtype).newbyteorder("=")
        if dtype not in _CODES or name == "__metadata__":
            raise WeightsError(f"{name!r} of type {dtype} cannot be saved as safetensors; allowed: {', '.join(str(known) for known in _CODES)}")
        end = position + math.prod(flat[name].shape) * dtype.itemsize
        table[name] = {"dtype": _CODES[dtype], "shape": list(flat[name].shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return text + b" " * (-len(text) % 8)


def _write(file: BinaryIO, header: bytes, flat: Mapping[str, Any]) -> None:
    file.write(len(header).to_bytes(8, "little"))
    file.write(header)
    for name in sorted(flat):
        array = np.asarray(flat[name])
        file.write(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
    file.flush()
    os.fsync(file.fileno())
