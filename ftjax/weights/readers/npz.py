"""NumPy `.npz` archives (the vision_transformer and big_vision releases), one array at a time and never through pickle.

bfloat16 arrives as two raw bytes (`V2`) because NumPy cannot name it; it is given its type back.
"""

from __future__ import annotations

import collections
import math
import zipfile
from pathlib import Path
from typing import IO

import ml_dtypes
import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.source import MAX_DIMENSIONS, MAX_TENSORS, Tensor

MAX_RATIO = 100
"""Uncompressed over compressed size of a whole archive; weights reach about 10, a bomb about 1000."""


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of one archive by name.

    Raises:
      WeightsError: the archive is damaged, names an array twice, holds Python objects, or expands without bounds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            return {entry.filename.removesuffix(".npy"): _tensor(path, archive, entry) for entry in entries}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a readable .npz archive ({error}); it may be truncated") from None


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename.removesuffix(".npy") for entry in entries]
    if len(names) > MAX_TENSORS:
        raise WeightsError(f"{path}: {len(names)} arrays; the limit is {MAX_TENSORS}")
    twice = next((name for name, times in collections.Counter(names).items() if times > 1), None)
    if twice is not None:
        raise WeightsError(f"{path}: the name {twice!r} occurs twice")
    expanded = sum(entry.file_size for entry in entries)
    if expanded > MAX_RATIO * path.stat().st_size + 2**20:
        raise WeightsError(f"{path}: {path.stat().st_size} bytes would expand to {expanded}; the limit is {MAX_RATIO} times")


def _read_array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(file)


def _tensor(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Tensor:
    name = entry.filename.removesuffix(".npy")
    try:
        with archive.open(entry) as file:
            shape, _, stored = _read_array_header(file)
            payload = entry.file_size - file.tell()
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise WeightsError(f"{path}: {name!r} is not a NumPy array ({str(error)[:120]})") from None
    dtype = _value_type(path, name, stored)
    if len(shape) > MAX_DIMENSIONS or any(length < 0 for length in shape) or math.prod(shape) * stored.itemsize != payload:
        raise WeightsError(f"{path}: {name!r} {stored} {shape} does not fit its {payload} bytes")
    return Tensor(shape, dtype, lambda: _read(path, entry.filename, dtype))


def _value_type(path: Path, name: str, stored: np.dtype) -> np.dtype:
    if stored.hasobject:
        raise WeightsError(f"{path}: {name!r} holds Python objects, which could run code; only numbers are read")
    if stored.kind == "V" and stored.names is None and stored.subdtype is None and stored.itemsize == 2:
        return np.dtype(ml_dtypes.bfloat16)
    if stored.kind not in "fiub":
        raise WeightsError(f"{path}: {name!r} is of type {stored}, not numbers")
    return stored.newbyteorder("=")


def _read(path: Path, filename: str, dtype: np.dtype) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(filename) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # to the end, so that the checksum is compared
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, KeyError) as error:
        raise WeightsError(f"{path}: {filename!r} is damaged: {error}") from None
    return array.view(dtype) if array.dtype.kind == "V" else array.astype(dtype, copy=False)
