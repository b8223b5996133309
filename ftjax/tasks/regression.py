"""Regression: one number per example, squared error on targets of mean 0 and deviation 1.

The head learns standardised targets, so that learning rates mean the same whatever the unit; `unscale` gives numbers of the data's unit back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ftjax.errors import DataError
from ftjax.tasks.classification import Loss


@dataclasses.dataclass(frozen=True)
class Regression:
    """A number, standardised by the `mean` and `deviation` of the training targets."""

    mean: float = 0.0
    deviation: float = 1.0

    classes: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[str] = "sequence"
    outputs: ClassVar[int] = 1
    views: ClassVar[int] = 1

    def loss(self, outputs: Float[Array, "batch 1"], batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum of `(output - (target - mean) / deviation)^2`.

        Args:
          outputs: standardised predictions.
          batch: `label` float[batch] in the unit of the data, and `weight` [batch]; a row of weight 0 contributes nothing to values or gradients.
          hyper: not read.

        Returns:
          `(loss_sum, weight_sum, {"mae": (absolute errors in the unit of the data, summed, weight_sum)})`, all scalars.
        """
        weight = batch["weight"].astype(outputs.dtype)
        counted = weight > 0
        target = (jnp.where(counted, batch["label"], self.mean).astype(outputs.dtype) - self.mean) / self.deviation
        error = jnp.where(counted, outputs[:, 0], 0) - target
        weight_sum = weight.sum()
        return (error**2 * weight).sum(), weight_sum, {"mae": ((jnp.abs(error) * self.deviation * weight).sum(), weight_sum)}

    def unscale(self, outputs: Float[Array, "batch 1"]) -> Float[Array, " batch"]:
        """Predictions in the unit of the data: `output * deviation + mean`."""
        return outputs[:, 0] * self.deviation + self.mean


def standardised(targets: np.ndarray) -> Regression:
    """The task for these training targets.

    Raises:
      DataError: they are not finite numbers, or all the same.
    """
    values = np.asarray(targets, np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(f"regression needs finite targets; training row {bad[0]} has {values[bad[0]]}")
    if not values.size or values.std() <= 1e-12 * (1 + abs(values.mean())):
        raise DataError(f"regression needs targets that differ; all {values.size} of training are {f'{values[0]:g}' if values.size else 'missing'}")
    return Regression(mean=float(values.mean()), deviation=float(values.std()))
