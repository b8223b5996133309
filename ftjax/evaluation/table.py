"""What the records of every task are: one array per field, one row per example, whatever else a task remembers.

A kind of records is a frozen dataclass of arrays with a leading axis of examples; picking rows, joining batches and the file on disk follow from its fields.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float32, Int32

from ftjax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RecordTable:
    """Rows of examples. A field's metadata may say `fill`: what shorter rows are filled with where batches of several lengths are joined; 0 otherwise."""

    id: Int32[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]
    logits: Float32[np.ndarray, "n ..."] | None = None

    kind: ClassVar[str]
    """The task, as it stands in the file."""

    def __len__(self) -> int:
        return len(self.id)

    @property
    def losses(self) -> np.ndarray:
        """Float `[n]`: how bad each answer is; only their order is used."""
        raise NotImplementedError

    @property
    def correct(self) -> np.ndarray:
        """Bool `[n]`: the answer is right in every part; never, where answers are numbers."""
        return np.zeros(len(self), bool)

    @property
    def truth(self) -> np.ndarray | None:
        """What must agree where two models are compared on the same examples; None: nothing but the ids."""
        return getattr(self, "label", None)

    def check(self) -> None:
        """Refuse examples that cannot be measured.

        Raises:
          DataError: naming the first of them.
        """

    def take(self, indices: np.ndarray) -> Self:
        """The rows at `indices` (integers or a mask), in that order."""
        return dataclasses.replace(self, **{name: values[indices] for name, values in self.arrays().items()})

    def drop_padding(self) -> Self:
        """Without the rows of weight 0."""
        return self if np.all(self.weight > 0) else self.take(self.weight > 0)

    def by_id(self) -> Self:
        """In the order of ids.

        Raises:
          DataError: naming the first id that is there twice.
        """
        ids, counts = np.unique(self.id, return_counts=True)
        if len(ids) < len(self):
            raise DataError(f"example {ids[np.argmax(counts > 1)]} was evaluated {counts[np.argmax(counts > 1)]} times; every example must count once")
        return self if np.all(self.id[:-1] < self.id[1:]) else self.take(np.argsort(self.id, kind="stable"))

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that hold something, by name."""
        return {field.name: values for field in dataclasses.fields(self) if (values := getattr(self, field.name)) is not None}

    @staticmethod
    def concatenate(parts: Sequence[Any]) -> Any:
        """Tables of one kind, one after the other; a field that not all parts have (logits) is left out.

        Raises:
          DataError: there is no part.
        """
        if not parts:
            raise DataError("no records to concatenate: the split gave no batch")
        kind = type(parts[0])
        joined = {field.name: _joined([getattr(part, field.name) for part in parts], field.metadata.get("fill", 0)) for field in dataclasses.fields(kind)}
        return kind(**joined)


def _joined(parts: list[np.ndarray | None], fill: float) -> np.ndarray | None:
    """Arrays one after the other, padded at the end of every other axis to the largest; None where one is missing."""
    found = [np.asarray(part) for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    shape = np.max([part.shape[1:] for part in found], axis=0).astype(int) if found[0].ndim > 1 else ()
    padded = [np.pad(part, [(0, 0), *((0, size - had) for size, had in zip(shape, part.shape[1:]))], constant_values=fill) for part in found]
    return np.concatenate(padded)


def write_records(path: Path, value: RecordTable) -> None:
    """Store as `.npz` (one array per field, `kind` for other tasks than classification) through a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = value.arrays() | ({} if value.kind == "classification" else {"kind": np.array(value.kind)})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_records(path: Path) -> Any:
    """What `write_records` stored, of the kind it stored; no pickle is read."""
    with np.load(path, allow_pickle=False) as stored:
        name = str(stored["kind"]) if "kind" in stored else "classification"
        kind = next(kind for kind in RecordTable.__subclasses__() if kind.kind == name)
        return kind(**{field.name: stored[field.name] for field in dataclasses.fields(kind) if field.name in stored})
