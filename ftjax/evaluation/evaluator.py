"""A model over a whole split: one compiled function for every split, every example exactly once.

The caller gives a pure `predict` and a `put` that places a batch on the mesh; everything here is the same on one device, on eight, and on several hosts.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ftjax.data import Split
from ftjax.errors import DataError
from ftjax.evaluation.measures import Measures
from ftjax.tasks import Candidates

Batch = Mapping[str, Any]
Predict = Callable[[Any, Any, Batch], Any]
"""`predict(params, extra, batch) -> outputs [batch ...]` or `Candidates`, of which the users' vectors count as logits; pure."""

IN_FLIGHT = 4
"""Batches that the device works on while older ones travel to the host; bounds device memory."""


class Evaluator:
    """Runs `predict` over batches and brings the records of all examples to the host.

    Every batch is padded to `batch_size` rows, so one compilation (for texts one for each bucket) serves all splits. `batch_size` must suit `put` (on a
    mesh: a multiple of the devices on the data axis); batches may be shorter than that, never longer.

    With several processes each calls `run` with the same number of batches and a `put` that makes global arrays; every process then receives the records of
    all examples (`multihost_utils.process_allgather`, a collective per batch).
    """

    def __init__(self, predict: Predict, measures: Measures, *, batch_size: int, put: Callable[[dict[str, Any]], Batch] = jax.device_put) -> None:
        self._measures = measures
        self._batch_size = batch_size
        self._put = put

        def step(params: Any, extra: Any, batch: Batch) -> dict[str, jax.Array]:
            outputs = predict(params, extra, batch)
            return measures.records(outputs, batch) | {"logits": outputs.users if isinstance(outputs, Candidates) else outputs}

        self._step = jax.jit(step)

    def run(self, params: Any, extra: Any, batches: Iterable[Batch], split: Split, *, logits: bool = False) -> Any:
        """The records of every example of `batches`, sorted by id, without padding.

        Args:
          params: the model's parameters, passed on to `predict`.
          extra: its batch statistics, likewise.
          batches: the fields of the split, `label`, `weight` and `id`; numpy, weight 0 marks padding.
          split: where they come from, for measures that need more than numbers.
          logits: also bring the model's outputs to the host, float32.

        Raises:
          DataError: no batch, a batch longer than `batch_size`, or an example that came twice.
        """
        return self._measures.gather(check_unique(list(self.parts(params, extra, batches, logits=logits))), split)

    def parts(self, params: Any, extra: Any, batches: Iterable[Batch], *, logits: bool = False) -> Iterator[dict[str, np.ndarray]]:
        """The records of one batch after the other, padding included, and on request the outputs as `logits`."""
        travelling: collections.deque[dict[str, jax.Array]] = collections.deque()
        for batch in batches:
            item = self._step(params, extra, self._put(pad(batch, self._batch_size)))
            if not logits:
                del item["logits"]
            # The copy starts when the device is done and nobody waits for it: the next batches are already queued.
            jax.tree.map(_start_copy, item)
            travelling.append(item)
            if len(travelling) > IN_FLIGHT:
                yield _on_host(travelling.popleft())
        yield from map(_on_host, travelling)


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


def check_unique(parts: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """`parts`, in which every example is there once.

    Raises:
      DataError: naming the first id that is there twice.
    """
    ids, counts = np.unique([int(i) for part in parts for i in part["id"][part["weight"] > 0]], return_counts=True)
    twice = np.flatnonzero(counts > 1)
    if len(twice):
        raise DataError(f"example {ids[twice[0]]} was evaluated {counts[twice[0]]} times; every example must count once")
    return parts


def _start_copy(array: jax.Array) -> None:
    if array.is_fully_addressable:
        array.copy_to_host_async()


def _on_host(item: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    """Wait for one batch."""
    if jax.process_count() > 1:
        item = multihost_utils.process_allgather(item, tiled=True)
    arrays = {name: np.asarray(array) for name, array in jax.device_get(item).items()}
    return arrays | ({"logits": arrays["logits"].astype(np.float32)} if "logits" in arrays else {})
