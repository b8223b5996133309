"""Rare classes: weights of mean 1, scikit-learn's and torch's formulas, focal loss and logit adjustment."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from task_examples import hyper

from ftjax.config import TaskConfig
from ftjax.tasks import make_task
from ftjax.tasks.imbalance import class_weights, focal_factor, log_prior
from ftjax.tasks.multi_label import label_weights

CLASSES = ("ant", "bee", "cat")
LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10, np.int32)
LOGITS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
BATCH = {"label": jnp.array([0, 1, 2, 0, 1, 2]), "weight": jnp.array([1.0, 1, 1, 0.5, 2, 1])}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def mean_loss(**changed: object) -> float:
    task = make_task(TaskConfig(**changed), CLASSES, LABELS)
    loss, weight, _ = task.loss(jnp.asarray(LOGITS), BATCH, hyper(label_smoothing=0.0))
    return float(loss / weight)


def test_balanced_is_scikit_learn_s() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(class_weights("balanced", np.bincount(LABELS)), expected, rtol=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=8).filter(any), st.sampled_from(["balanced", "sqrt"]))
def test_the_mean_weight_over_training_examples_is_1(counts: list[int], imbalance: str) -> None:
    weights = np.array(class_weights(imbalance, np.array(counts)))
    assert np.sum(weights * counts) / np.sum(counts) == pytest.approx(1)
    assert np.all(np.diff(weights[np.argsort(counts)]) <= 1e-12)


def test_sqrt_weighs_by_the_root() -> None:
    weights = class_weights("sqrt", np.array([100, 25]))
    assert weights[1] / weights[0] == pytest.approx(2)


@pytest.mark.parametrize("imbalance", ["balanced", "sqrt"])
def test_a_weighted_loss_multiplies_each_example_by_its_class_s_weight(imbalance: str) -> None:
    weights, label = np.array(class_weights(imbalance, np.bincount(LABELS)))[np.array(BATCH["label"])], np.array(BATCH["label"])
    losses = -log_softmax(LOGITS)[np.arange(6), label]
    rows = np.array(BATCH["weight"])
    assert mean_loss(imbalance=imbalance) == pytest.approx(np.sum(losses * weights * rows) / np.sum(rows), rel=1e-5)


def test_focal_loss_is_lin_s_and_its_gamma_is_traced() -> None:
    right = log_softmax(LOGITS)[np.arange(6), np.array(BATCH["label"])]
    task, rows = make_task(TaskConfig(imbalance="focal"), CLASSES), np.array(BATCH["weight"])
    losses = jax.jit(jax.vmap(lambda gamma: task.loss(jnp.asarray(LOGITS), BATCH, hyper(label_smoothing=0.0) | {"focal_gamma": gamma})[0]))
    gammas = np.array([0.0, 0.5, 2.0, 5.0], np.float32)
    expected = [np.sum(-((1 - np.exp(right)) ** gamma) * right * rows) for gamma in gammas]
    np.testing.assert_allclose(losses(jnp.asarray(gammas)), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_factor_has_a_finite_slope_where_the_model_is_sure(gamma: float) -> None:
    slope = jax.grad(lambda x: focal_factor(x, jnp.array(gamma)) * x)
    assert np.all(np.isfinite([slope(jnp.array(x)) for x in (0.0, -1e-9, -0.5, -80.0)]))


def test_logit_adjustment_adds_the_log_frequency_in_the_loss_only() -> None:
    prior = np.log(np.bincount(LABELS) / len(LABELS))
    losses = -log_softmax(LOGITS + prior)[np.arange(6), np.array(BATCH["label"])]
    rows = np.array(BATCH["weight"])
    assert mean_loss(imbalance="logit_adjust") == pytest.approx(np.sum(losses * rows) / np.sum(rows), rel=1e-5)
    task = make_task(TaskConfig(imbalance="logit_adjust"), CLASSES, LABELS)
    plain = make_task(TaskConfig(), CLASSES)
    hits = [each.loss(jnp.asarray(LOGITS), BATCH, hyper())[2]["accuracy"][0] for each in (task, plain)]
    assert float(hits[0]) == float(hits[1])


def test_a_class_without_training_examples_leaves_the_loss_finite() -> None:
    assert np.all(np.isfinite(log_prior(np.array([5, 0]))))
    assert np.all(np.isfinite(class_weights("balanced", np.array([5, 0]))))


def test_oversampling_is_not_in_the_loss() -> None:
    assert make_task(TaskConfig(imbalance="oversample"), CLASSES, LABELS) == make_task(TaskConfig(), CLASSES)


def test_a_label_s_weights_are_torch_s_pos_weight_scaled() -> None:
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 1]], np.float32)
    without, having = (np.array(side) for side in label_weights("balanced", labels))
    np.testing.assert_allclose(having / without, [3, 1])
    positives = labels.mean(axis=0)
    np.testing.assert_allclose(positives * having + (1 - positives) * without, 1)
