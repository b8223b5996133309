"""Batches: training batch t is a pure function of (split, t, batch size, seed), whoever asks, in whatever order, from any number of threads.

So the position in the data is the step number: nothing is saved to continue a run. Grain only prepares the same batches ahead of time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import grain
import numpy as np
from jaxtyping import Int

from ftjax.data import curriculum
from ftjax.data.dataset import Batch, Split
from ftjax.data.text import bucketed
from ftjax.errors import DataError

_WORD = 2**64 - 1
PADDING_ID = -1
_NO_TOKEN = {"token_label": -100, "word": -1}
_OF_TOKENS = (
    *(f"{side}{name}" for side in ("", "pair_") for name in ("tokens", "mask", "segments", "document", "learn")),
    *_NO_TOKEN,
    "items",
)
"""Fields `[batch length]`."""


def batch_at(split: Split, step: int, batch_size: int, seed: int, tokens: int | None = None) -> Batch:
    """Training batch `step`.

    Rows of one shape: positions `step * batch_size ...` of the endless sequence permutation(epoch 0), permutation(epoch 1), ...: batches run across the
    border of epochs, so every row is seen once an epoch, no batch is short, and a batch may be larger than the split.
    While a curriculum paces the rows: `curriculum.draw`; texts are padded to the bucket of the longest one drawn.
    Rows with lengths: `bucketed.batch_rows`; a batch holds texts of about one length, the last one of an epoch is filled up with rows of weight 0.

    Args:
      split: of the training rows.
      step: from 0.
      batch_size: rows.
      seed: of the order.
      tokens: of a batch, padding included, instead of `batch_size`; only where rows have lengths.

    Raises:
      DataError: the split is empty, or a file behind it can no longer be read.
    """
    if not len(split):
        raise DataError("there are no rows to make batches of")
    if split.curriculum is not None and step < split.curriculum.steps:
        return _batch(split, curriculum.draw(split.curriculum, step, batch_size, seed))
    if split.lengths is not None:
        rows, length, size = bucketed.batch_rows(split.lengths, split.buckets, step, batch_size, seed, tokens, split.sampling)
        return _padded(_lengthened(_batch(split, rows), length), size)
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, len(split))
    rows = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        order = permutation(len(split), seed, int(epoch))
        rows[here] = order[offsets[here]] if split.sampling is None else bucketed.drawn(split.sampling, seed, int(epoch))[order[offsets[here]]]
    return _batch(split, rows)


def steps_per_epoch(split: Split, batch_size: int, tokens: int | None = None) -> Fraction:
    """Batches that hold every row once; a fraction where they run across the border of epochs."""
    if split.lengths is None:
        return Fraction(len(split), batch_size)
    return Fraction(bucketed.steps_per_epoch(split.lengths, split.buckets, batch_size, tokens))


@functools.lru_cache(maxsize=8)
def permutation(rows: int, seed: int, epoch: int) -> Int[np.ndarray, " rows"]:
    """The order of one epoch: the argsort of `rows` raw words of the counter-based generator Philox4x64 keyed by (seed, epoch).

    NumPy keeps a bit generator's raw stream the same for ever, unlike `Generator.permutation`.
    """
    words = np.random.Philox(key=np.array([seed & _WORD, epoch & _WORD], np.uint64)).random_raw(rows)
    order = np.argsort(words, kind="stable")
    order.flags.writeable = False
    return order


def batches_of_every_shape(split: Split, step: int, batch_size: int, seed: int, tokens: int | None = None) -> list[Batch]:
    """A batch of every shape that training meets from `step` on: one, or one for each bucket that holds rows."""
    if split.lengths is None:
        return [batch_at(split, step, batch_size, seed, tokens)]
    filled = np.unique(np.searchsorted(np.asarray(split.buckets), split.lengths))
    sizes = {split.buckets[bucket]: bucketed.batch_size_of(split.buckets[bucket], batch_size, tokens) for bucket in filled}
    return [_padded(_lengthened(_batch(split, np.argsort(split.lengths, kind="stable")[:1]), length), size) for length, size in sizes.items()]


def shares_of_every_shape(split: Split, batch_size: int, tokens: int | None = None) -> list[float]:
    """Share of an epoch's batches that has each of the shapes of `batches_of_every_shape`, in its order."""
    if split.lengths is None:
        return [1.0]
    counts = np.array(bucketed.batches_per_bucket(split.lengths, split.buckets, batch_size, tokens))
    filled = np.unique(np.searchsorted(np.asarray(split.buckets), split.lengths))
    return (counts[filled] / counts.sum()).tolist()


def train_batches(split: Split, batch_size: int, seed: int, start: int, stop: int, workers: int, tokens: int | None = None) -> Iterator[Batch]:
    """Batches `start` to `stop - 1`, prepared ahead by `workers` threads (0: when asked for); item k equals `batch_at(split, start + k, ...)`.

    It is a generator: `contextlib.closing(train_batches(...))` or running to the end stops the threads.
    """
    return _prepared(functools.partial(batch_at, split, batch_size=batch_size, seed=seed, tokens=tokens), start, stop, workers)


def eval_batches(split: Split, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """All rows, each once, in order (rows with lengths: bucket by bucket); a short batch is filled up with rows of zeros, weight 0 and id -1."""
    parts = [part for bucket in _by_bucket(split) for part in _cut(bucket, batch_size)]
    return _prepared(lambda index: _padded(_batch(split, parts[index]), batch_size), 0, len(parts), workers)


def _by_bucket(split: Split) -> list[Int[np.ndarray, " rows"]]:
    """Rows whose batches have one shape."""
    if split.lengths is None:
        return [np.arange(len(split))]
    bucket = np.searchsorted(np.asarray(split.buckets), split.lengths)
    return [np.flatnonzero(bucket == number) for number in np.unique(bucket)]


def _cut(rows: Int[np.ndarray, " rows"], size: int) -> list[Int[np.ndarray, " part"]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _batch(split: Split, rows: Int[np.ndarray, " batch"]) -> Batch:
    return {**split.fields(rows), "label": split.labels[rows], "weight": np.ones(len(rows), np.float32), "id": rows.astype(np.int32)}


def _lengthened(batch: Batch, length: int) -> Batch:
    """The fields of tokens filled up to `length`: a batch of short rows in a bucket of longer ones has that bucket's shape."""
    first = next((name for name in ("tokens", "items") if name in batch), None)
    missing = length - batch[first].shape[1] if first is not None else 0
    if not missing:
        return batch

    def fill(key: str, array: np.ndarray) -> np.ndarray:
        return np.pad(array, ((0, 0), (0, missing)), constant_values=_NO_TOKEN.get(key, 0))

    return {key: fill(key, array) if key in _OF_TOKENS else array for key, array in batch.items()}


def of_one_length(batches: Sequence[Batch]) -> list[Batch]:
    """Batches of texts filled up to the length of the longest, so that they can be joined; others as they are."""
    lengths = [batch["tokens"].shape[1] for batch in batches if "tokens" in batch]
    return [_lengthened(batch, max(lengths)) for batch in batches] if lengths else list(batches)


def _padded(batch: Batch, size: int) -> Batch:
    missing = size - len(batch["id"])
    if not missing:
        return batch
    fill = {"id": PADDING_ID}
    return {key: np.concatenate([array, np.full((missing, *array.shape[1:]), fill.get(key, 0), array.dtype)]) for key, array in batch.items()}


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
