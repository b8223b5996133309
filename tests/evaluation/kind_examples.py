"""Splits for tests of measures, and batches that went through `Measures.records`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax.data import Split
from ftjax.evaluation import Measures


def split_of(labels: np.ndarray, show: Callable[[int], dict[str, Any]] = lambda row: {}, fields: Mapping[str, np.ndarray] | None = None) -> Split:
    """A split named row0, row1, ... whose fields are rows of arrays."""
    ids = tuple(f"row{row}" for row in range(len(labels)))
    return Split(ids, labels, lambda rows: {name: values[rows] for name, values in (fields or {}).items()}, show)


def parts_of(measures: Measures, outputs: np.ndarray, batch: Mapping[str, np.ndarray], *, cuts: tuple[int, ...] = (), views: int = 1) -> list[dict[str, Any]]:
    """The records of batches that end at `cuts`, each with a row of padding that holds anything."""
    rows = len(batch["id"])
    compute, parts = _compiled(measures), []
    stacked = np.asarray(outputs, np.float32).reshape(views, rows, *np.shape(outputs)[1:])
    for start, stop in zip((0, *cuts), (*cuts, rows)):
        padded = {name: np.concatenate([values[start:stop], values[:1]]) for name, values in batch.items()}
        padded["weight"][-1] = 0
        given = np.concatenate([stacked[:, start:stop], np.full_like(stacked[:, :1], np.nan)], axis=1)
        parts.append(jax.device_get(compute(jnp.asarray(given.reshape(-1, *given.shape[2:])), {name: jnp.asarray(values) for name, values in padded.items()})))
    return parts


@functools.cache
def _compiled(measures: Measures) -> Any:
    return jax.jit(measures.records)


def batch_of(labels: np.ndarray, **fields: np.ndarray) -> dict[str, np.ndarray]:
    """A batch of all rows, each with weight 1."""
    rows = len(labels)
    return {"id": np.arange(rows, dtype=np.int32), "weight": np.ones(rows, np.float32), "label": np.asarray(labels)} | fields
