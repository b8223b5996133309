"""A model over a whole split: one compiled function for every split, every example exactly once.

The caller gives a pure `predict` and a `put` that places a batch on the mesh; everything here is the same on one device, on eight, and on several hosts.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ftjax.errors import DataError
from ftjax.evaluation.records import Records, records

Batch = Mapping[str, Any]
Predict = Callable[[Any, Any, Batch], jax.Array]
"""`predict(params, extra, batch) -> logits [batch classes]`, pure."""

IN_FLIGHT = 4
"""Batches that the device works on while older ones travel to the host; bounds device memory."""


class Evaluator:
    """Runs `predict` over batches and brings the records of all examples to the host.

    Every batch is padded to `batch_size` rows, so one compilation serves all splits. `batch_size` must suit `put` (on a mesh: a multiple of the devices on the
    data axis); batches may be shorter than that, never longer.

    With several processes each calls `run` with the same number of batches and a `put` that makes global arrays; every process then receives the records of
    all examples (`multihost_utils.process_allgather`, a collective per batch).
    """

    def __init__(self, predict: Predict, *, batch_size: int, put: Callable[[dict[str, Any]], Batch] = jax.device_put) -> None:
        self._batch_size = batch_size
        self._put = put

        def step(params: Any, extra: Any, batch: Batch) -> tuple[dict[str, jax.Array], jax.Array]:
            logits = predict(params, extra, batch)
            return records(logits, batch), logits

        self._step = jax.jit(step)

    def run(self, params: Any, extra: Any, batches: Iterable[Batch], *, logits: bool = False) -> Records:
        """The records of every example of `batches`, in their order, without padding.

        Args:
          params: the model's parameters, passed on to `predict`.
          extra: its batch statistics, likewise.
          batches: `image`, `label`, `weight`, `id` and whatever `predict` reads; numpy, weight 0 marks padding.
          logits: also bring the logits to the host, float32 `[n classes]`.

        Raises:
          DataError: no batch, a batch longer than `batch_size`, or an example that came twice.
        """
        done: list[Records] = []
        travelling: collections.deque[tuple[dict[str, jax.Array], jax.Array | None]] = collections.deque()
        for batch in batches:
            computed, scores = self._step(params, extra, self._put(pad(batch, self._batch_size)))
            item = (computed, scores if logits else None)
            # The copy starts when the device is done and nobody waits for it: the next batches are already queued.
            jax.tree.map(_start_copy, item)
            travelling.append(item)
            if len(travelling) > IN_FLIGHT:
                done.append(_on_host(travelling.popleft()))
        done += [_on_host(item) for item in travelling]
        return check_unique(Records.concatenate(done).drop_padding())


def pad(batch: Batch, batch_size: int) -> dict[str, Any]:
    """The batch with rows of zeros (so weight 0) up to `batch_size`.

    Raises:
      DataError: it is longer than that.
    """
    rows = len(batch["id"])
    if rows > batch_size:
        raise DataError(f"a batch of {rows} examples does not fit evaluation.batch_size {batch_size}")
    if rows == batch_size:
        return dict(batch)
    return {name: np.pad(np.asarray(array), [(0, batch_size - rows)] + [(0, 0)] * (np.ndim(array) - 1)) for name, array in batch.items()}


def check_unique(value: Records) -> Records:
    """`value`, in which every id is there once.

    Raises:
      DataError: naming the first id that is there twice.
    """
    ids, counts = np.unique(value.id, return_counts=True)
    if len(ids) < len(value):
        raise DataError(f"example {ids[np.argmax(counts > 1)]} was evaluated {counts[np.argmax(counts > 1)]} times; every example must count once")
    return value


def _start_copy(array: jax.Array) -> None:
    if array.is_fully_addressable:
        array.copy_to_host_async()


def _on_host(item: tuple[dict[str, jax.Array], jax.Array | None]) -> Records:
    """Wait for one batch."""
    if jax.process_count() > 1:
        item = multihost_utils.process_allgather(item, tiled=True)
    computed, scores = jax.device_get(item)
    return Records(**computed, logits=None if scores is None else np.asarray(scores, np.float32))
