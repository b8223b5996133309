"""Batches: training batch t is a pure function of (split, t, batch size, seed), whoever asks, in whatever order, from any number of threads.

So the position in the data is the step number: nothing is saved to continue a run. Grain only prepares the same batches ahead of time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import grain
import numpy as np
from jaxtyping import Int

from ftjax.data.dataset import Batch, Split
from ftjax.errors import DataError

_WORD = 2**64 - 1
PADDING_ID = -1


def batch_at(split: Split, step: int, batch_size: int, seed: int) -> Batch:
    """Training batch `step`.

    Positions `step * batch_size ...` of the endless sequence permutation(epoch 0), permutation(epoch 1), ...: batches run across the border of epochs, so
    every row is seen once an epoch, no batch is short, and a batch may be larger than the split.

    Raises:
      DataError: the split is empty, or a file behind it can no longer be read.
    """
    if not len(split):
        raise DataError("there are no rows to make batches of")
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, len(split))
    rows = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = permutation(len(split), seed, int(epoch))[offsets[here]]
    return _batch(split, rows)


@functools.lru_cache(maxsize=8)
def permutation(rows: int, seed: int, epoch: int) -> Int[np.ndarray, " rows"]:
    """The order of one epoch: the argsort of `rows` raw words of the counter-based generator Philox4x64 keyed by (seed, epoch).

    NumPy keeps a bit generator's raw stream the same for ever, unlike `Generator.permutation`.
    """
    words = np.random.Philox(key=np.array([seed & _WORD, epoch & _WORD], np.uint64)).random_raw(rows)
    order = np.argsort(words, kind="stable")
    order.flags.writeable = False
    return order


def train_batches(split: Split, batch_size: int, seed: int, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Batches `start` to `stop - 1`, prepared ahead by `workers` threads (0: when asked for); item k equals `batch_at(split, start + k, ...)`.

    It is a generator: `contextlib.closing(train_batches(...))` or running to the end stops the threads.
    """
    return _prepared(functools.partial(batch_at, split, batch_size=batch_size, seed=seed), start, stop, workers)


def eval_batches(split: Split, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """All rows in order, each once; the last batch is filled up with black images of weight 0, label 0 and id -1."""

    def batch(index: int) -> Batch:
        rows = np.arange(index * batch_size, min((index + 1) * batch_size, len(split)))
        return _padded(_batch(split, rows), batch_size)

    return _prepared(batch, 0, -(-len(split) // batch_size), workers)


def _batch(split: Split, rows: Int[np.ndarray, " batch"]) -> Batch:
    labels = split.labels[rows].astype(np.int32)
    return {"image": split.images(rows), "label": labels, "weight": np.ones(len(rows), np.float32), "id": rows.astype(np.int32)}


def _padded(batch: Batch, size: int) -> Batch:
    missing = size - len(batch["id"])
    if not missing:
        return batch
    fill = {"image": 0, "label": 0, "weight": 0.0, "id": PADDING_ID}
    return {key: np.concatenate([array, np.full((missing, *array.shape[1:]), fill[key], array.dtype)]) for key, array in batch.items()}


@dataclasses.dataclass(frozen=True)
class _Source:
    """Batches by number, as Grain wants them."""

    batch: Callable[[int], Batch]
    stop: int

    def __len__(self) -> int:
        return self.stop

    def __getitem__(self, index: int) -> Batch:
        return self.batch(int(index))


def _prepared(batch: Callable[[int], Batch], start: int, stop: int, workers: int) -> Iterator[Batch]:
    """`batch(start)` to `batch(stop - 1)` in order, through Grain's threads."""
    if start >= stop:
        return
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=max(4, workers))
    iterator = iter(grain.MapDataset.source(_Source(batch, stop))[start:stop].to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()
