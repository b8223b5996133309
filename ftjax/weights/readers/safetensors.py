"""safetensors files and sharded directories, one tensor at a time.

The header is checked before anything is allocated (length, number of tensors, twice the same name, offsets that tile the data exactly),
which the library leaves to its caller; after that a tensor is one `np.fromfile`. bfloat16 is read, eight bits and fewer are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.source import MAX_DIMENSIONS, MAX_HEADER, MAX_TENSORS, Tensor

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of one file and its metadata.

    Raises:
      WeightsError: the file is truncated, its header is malformed or beyond the limits, or a type is not supported.
    """
    header, data_start, size = _read_header(path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path}: __metadata__ is not a table of texts")
    if len(header) > MAX_TENSORS:
        raise WeightsError(f"{path}: the header lists {len(header)} tensors; the limit is {MAX_TENSORS}")
    spans = {name: _check_entry(path, name, entry) for name, entry in header.items()}
    _check_tiling(path, spans, data_start, size)
    return {name: _tensor(path, name, dtype, shape, data_start + begin) for name, (dtype, shape, begin, _) in spans.items()}, metadata


def read_sharded(folder: Path, index: Path) -> tuple[dict[str, Tensor], dict[str, str], list[Path]]:
    """The tensors of all shards that `*.safetensors.index.json` names, its metadata, and the files read.

    Raises:
      WeightsError: the index is malformed or names a file elsewhere, a shard is missing, or index and shards disagree.
    """
    listed = _read_index(index)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    files = [index]
    for shard in sorted(set(listed.values())):
        path = folder / shard
        if not path.is_file():
            raise WeightsError(f"{index} names the shard {shard!r}, which is not in {folder}")
        found, texts = read_safetensors(path)
        metadata |= texts
        expected = {name for name, place in listed.items() if place == shard}
        if found.keys() != expected:
            raise WeightsError(f"{path}: index and shard disagree about {sorted(found.keys() ^ expected)[:5]}: {_disagreement(index, listed, found, expected)}")
        tensors |= found
        files.append(path)
    return tensors, metadata, files


def _disagreement(index: Path, listed: Mapping[str, str], found: Mapping[str, Tensor], expected: set[str]) -> str:
    """What is wrong with the first tensor that index and shard disagree about."""
    name = sorted(found.keys() ^ expected)[0]
    if name in expected:
        return f"{index.name} places {name!r} there, the shard has no such tensor"
    if name in listed:
        return f"the shard holds {name!r}, which {index.name} places in {listed[name]!r}: it would be there twice or not at all"
    return f"the shard holds {name!r}, which {index.name} does not list"


def _read_index(index: Path) -> dict[str, str]:
    if index.stat().st_size > MAX_HEADER:
        raise WeightsError(f"{index}: {index.stat().st_size} bytes; the limit is {MAX_HEADER}")
    content = _parse_json(index, index.read_bytes())
    listed = content.get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(shard, str) for shard in listed.values()):
        raise WeightsError(f"{index}: no weight_map from tensors to files")
    outside = sorted(shard for shard in set(listed.values()) if Path(shard).name != shard or shard in (".", "..") or "\\" in shard)
    if outside:
        raise WeightsError(f"{index}: the shard {outside[0]!r} is not a plain file name")
    return listed


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"version "):
            raise WeightsError(f"{path} is a git-lfs pointer, not the weights: run `git lfs pull` where it came from")
        if len(start) < 8:
            raise WeightsError(f"{path}: truncated: a safetensors file has at least 8 bytes, found {size}")
        length = int.from_bytes(start, "little")
        if length > MAX_HEADER:
            raise WeightsError(f"{path}: a header of {length} bytes; the limit is {MAX_HEADER}. Is it a safetensors file?")
        if 8 + length > size:
            raise WeightsError(f"{path}: truncated: the header ends at byte {8 + length}, found {size} bytes")
        return _parse_json(path, file.read(length)), 8 + length, size


def _parse_json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=lambda pairs: _unique(path, pairs))
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the header is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: the header is a {type(value).__name__}, not a table")
    return value


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise WeightsError(f"{path}: the name {twice!r} occurs twice")
    return table


def _is_natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _check_entry(path: Path, name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Type, shape and span of one tensor, after checking that they agree."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{path}: {name!r} must have dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise WeightsError(f"{path}: {name!r} is of type {code!r}, which ftjax does not read; allowed: {', '.join(DTYPES)}. Save it as F32 or BF16.")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_natural, shape)):
        raise WeightsError(f"{path}: {name!r} has no valid shape: {str(shape)[:80]}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_natural, offsets)):
        raise WeightsError(f"{path}: {name!r} has no valid data_offsets: {str(offsets)[:80]}")
    dtype, (begin, end) = DTYPES[code], offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"{path}: {name!r} {code} {shape} takes {math.prod(shape) * dtype.itemsize} bytes, its data_offsets span {end - begin}")
    return dtype, tuple(shape), begin, end


def _check_tiling(path: Path, spans: dict[str, tuple[np.dtype, tuple[int, ...], int, int]], data_start: int, size: int) -> None:
    """The tensors must cover the data one after the other: no holes, no overlap, nothing missing, nothing left."""
    position = 0
    for name, (_, _, begin, end) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise WeightsError(f"{path}: {name!r} begins at byte {begin} of the data, expected {position}: a hole or an overlap")
        position = end
    if data_start + position != size:
        kind = "truncated" if size < data_start + position else "too long"
        raise WeightsError(f"{path}: {kind}: expected {data_start + position} bytes, found {size}")


def _tensor(path: Path, name: str, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> Tensor:
    def read() -> np.ndarray:
        count = math.prod(shape)
        array = np.fromfile(path, dtype=dtype, count=count, offset=offset)
        if array.size != count:
            raise WeightsError(f"{path}: {name!r} ended after {array.size} of {count} numbers: the file changed while it was read")
        return array.reshape(shape)

    return Tensor(shape, dtype, read)
