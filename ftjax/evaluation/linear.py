"""Linear models on frozen features for other tasks than classification: ridge regression, and a logistic regression for each label.

Features are standardised by the training mean and deviation. Every penalty is fitted on the training examples alone; validation chooses among them.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from ftjax.evaluation.baselines import L2_GRID, MAX_ITERATIONS, UNSEEN_MARGIN, check_finite, statistics

RIDGE_GRID = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Penalties of ridge regression per training example, strongest first."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """The outputs of one penalty on validation and test, `[rows outputs]`."""

    l2: float
    validation: np.ndarray
    test: np.ndarray


def choose(fits: Iterable[Fit], score: Callable[[np.ndarray], float]) -> Fit:
    """The fit whose validation outputs have the highest score; the first one, so the strongest penalty, on ties."""
    return max(fits, key=lambda fit: score(fit.validation))


def ridge(features: Mapping[str, np.ndarray], targets: np.ndarray) -> Iterator[Fit]:
    """`min_w sum_i (w z_i + b - target_i)^2 + l2 |w|^2` for l2 of `RIDGE_GRID` times the number of training examples.

    Args:
      features: `[rows width]` of "train", "validation" and "test".
      targets: of training, `[rows]`.

    Raises:
      DataError: features are not finite.
    """
    from sklearn.linear_model import Ridge

    train, validation, test = _standardised(features)
    for share in RIDGE_GRID:
        model = Ridge(alpha=share * len(train), solver="svd").fit(train, targets)
        yield Fit(share * len(train), model.predict(validation)[:, None], model.predict(test)[:, None])


def one_against_rest(features: Mapping[str, np.ndarray], labels: np.ndarray, seed: int = 0) -> Iterator[Fit]:
    """A logistic regression for each label, for each penalty of `L2_GRID`; a label that all training examples have, or none, is always or never said.

    Args:
      features: `[rows width]` of "train", "validation" and "test".
      labels: of training, `[rows classes]` of 0 and 1.
      seed: handed to the solver, which is deterministic.

    Raises:
      DataError: features are not finite.
    """
    parts = _standardised(features)
    true = np.asarray(labels) > 0.5
    for l2 in L2_GRID:
        columns = [_logits(parts, true[:, label], l2, seed) for label in range(true.shape[1])]
        yield Fit(l2, *(np.stack(side, axis=1) for side in zip(*columns)))


def _logits(parts: tuple[np.ndarray, ...], true: np.ndarray, l2: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One label's logits on validation and test."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, validation, test = parts
    if true.all() or not true.any():
        constant = UNSEEN_MARGIN if true.any() else -UNSEEN_MARGIN
        return np.full(len(validation), constant), np.full(len(test), constant)
    with warnings.catch_warnings():
        # The last iterate is a linear model like any other, and validation judges it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=1 / l2, solver="lbfgs", max_iter=MAX_ITERATIONS, random_state=seed).fit(train, true)
    return model.decision_function(validation), model.decision_function(test)


def _standardised(features: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Train, validation and test in units of the training deviation."""
    check_finite(**{name: features[name] for name in ("train", "validation", "test")})
    mean, deviation = statistics(features["train"])
    return tuple((np.asarray(features[name], np.float64) - mean) / deviation for name in ("train", "validation", "test"))
