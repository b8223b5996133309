"""Texts of about one length share a batch, so that little is padded and few shapes are compiled.

`choose_buckets` picks the lengths; `batch_rows` says which rows training batch `step` holds: a pure function of its arguments, whoever asks, in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ftjax.errors import ConfigError, DataError

_WORD = 2**64 - 1
_MULTIPLE = 8
_DRAW = 1 << 63
"""Added to the epoch where rows are drawn, so that drawing and shuffling use independent words."""

Batches = tuple[tuple[Int[np.ndarray, " rows"], int, int], ...]
"""(rows, length, rows of a full batch) of every batch of an epoch, in order."""


def choose_buckets(lengths: Int[np.ndarray, " rows"], count: int) -> tuple[int, ...]:
    """At most `count` lengths, multiples of 8, ascending, the last one no shorter than any row, with the fewest tokens when each row is padded to its bucket.

    Dynamic programming over the m occupied multiples of 8: `cost(k, j)`, the tokens of all rows up to length j in k buckets of which the last is j, is
    `min_i cost(k - 1, i) + j * rows in (i, j]`; O(count * m^2).

    Raises:
      ConfigError: `count` is below 1.
      DataError: there are no rows.
    """
    if count < 1:
        raise ConfigError(f"text.buckets={count}: allowed is 1 or more")
    if not len(lengths):
        raise DataError("there are no rows to choose buckets for")
    units, rows = np.unique(-(-np.maximum(np.asarray(lengths), 1) // _MULTIPLE), return_counts=True)
    before = np.concatenate([[0], np.cumsum(rows)])
    # tokens[i, j]: rows of the units i+1 ... j (counted from 1) padded to unit j.
    tokens = np.where(np.arange(len(units) + 1)[:, None] < np.arange(1, len(units) + 1), units * (before[None, 1:] - before[:, None]), np.inf)
    cost, chosen = tokens[0], []
    for _ in range(min(count, len(units)) - 1):
        options = np.concatenate([[np.inf], cost])[:, None] + tokens
        chosen.append(options.argmin(axis=0))
        cost = options.min(axis=0)
    last, picked = len(units), [len(units)]
    for best in reversed(chosen):
        last = int(best[last - 1])
        picked.append(last)
    return tuple(int(units[position - 1]) * _MULTIPLE for position in reversed(picked))


def batch_size_of(length: int, batch_size: int, tokens: int | None, multiple: int = 1) -> int:
    """Rows of a full batch of this length: `batch_size`, or as many as `tokens` hold, rounded down to a multiple.

    Raises:
      ConfigError: `tokens` do not hold `multiple` rows.
    """
    if tokens is None:
        return batch_size
    size = tokens // length // multiple * multiple
    if not size:
        rows = "one text" if multiple == 1 else f"{multiple} texts (one for each device and part of the batch)"
        raise ConfigError(
            f"train.batch_tokens={tokens} does not hold {rows} of {length} tokens; allowed is {length * multiple} or more, or a smaller text.max_length"
        )
    return size


def steps_per_epoch(lengths: Int[np.ndarray, " rows"], buckets: Sequence[int], batch_size: int, tokens: int | None = None, multiple: int = 1) -> int:
    """Batches of one epoch: the same number in every epoch.

    Raises:
      ConfigError: `tokens` do not hold a row of the longest bucket.
      DataError: a row is longer than the longest bucket.
    """
    return sum(batches_per_bucket(lengths, buckets, batch_size, tokens, multiple))


def batches_per_bucket(
    lengths: Int[np.ndarray, " rows"], buckets: Sequence[int], batch_size: int, tokens: int | None = None, multiple: int = 1
) -> tuple[int, ...]:
    """How many batches of an epoch have the length of each bucket; what is left over in one goes up to the next.

    Raises:
      ConfigError: `tokens` do not hold a row of the longest bucket.
      DataError: a row is longer than the longest bucket.
    """
    sizes = [batch_size_of(length, batch_size, tokens, multiple) for length in buckets]
    counts = np.bincount(_bucket_of(lengths, buckets), minlength=len(buckets))
    found, carried = [], 0
    for count, size in zip(counts, sizes):
        full, carried = divmod(int(count) + carried, size)
        found.append(full)
    found[-1] += bool(carried)
    return tuple(found)


def batch_rows(
    lengths: Int[np.ndarray, " rows"],
    buckets: Sequence[int],
    step: int,
    batch_size: int,
    seed: int,
    tokens: int | None = None,
    weights: Float[np.ndarray, " rows"] | None = None,
    multiple: int = 1,
) -> tuple[Int[np.ndarray, " batch"], int, int]:
    """Which rows training batch `step` holds.

    In each epoch the rows of a bucket are shuffled and cut into batches of `batch_size` rows (or `tokens // length`), what is left over goes up to the next
    bucket, and the batches are shuffled: every row exactly once, and only the last batch of the longest bucket may be short.

    Args:
      lengths: tokens of each row. The array is the key of a cache: do not change it in place.
      buckets: ascending lengths.
      step: from 0.
      batch_size: rows of a batch.
      seed: of the order.
      tokens: of a batch, padding included, instead of `batch_size`.
      weights: rows are drawn (`drawn`) instead of each coming once.
      multiple: with `tokens`, full batches hold a multiple of this many rows.

    Returns:
      The rows, the length to pad them to, and the number of rows to pad the batch to.

    Raises:
      ConfigError: `tokens` do not hold a row of the longest bucket.
      DataError: there are no rows, or one is longer than the longest bucket.
    """
    if not len(lengths):
        raise DataError("there are no rows to make batches of")
    sizes = tuple(batch_size_of(length, batch_size, tokens, multiple) for length in buckets)
    steps = _steps(_Same(lengths), tuple(buckets), batch_size, tokens, multiple)
    epoch, position = divmod(step, steps)
    batches = _epoch(_Same(lengths), tuple(buckets), sizes, seed, epoch, None if weights is None else _Same(weights))
    # Rows that are drawn may fill a few batches more or fewer when batches are counted in tokens; an epoch keeps its number of steps.
    return batches[position % len(batches)]


def drawn(weights: Float[np.ndarray, " rows"], seed: int, epoch: int) -> Int[np.ndarray, " rows"]:
    """As many rows as there are, drawn for one epoch in proportion to `weights`, sorted by row.

    Systematic sampling: row i comes `n * weights[i] / sum(weights)` times, rounded up or down. Rows of one weight lie side by side, in an order of this
    epoch's, so a class whose rows share a weight gets its share to within a row, and takes turns among its rows.
    """
    return _drawn(_Same(weights), seed, epoch)


@functools.lru_cache(maxsize=4)
def _drawn(same: _Same, seed: int, epoch: int) -> Int[np.ndarray, " rows"]:
    weights = same.array
    rows = len(weights)
    words = _words(seed, epoch | _DRAW, rows + 1)
    order = np.lexsort((words[:rows], weights))
    cumulative = np.cumsum(np.asarray(weights, np.float64)[order])
    start = (int(words[rows]) >> 11) * 2.0**-53
    points = (np.arange(rows) + start) * (cumulative[-1] / rows)
    return np.sort(order[np.minimum(np.searchsorted(cumulative, points, side="right"), rows - 1)])


class _Same:
    """An array as the key of a cache: equal only to itself, and kept alive so that its identity stays its own."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.array is self.array


