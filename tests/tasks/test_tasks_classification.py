"""Classification: exact sums whatever the padding holds, optax's cross-entropy, and labels refused on the host."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import TaskConfig
from ftjax.errors import ConfigError, DataError
from ftjax.tasks import Classification, check_labels, make_task

TASK = Classification(classes=("ant", "bee", "cat"))
LOGITS = jax.random.normal(jax.random.key(0), (6, 3))
LABELS = jnp.array([0, 1, 2, 0, 1, 2])


def batch(weight: object, label: object = LABELS) -> dict:
    return {"label": jnp.asarray(label), "weight": jnp.asarray(weight, jnp.float32)}


def hyper(smoothing: float = 0.0) -> dict:
    return {"label_smoothing": jnp.array(smoothing)}


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 0.9), st.lists(st.floats(0, 2, width=32), min_size=6, max_size=6))
def test_the_loss_is_optax_s_smoothed_cross_entropy_weighted(smoothing: float, weight: list[float]) -> None:
    loss, total, _ = TASK.loss(LOGITS, batch(weight), hyper(smoothing))
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, 3), smoothing)
    expected = optax.softmax_cross_entropy(LOGITS, targets) * jnp.asarray(weight)
    np.testing.assert_allclose(loss, expected.sum(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total, sum(weight), rtol=1e-6)


def test_rows_of_weight_0_contribute_nothing_whatever_they_hold() -> None:
    weight = np.array([1, 1, 0, 1, 0, 1])
    padded = LOGITS.at[2].set(jnp.nan).at[4].set(jnp.inf)
    rows = weight > 0

    def loss(logits: jax.Array, labels: jax.Array, weight: np.ndarray) -> tuple:
        loss_sum, weight_sum, sums = TASK.loss(logits, batch(weight, labels), hyper(0.1))
        return loss_sum, (weight_sum, sums)

    ours, gradient = jax.value_and_grad(loss, has_aux=True)(padded, LABELS.at[2].set(-1).at[4].set(99), weight)
    short, short_gradient = jax.value_and_grad(loss, has_aux=True)(LOGITS[rows], LABELS[rows], weight[rows])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, short)
    np.testing.assert_allclose(gradient[rows], short_gradient, rtol=1e-6)
    assert not np.any(gradient[~rows])


def test_accuracy_counts_weighted_hits() -> None:
    logits = jnp.eye(3)[jnp.array([0, 1, 0])]
    _, _, sums = TASK.loss(logits, {"label": jnp.array([0, 1, 2]), "weight": jnp.array([1.0, 0.5, 2.0])}, hyper())
    assert tuple(map(float, sums["accuracy"])) == (1.5, 3.5)


def test_an_all_padding_batch_sums_to_zero() -> None:
    loss, weight, sums = TASK.loss(jnp.full((2, 3), jnp.nan), batch([0, 0], [0, 0]), hyper())
    assert (float(loss), float(weight), float(sums["accuracy"][0])) == (0.0, 0.0, 0.0)


def test_a_population_varies_label_smoothing_in_one_trace() -> None:
    traces = []

    @jax.jit
    @jax.vmap
    def losses(smoothing: jax.Array) -> jax.Array:
        traces.append(1)
        return TASK.loss(LOGITS, batch([1] * 6), {"label_smoothing": smoothing})[0]

    values = jnp.array([0.0, 0.1, 0.5])
    np.testing.assert_allclose(losses(values), [TASK.loss(LOGITS, batch([1] * 6), hyper(value))[0] for value in values], rtol=1e-6)
    assert len(traces) == 1


def test_float64_stays_float64() -> None:
    with jax.enable_x64(True):
        loss, weight, _ = TASK.loss(jnp.zeros((6, 3), jnp.float64), batch([1] * 6), hyper())
        assert loss.dtype == weight.dtype == jnp.float64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3, -1], "train: labels must be 0 to 2 (the classes are ant, bee, cat); row 1 has 3, row 2 has -1"),
        ([7] * 9, "train: labels must be 0 to 2 (the classes are ant, bee, cat); " + ", ".join(f"row {i} has 7" for i in range(5)) + " and 4 more"),
        ([0.5], "train: labels must be one integer per example; got float64 of shape (1,)"),
        ([[0]], "train: labels must be one integer per example; got int64 of shape (1, 1)"),
    ],
)
def test_labels_that_no_class_stands_for_are_refused_on_the_host(labels: list, message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        check_labels(np.array(labels), TASK.classes, "train")


def test_good_labels_pass() -> None:
    check_labels(np.array([0, 1, 2], np.int32), TASK.classes, "train")


def test_one_class_is_nothing_to_classify() -> None:
    with pytest.raises(DataError, match=r"^classification needs at least two classes; the data have 1: ant$"):
        Classification(classes=("ant",))


def test_the_configured_task_is_made_and_an_unknown_one_refused() -> None:
    assert make_task(TaskConfig(), ("ant", "bee")) == Classification(classes=("ant", "bee"))
    with pytest.raises(
        ConfigError,
        match=r"^task.name: unknown task 'clasification'; did you mean 'classification' or 'token_classification'\? allowed: 'classification', 'language_mod",
    ):
        make_task(TaskConfig(name="clasification"), ("ant", "bee"))
