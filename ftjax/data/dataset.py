"""What the rest of ftjax sees of a data set: three splits of labelled images, and where their pixels come from.

A split hands out uint8 pixels by row index; whether they lie in memory or are decoded on the spot is hidden behind one callable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

Batch = dict[str, np.ndarray]
"""`image` uint8 `[batch h w 3]`, `label` int32, `weight` float32 (0 marks padding), `id` int32 (row in the split; -1 marks padding)."""

Progress = Callable[[int, int], None]
"""Called with (done, total) while files are read."""

SPLITS = ("train", "validation", "test")

UNLABELLED = -1
"""The label of images that have none (`read_images`)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Rows of one split, sorted by id.

    `images(indices)` gives the pixels of those rows, uint8 `[k h w 3]`, the same whenever it is asked.
    `rejected` names the files that `read_images` left out, with the reason.
    """

    ids: tuple[str, ...]
    labels: Int32[np.ndarray, " rows"]
    images: Callable[[Int[np.ndarray, " k"]], UInt8[np.ndarray, "k h w 3"]]
    rejected: tuple[Mapping[str, str], ...] = ()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The three splits `train`, `validation` and `test`, the class names by label, and the report that becomes data.json."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    report: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What a source found: one row per example, not yet decoded.

    `labels` index `classes`; `splits` holds the split that the data themselves name for the row, "train" where they name none.
    `read(row)` gives the encoded file, or its pixels uint8 `[h w]`, `[h w 1]` or `[h w 3]`.
    """

    where: str
    ids: tuple[str, ...]
    labels: Int32[np.ndarray, " rows"]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    read: Callable[[int], bytes | np.ndarray]
    ignored: tuple[Mapping[str, str], ...] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)


Members = dict[str, np.ndarray]
"""Which rows of a `Rows` each split holds: split name -> int64 row indices in order of id."""


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Pixels that lie decoded in memory; `rows[i]` is where row i of the split lies in `pixels`."""

    pixels: UInt8[np.ndarray, "all h w 3"]
    rows: Int[np.ndarray, " rows"]

    def __call__(self, indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
        """Copy the pixels of these rows."""
        return self.pixels[self.rows[indices]]
