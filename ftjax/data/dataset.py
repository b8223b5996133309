"""What the rest of ftjax sees of a data set: three splits of labelled examples, pictures or texts, and where their arrays come from.

A split hands out what a model reads by row index; whether it lies in memory or is made on the spot is hidden behind one callable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Int32, UInt8

from ftjax.data.moments import Moment

if TYPE_CHECKING:
    from ftjax.data.interactions.catalogue import Catalogue
    from ftjax.data.interactions.histories import Histories

Batch = dict[str, np.ndarray]
"""The fields of a split (`image` uint8 `[batch h w 3]`, or `tokens`, `mask` and `segments` `[batch length]`), `label`, `weight` float32 (0 marks padding)
and `id` int32 (row in the split; -1 marks padding)."""

Fields = Callable[[Int[np.ndarray, " k"]], dict[str, np.ndarray]]
"""`fields(indices)`: what enters a batch of these rows beside label, weight and id; leading axis `k`."""

Images = Callable[[Int[np.ndarray, " k"]], UInt8[np.ndarray, "k h w 3"]]

Progress = Callable[[int, int], None]
"""Called with (done, total) while files are read."""

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Curriculum:
    """Which training rows there are at a step: the first ones of `order`, from a share `start` of them at step 0 to all of them at step `steps`."""

    order: Int[np.ndarray, " rows"]
    steps: int
    start: float


UNLABELLED = -1
"""The label of examples that have none (`read_images`)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Rows of one split.

    Attributes:
      ids: names of the rows.
      labels: `[rows ...]`, as the task wants them; a class is an int32.
      fields: `fields(indices)` gives what a model reads of those rows, the same whenever it is asked.
      show: `show(row)` gives what a person sees of a row: `{"image": uint8 [h w 3]}`, or `{"text": ...}` and `{"text_pair": ...}`.
      lengths: int32 tokens of each row; None: all rows have one shape.
      buckets: where there are lengths, those that batches are padded to, ascending.
      sampling: how often a row is drawn in training, relative to the others; None: every row once an epoch.
      curriculum: which rows there are at a step of training; None: all of them, always.
      rejected: files that were left out, with the reason.
      histories: of interactions, what each row knows and what came next; None: rows are something else.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    fields: Fields
    show: Callable[[int], dict[str, Any]] = lambda row: {}
    lengths: Int32[np.ndarray, " rows"] | None = None
    buckets: tuple[int, ...] = ()
    sampling: Float[np.ndarray, " rows"] | None = None
    curriculum: Curriculum | None = None
    rejected: tuple[Mapping[str, str], ...] = ()
    histories: Histories | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)


def rows_of_split(split: Split, kept: Int[np.ndarray, " rows"]) -> Split:
    """Only these rows of a split, in this order."""
    fields, show = split.fields, split.show
    return dataclasses.replace(
        split,
        ids=tuple(split.ids[row] for row in kept),
        labels=split.labels[kept],
        fields=lambda rows: fields(kept[rows]),
        show=lambda row: show(int(kept[row])),
        lengths=None if split.lengths is None else split.lengths[kept],
        sampling=None if split.sampling is None else split.sampling[kept],
    )


def image_split(ids: tuple[str, ...], labels: Int32[np.ndarray, " rows"], images: Images, rejected: tuple[Mapping[str, str], ...] = ()) -> Split:
    """A split of pictures: `images(indices)` gives the pixels of those rows, uint8 `[k h w 3]`."""
    return Split(ids, labels, lambda rows: {"image": images(rows)}, lambda row: {"image": images(np.array([row]))[0]}, rejected=rejected)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The three splits `train`, `validation` and `test`, the class names by label, and the report that becomes data.json."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    report: dict[str, Any]
    examples: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """What a person sees (`Split.show`) of rows that findings name, by id; some may be in no split any more."""
    catalogue: Catalogue | None = None
    """Of interactions: the items that `classes` names, with their texts and how often each is in training."""
    removed: Iterable[Mapping[str, Any]] = ()
    """Further lines of rejected.jsonl: what went by a rule and is too much to be in the report one by one."""


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
    schema: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What a row has, and of which type: name -> type, as data.json shows it."""
    noun: str = "images"
    """What the rows are called in messages."""
    groups: tuple[str, ...] | None = None
    """What each row has in common with those that it may not be separated from (`data.group`)."""
    moments: tuple[Moment, ...] | None = None
    """When each row is from (`data.time`)."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)

    def key(self, row: int) -> str:
        """What decides where a row goes: its group, or its id where there are no groups."""
        return self.ids[row] if self.groups is None else self.groups[row]


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
