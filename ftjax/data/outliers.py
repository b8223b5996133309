"""Rows that lie far from all others in feature space, pure on arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from ftjax.errors import DataError

NEIGHBOURS = 10
FAR = 2.5
"""Robust deviations of the log distance above its median from which on a row is far from all others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Distances:
    """`values`: mean distance of each row to its `neighbours` nearest training rows; `far`: it is above `threshold`; `nearest`: the nearest of those rows."""

    values: Float[np.ndarray, " rows"]
    far: Bool[np.ndarray, " rows"]
    nearest: Int[np.ndarray, " rows"]
    median: float
    threshold: float
    neighbours: int

    def of(self, rows: Int[np.ndarray, " some"]) -> Distances:
        """Of these rows alone."""
        return dataclasses.replace(self, values=self.values[rows], far=self.far[rows], nearest=self.nearest[rows])


def find_outliers(
    features: Float[np.ndarray, "rows width"], other: Float[np.ndarray, "others width"] | None = None, neighbours: int = NEIGHBOURS
) -> tuple[Distances, Distances | None]:
    """Mean distance to the k nearest training rows, of the training rows themselves and of others (Ramaswamy et al. 2000), in standardised features.

    The threshold is `exp(median + FAR * 1.4826 * MAD)` of the training rows' log distances (infinite where the MAD is 0): were those normal, six rows in a
    thousand would be beyond it. Directions alone (features of length 1, Sun et al. 2022) leave no tail on the right: no row of five real sets would be beyond
    any such threshold.

    Args:
      features: of the training rows, at least 2.
      other: of rows that are compared with the training rows.
      neighbours: k; fewer where there are fewer rows.

    Returns:
      Of the training rows, and of the others.

    Raises:
      DataError: fewer than 2 training rows: nothing is far from nothing.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(features) < 2:
        raise DataError(f"data.outliers compares rows with each other, and there is {len(features)} training row that is no copy; use data.outliers='off'")
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.where(deviation > 1e-12 * (1 + np.abs(mean)), deviation, 1.0)
    train = _standardised(features, mean, scale)
    k = min(neighbours, len(train) - 1)
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train)
    distances, nearest = index.kneighbors()
    values = distances.mean(1)
    logs = np.log(np.maximum(values, 1e-6))
    middle = float(np.median(logs))
    spread = float(np.median(np.abs(logs - middle)))
    # Where half of the rows are equally near to others, nothing says what is far.
    threshold = float(np.exp(middle + FAR * 1.4826 * spread)) if spread > 0 else float("inf")
    found = Distances(values, values > threshold, nearest[:, 0], float(np.exp(middle)), threshold, k)
    if other is None or not len(other):
        return found, None
    distances, nearest = index.kneighbors(_standardised(other, mean, scale))
    values = distances.mean(1)
    return found, dataclasses.replace(found, values=values, far=values > threshold, nearest=nearest[:, 0])


def _standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ((features - mean) / scale).astype(np.float32)
