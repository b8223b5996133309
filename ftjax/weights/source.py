"""What every reader hands over: the tensors of a file by name, read one at a time, and the fingerprint of the bytes.

A name is only ever a key of a dictionary: it never becomes a path, a module or an attribute.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MAX_TENSORS = 100_000
"""More tensors than any model has; a file that claims more is hostile (a million names take most of a minute to parse)."""

MAX_HEADER = 16 * 2**20
"""Bytes of a table of contents (a safetensors header, a torch `data.pkl`)."""

MAX_DIMENSIONS = 32


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a file: its shape and type are known, its values are read on demand."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


class LazyTensors(Mapping[str, np.ndarray]):
    """A read-only mapping from names to arrays that reads a tensor each time it is asked for one."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].read()

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype:
        """Type of a tensor, without reading it."""
        return self._tensors[name].dtype


def in_memory(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays that a format can only give all at once, as tensors."""
    return {name: Tensor(array.shape, array.dtype, lambda array=array: array) for name, array in arrays.items()}


@dataclasses.dataclass(frozen=True)
class Source:
    """An open file (or directory) of weights.

    Attributes:
      tensors: every tensor by the name that the file gives it.
      format: `"safetensors"`, `"flax msgpack"`, `"orbax"`, `"npz"`, `"torch zip"` or `"torch legacy"`.
      location: what the user asked for.
      sha256: of the file; of the sorted list of files and their digests where there are several.
      metadata: the texts that came with the tensors.
      settings: `config.json` and its kin where `transformers` wrote them beside the tensors, by the name of the file.
      folder: where the tensors lie, and a tokenizer beside them if there is one; None: inside the package.
    """

    tensors: LazyTensors
    format: str
    location: str
    sha256: str
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    folder: Path | None = None


def file_digest(path: Path) -> str:
    """SHA-256 of one file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(files: list[Path], root: Path) -> str:
    """SHA-256 of one file, or of the lines `digest  name` of several, sorted by their name below `root`."""
    if len(files) == 1:
        return file_digest(files[0])
    lines = sorted(f"{path.relative_to(root).as_posix()}  {file_digest(path)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