@functools.lru_cache(maxsize=8)
def _steps(lengths: _Same, buckets: tuple[int, ...], batch_size: int, tokens: int | None, multiple: int) -> int:
    return steps_per_epoch(lengths.array, buckets, batch_size, tokens, multiple)


@functools.lru_cache(maxsize=4)
def _epoch(lengths: _Same, buckets: tuple[int, ...], sizes: tuple[int, ...], seed: int, epoch: int, weights: _Same | None) -> Batches:
    """All batches of one epoch, in order."""
    rows = np.arange(len(lengths.array)) if weights is None else drawn(weights.array, seed, epoch)
    # No epoch has more batches than rows.
    words = _words(seed, epoch, 2 * len(rows))
    rows = rows[np.argsort(words[: len(rows)], kind="stable")]
    bucket = _bucket_of(lengths.array, buckets)[rows]
    batches, carried = [], np.empty(0, rows.dtype)
    for number, (length, size) in enumerate(zip(buckets, sizes)):
        here = np.concatenate([carried, rows[bucket == number]])
        full = len(here) // size * size
        batches += [(part, length, size) for part in here[:full].reshape(-1, size)]
        carried = here[full:]
    if len(carried):
        batches.append((carried, buckets[-1], sizes[-1]))
    order = np.argsort(words[len(rows) : len(rows) + len(batches)], kind="stable")
    return tuple(batches[position] for position in order)


def _bucket_of(lengths: Int[np.ndarray, " rows"], buckets: Sequence[int]) -> Int[np.ndarray, " rows"]:
    bucket = np.searchsorted(np.asarray(buckets), np.asarray(lengths))
    if len(bucket) and int(bucket.max()) >= len(buckets):
        raise DataError(f"row {int(bucket.argmax())} has {int(np.asarray(lengths)[bucket.argmax()])} tokens, more than the longest bucket ({buckets[-1]})")
    return bucket


def _words(seed: int, epoch: int, count: int) -> Int[np.ndarray, " count"]:
    """Raw words of Philox4x64 keyed by (seed, epoch): NumPy keeps them the same for ever."""
    return np.random.Philox(key=np.array([seed & _WORD, epoch & _WORD], np.uint64)).random_raw(count)
