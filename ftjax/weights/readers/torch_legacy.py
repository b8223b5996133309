"""torch's files from before the zip format (2020), read without torch and without running a pickle.

Five pickles stand one after the other (a magic number, the version, what machine wrote them, what there is, and the order of the storages); then come the
storages, each a count (int64) and its numbers. What there is is followed as in a zip file, by an interpreter that can call nothing (`torch_pickle`).
Nothing guards the numbers but their lengths, which must fill the file exactly.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.readers.torch_pickle import HINT, Storage, View, read_pickle
from ftjax.weights.readers.torch_zip import LEGACY_MAGIC, strided, unwrap
from ftjax.weights.source import MAX_HEADER, Tensor

_VERSION = 1001
_COUNT = 8
"""Bytes of the count before a storage."""


def is_torch_legacy(path: Path) -> bool:
    """Whether the file begins as such files do."""
    with path.open("rb") as file:
        return file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC


def read_torch_legacy(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a state dict, unwrapped as `read_torch_zip` does.

    Raises:
      WeightsError: the file is damaged, asks for code, comes from a big-endian machine, or its sizes do not agree.
    """
    with path.open("rb") as file:
        head = file.read(MAX_HEADER)
    programs, begin = _programs(path, head)
    version, machine, value, keys = (read_pickle(program, str(path)) for program in programs[1:])
    if version != _VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise WeightsError(f"{path}: version {str(version)[:20]} of torch's old format, or a big-endian machine; {HINT}")
    state, metadata = unwrap(path, value)
    places = _places(path, keys, {view.storage.key: view.storage for view in state.values()}, begin)
    return {name: _tensor(path, view, places[view.storage.key]) for name, view in state.items()}, metadata


def _programs(path: Path, head: bytes) -> tuple[list[bytes], int]:
    """The five pickles, and where the numbers begin."""
    programs, begin = [], 0
    for _ in range(5):
        try:
            stop = next(int(place or 0) for opcode, _, place in pickletools.genops(head[begin:]) if opcode.name == "STOP")
        except (ValueError, StopIteration, IndexError) as error:
            raise WeightsError(f"{path}: a torch file from before 2020 whose contents cannot be read ({str(error)[:80]}); it may be truncated") from None
        programs.append(head[begin : begin + stop + 1])
        begin += stop + 1
    return programs, begin


def _places(path: Path, keys: Any, storages: dict[str, Storage], begin: int) -> dict[str, int]:
    """Where the numbers of each storage begin.

    Raises:
      WeightsError: a count or the length of the file is not what the contents say.
    """
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise WeightsError(f"{path}: the list of storages is not that of the tensors; {HINT}")
    places, size = {}, path.stat().st_size
    with path.open("rb") as file:
        for key in keys:
            file.seek(begin)
            count = int.from_bytes(file.read(_COUNT), "little", signed=True)
            if count != storages[key].count:
                raise WeightsError(f"{path}: storage {key[:40]!r} should have {storages[key].count} numbers and says {count}; the file is damaged")
            places[key] = begin + _COUNT
            begin += _COUNT + count * storages[key].dtype.itemsize
    if begin != size:
        raise WeightsError(f"{path}: {size} bytes, its contents need {begin}; it is truncated or damaged")
    return places


def _tensor(path: Path, view: View, place: int) -> Tensor:
    return Tensor(view.shape, view.storage.dtype, lambda: _read(path, view, place))


def _read(path: Path, view: View, place: int) -> np.ndarray:
    """The view's numbers as an array of its own."""
    try:
        flat = np.fromfile(path, view.storage.dtype, view.storage.count, offset=place)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from None
    if len(flat) != view.storage.count:
        raise WeightsError(f"{path}: ends early; it has changed since it was opened")
    return strided(flat, view)
