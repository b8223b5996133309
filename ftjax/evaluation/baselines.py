"""What a fine-tuned model has to beat, computed from labels and features alone: the majority class and a linear probe.

The third baseline, the same model from scratch, is a training run and lives with the trainer.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Int

from ftjax.errors import DataError
from ftjax.evaluation.records import Records

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

L2_GRID = (1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2, 1e-3)
"""Penalties that the probe chooses from, strongest first: each fit starts from the last, and a tie goes to the stronger."""

MAX_ITERATIONS = 300
UNSEEN_MARGIN = 20.0
"""A class without training examples scores this far below the row's lowest logit: finite, and never predicted."""


def majority(train_labels: Int[np.ndarray, " n"], test_labels: Int[np.ndarray, " m"], num_classes: int) -> Records:
    """Always the most frequent training class (the lowest on ties), whatever the image.

    Its probabilities are the training frequencies with one added to each count, so that its log loss is finite for a class that training lacks.
    """
    counts = np.bincount(train_labels, minlength=num_classes) + 1
    scores = np.log(counts / counts.sum()).astype(np.float32)
    return Records.from_logits(np.broadcast_to(scores, (len(test_labels), num_classes)), test_labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What `linear_probe` found."""

    logits: Float32[np.ndarray, "m classes"]
    """Of the test features, by the chosen fit."""
    l2: float
    """The chosen penalty."""
    validation_accuracies: dict[float, float]
    """By penalty, strongest first."""
    unconverged: tuple[float, ...]
    """Penalties whose fit stopped at the limit of iterations; their accuracies are those of the last iterate."""


def linear_probe(
    train_features: Float[np.ndarray, "n width"],
    train_labels: Int[np.ndarray, " n"],
    validation_features: Float[np.ndarray, "k width"],
    validation_labels: Int[np.ndarray, " k"],
    test_features: Float[np.ndarray, "m width"],
    num_classes: int,
    seed: int = 0,
) -> ProbeResult:
    """Multinomial logistic regression on frozen features: `min_W sum_i -log softmax(W z_i + b)[label_i] + l2/2 |W|^2`.

    `z` are the features standardised by the training mean and standard deviation. The penalty with the highest validation accuracy is chosen from `L2_GRID`;
    the fit stays the one on the training examples alone, so the probe has seen what the fine-tuned model was trained on and no more.
    The solver (L-BFGS, scikit-learn) is deterministic; `seed` is handed to it and changes nothing.

    Raises:
      DataError: features are not finite, or training has one class only.
    """
    check_finite(train=train_features, validation=validation_features, test=test_features)
    present = np.unique(train_labels)
    if len(present) < 2:
        raise DataError(f"a linear probe needs at least 2 classes in training; there is only class {present.tolist()}")
    mean, deviation = statistics(train_features)
    train, validation, test = ((np.asarray(part, np.float64) - mean) / deviation for part in (train_features, validation_features, test_features))
    accuracies: dict[float, float] = {}
    unconverged = []
    best = (-1.0, 0.0, np.empty(0))
    model = _classifier(seed)
    for l2 in L2_GRID:
        if not _fit(model.set_params(C=1 / l2), train, train_labels):
            unconverged.append(l2)
        accuracies[l2] = float(np.mean(model.predict(validation) == validation_labels))
        if accuracies[l2] > best[0]:
            best = (accuracies[l2], l2, _logits(model, test, num_classes))
    return ProbeResult(logits=best[2], l2=best[1], validation_accuracies=accuracies, unconverged=tuple(unconverged))


def check_finite(**features: np.ndarray) -> None:
    """Refuse features that are not finite.

    Raises:
      DataError: naming the split and the first such example.
    """
    for name, values in features.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise DataError(f"a linear probe needs finite features; those of {name} example {row} are not")


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per feature; a constant feature keeps its scale."""
    values = np.asarray(features, np.float64)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    return mean, np.where(deviation > 1e-12 * (1 + np.abs(mean)), deviation, 1.0)


def _classifier(seed: int) -> LogisticRegression:
    # Imported here: the import takes a second, and most commands never fit a probe.
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="lbfgs", max_iter=MAX_ITERATIONS, warm_start=True, random_state=seed)


def _fit(model: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> bool:
    """Fit in place; whether it converged. Other warnings go on to the caller."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _logits(model: LogisticRegression, features: np.ndarray, num_classes: int) -> np.ndarray:
    """Scores `[m num_classes]`; scikit-learn gives one column for two classes and none for those that training lacks."""
    scores = model.decision_function(features)
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    logits = np.repeat(scores.min(axis=1, keepdims=True) - UNSEEN_MARGIN, num_classes, axis=1)
    logits[:, model.classes_] = scores
    return logits.astype(np.float32)
