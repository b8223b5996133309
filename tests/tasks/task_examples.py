"""What every task's loss must keep, checked the same way for all of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HYPER = {"label_smoothing": 0.1, "focal_gamma": 2.0, "r_drop": 1.0, "temperature": 0.1}


def hyper(**changed: float) -> dict[str, jax.Array]:
    """Every hyperparameter that a task may read, as the trainer gives them."""
    return {name: jnp.array(value) for name, value in (HYPER | changed).items()}


def value_and_gradient(task: Any, outputs: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """(loss_sum, weight_sum, sums) and the gradient of the loss sum with respect to the outputs."""

    (loss_sum, (weight_sum, sums)), gradient = _compiled(task)(jnp.asarray(outputs), {name: jnp.asarray(value) for name, value in batch.items()}, hyper())
    return jax.device_get((loss_sum, weight_sum, sums)), np.asarray(gradient)


@functools.cache
def _compiled(task: Any) -> Any:
    def loss(outputs: jax.Array, batch: dict[str, jax.Array], hyper: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        loss_sum, weight_sum, sums = task.loss(outputs, batch, hyper)
        return loss_sum, (weight_sum, sums)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def rows_of(outputs: np.ndarray, batch: Mapping[str, np.ndarray], rows: np.ndarray, views: int = 1) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """These rows of a batch, in every view of the outputs."""
    stacked = outputs.reshape(views, len(batch["weight"]), *outputs.shape[1:])[:, rows]
    return stacked.reshape(-1, *outputs.shape[1:]), {name: value[rows] for name, value in batch.items()}


def check_padding(task: Any, outputs: np.ndarray, batch: dict[str, np.ndarray], garbage: dict[str, Any], views: int = 1) -> None:
    """Rows of weight 0 that hold NaN and `garbage` change neither values nor gradients, and get a gradient of zero."""
    rows = np.arange(len(batch["weight"]))
    kept = rows % 3 != 1
    padded = {name: value.copy() for name, value in batch.items()} | {"weight": np.where(kept, batch["weight"], 0).astype(np.float32)}
    for name, value in garbage.items():
        padded[name][~kept] = value
    spoiled = outputs.reshape(views, len(rows), *outputs.shape[1:]).copy()
    spoiled[:, ~kept] = np.nan
    ours, gradient = value_and_gradient(task, spoiled.reshape(outputs.shape), padded)
    short, short_gradient = value_and_gradient(task, *rows_of(outputs, batch, kept, views))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), ours, short)
    gradient = gradient.reshape(spoiled.shape)
    np.testing.assert_allclose(gradient[:, kept].reshape(short_gradient.shape), short_gradient, rtol=2e-4, atol=1e-6)
    assert not np.any(gradient[:, ~kept])
    assert np.any(short_gradient)


def check_ragged_parts(task: Any, outputs: np.ndarray, batch: dict[str, np.ndarray], views: int = 1) -> None:
    """Sums over micro-batches of unequal weight add up to those of the whole batch, and so do gradients."""
    count = len(batch["weight"])
    whole, gradient = value_and_gradient(task, outputs, batch)
    parts = [np.arange(count) < 2, np.arange(count) >= 2]
    found = [value_and_gradient(task, *rows_of(outputs, batch, part, views)) for part in parts]
    jax.tree.map(lambda total, *each: np.testing.assert_allclose(sum(each), total, rtol=1e-5), whole, *(values for values, _ in found))
    for part, (_, of_part) in zip(parts, found):
        np.testing.assert_allclose(of_part, rows_of(gradient, batch, part, views)[0], rtol=1e-4, atol=1e-6)
