"""The losses of all tasks: their formulas in NumPy, padding that holds anything, and exact sums over ragged parts."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from task_examples import check_padding, check_ragged_parts, hyper, value_and_gradient

from ftjax.errors import DataError
from ftjax.tasks import Classification, MultiLabel, QuestionAnswering, Regression, SentenceEmbedding, TokenClassification
from ftjax.tasks.regression import standardised

DRAW = np.random.default_rng(3)
ROWS, LENGTH, WIDTH = 6, 5, 4
WEIGHT = np.array([1, 0.5, 2, 1, 0.25, 1], np.float32)
MASK = np.arange(LENGTH)[None, :] < np.array([5, 4, 3, 5, 2, 3])[:, None]


def normal(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


SEQUENCE = {"label": np.array([0, 1, 2, 0, 1, 2], np.int32), "weight": WEIGHT}
LABELS = {"label": (DRAW.random((ROWS, 3)) < 0.4).astype(np.float32), "weight": WEIGHT}
NUMBERS = {"label": (3 * normal(ROWS) + 7), "weight": WEIGHT}
TAGS = {
    "label": np.zeros(ROWS, np.int32),
    "weight": WEIGHT,
    "mask": MASK,
    "token_label": np.where(MASK & (np.arange(LENGTH) > 0), DRAW.integers(0, 3, (ROWS, LENGTH)), -100).astype(np.int32),
}
SPANS = {"label": np.array([[1, 2], [0, 0], [1, 1], [3, 4], [0, 0], [1, 2]], np.int32), "weight": WEIGHT, "mask": MASK}
PAIRS = {"label": np.array([0, 1, 2, 1, 3, 4], np.int32), "weight": WEIGHT}

CLASSES = ("a", "b", "c")
CASES = {
    "classification": (Classification(CLASSES), normal(ROWS, 3), SEQUENCE, {"label": 99}, 1),
    "r_drop": (Classification(CLASSES, views=2), normal(2 * ROWS, 3), SEQUENCE, {"label": -1}, 2),
    "weighted focal": (
        Classification(CLASSES, class_weights=(0.5, 1.0, 3.0), log_prior=(-0.3, -1.0, -2.0), focal=True),
        normal(ROWS, 3),
        SEQUENCE,
        {"label": 99},
        1,
    ),
    "multi_label": (MultiLabel(CLASSES), normal(ROWS, 3), LABELS, {"label": np.nan}, 1),
    "weighted multi_label": (
        MultiLabel(CLASSES, label_weights=((0.5, 1.0, 2.0), (2.0, 1.0, 0.5)), log_odds=(-1.0, 0.0, 1.0), focal=True),
        normal(ROWS, 3),
        LABELS,
        {"label": np.nan},
        1,
    ),
    "regression": (Regression(mean=7.0, deviation=3.0), normal(ROWS, 1), NUMBERS, {"label": np.nan}, 1),
    "token_classification": (TokenClassification(CLASSES), normal(ROWS, LENGTH, 3), TAGS, {"token_label": 77}, 1),
    "weighted tokens": (
        TokenClassification(CLASSES, class_weights=(0.5, 1.0, 3.0), log_prior=(-0.3, -1.0, -2.0), focal=True),
        normal(ROWS, LENGTH, 3),
        TAGS,
        {"token_label": 0},
        1,
    ),
    "question_answering": (QuestionAnswering(), normal(ROWS, LENGTH, 2), SPANS, {"label": 999, "mask": True}, 1),
    "sentence_embedding": (SentenceEmbedding(), normal(2 * ROWS, WIDTH), PAIRS, {"label": 0}, 2),
}


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("name", CASES)
def test_rows_of_weight_0_contribute_nothing_whatever_they_hold(name: str) -> None:
    task, outputs, batch, garbage, views = CASES[name]
    check_padding(task, outputs, batch, garbage, views)


@pytest.mark.parametrize("name", [name for name in CASES if name != "sentence_embedding"])
def test_ragged_micro_batches_add_up_to_the_batch(name: str) -> None:
    task, outputs, batch, _, views = CASES[name]
    check_ragged_parts(task, outputs, batch, views)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_padding_alone_sums_to_zero(name: str) -> None:
    task, outputs, batch, _, _ = CASES[name]
    (loss, weight, sums), gradient = value_and_gradient(task, np.full_like(outputs, np.nan), batch | {"weight": np.zeros_like(WEIGHT)})
    assert (float(loss), float(weight)) == (0, 0)
    assert {float(total) for total, _ in sums.values()} == {0}
    assert not np.any(gradient)


@pytest.mark.parametrize("name", CASES)
def test_every_task_says_what_the_model_gives_it(name: str) -> None:
    task, outputs, _, _, _ = CASES[name]
    assert task.output == {3: "tokens", 2: "embedding" if name == "sentence_embedding" else "sequence"}[outputs.ndim]
    assert task.outputs == (0 if name == "sentence_embedding" else outputs.shape[-1])
    assert len(outputs) == ROWS * (2 if name == "sentence_embedding" else task.views)


def test_r_drop_is_both_cross_entropies_and_both_divergences() -> None:
    task, logits, batch, _, _ = CASES["r_drop"]
    one, other = log_softmax(logits[:ROWS]), log_softmax(logits[ROWS:])
    cross = [-side[np.arange(ROWS), batch["label"]] for side in (one, other)]
    apart = (np.exp(one) * (one - other)).sum(axis=1) + (np.exp(other) * (other - one)).sum(axis=1)
    loss, weight, _ = task.loss(jnp.asarray(logits), batch, hyper(label_smoothing=0.0, r_drop=0.7))
    assert float(loss) == pytest.approx(np.sum(((cross[0] + cross[1]) / 2 + 0.35 * apart) * WEIGHT), rel=1e-5)
    assert float(weight) == WEIGHT.sum()


def test_r_drop_of_two_equal_views_is_the_plain_loss() -> None:
    task, logits, batch, _, _ = CASES["classification"]
    twice = dataclasses.replace(task, views=2).loss(jnp.concatenate([jnp.asarray(logits)] * 2), batch, hyper(r_drop=5.0))
    np.testing.assert_allclose(twice[0], task.loss(jnp.asarray(logits), batch, hyper())[0], rtol=1e-6)


def test_multi_label_is_the_mean_binary_cross_entropy() -> None:
    task, logits, batch, _, _ = CASES["multi_label"]
    share = 1 / (1 + np.exp(-logits.astype(np.float64)))
    losses = -(batch["label"] * np.log(share) + (1 - batch["label"]) * np.log(1 - share)).mean(axis=1)
    loss, weight, sums = task.loss(jnp.asarray(logits), batch, hyper())
    assert float(loss) == pytest.approx(np.sum(losses * WEIGHT), rel=1e-5)
    assert float(sums["label_accuracy"][0] / weight) == pytest.approx(np.average(((share > 0.5) == batch["label"]).mean(axis=1), weights=WEIGHT), rel=1e-6)


def test_the_weighted_multi_label_loss_by_hand() -> None:
    task, logits, batch, _, _ = CASES["weighted multi_label"]
    share = 1 / (1 + np.exp(-(logits.astype(np.float64) + np.array([-1, 0, 1]))))
    right = np.where(batch["label"] > 0, share, 1 - share)
    weights = np.where(batch["label"] > 0, [2, 1, 0.5], [0.5, 1, 2])
    losses = (weights * (1 - right) ** 2 * -np.log(right)).mean(axis=1)
    assert float(task.loss(jnp.asarray(logits), batch, hyper())[0]) == pytest.approx(np.sum(losses * WEIGHT), rel=1e-5)


def test_regression_is_the_squared_error_of_standardised_targets() -> None:
    task, outputs, batch, _, _ = CASES["regression"]
    errors = outputs[:, 0] - (batch["label"] - 7) / 3
    loss, weight, sums = task.loss(jnp.asarray(outputs), batch, hyper())
    assert float(loss) == pytest.approx(np.sum(errors**2 * WEIGHT), rel=1e-5)
    predictions = np.asarray(task.unscale(jnp.asarray(outputs)))
    np.testing.assert_allclose(predictions, outputs[:, 0] * 3 + 7, rtol=1e-6)
    assert float(sums["mae"][0] / weight) == pytest.approx(np.average(np.abs(predictions - batch["label"]), weights=WEIGHT), rel=1e-5)


def test_regression_is_standardised_by_the_training_targets() -> None:
    targets = np.array([1.0, 2.0, 6.0], np.float32)
    assert standardised(targets) == Regression(mean=3.0, deviation=pytest.approx(targets.std()))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([1.0, np.nan], r"^regression needs finite targets; training row 1 has nan$"),
        ([2.5, 2.5], r"^regression needs targets that differ; all 2 of training are 2\.5$"),
        ([], r"^regression needs targets that differ; all 0 of training are missing$"),
    ],
)
def test_targets_that_cannot_be_learnt_are_refused(targets: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        standardised(np.array(targets, np.float32))


def test_token_classification_averages_over_labelled_tokens() -> None:
    task, logits, batch, _, _ = CASES["token_classification"]
    rows, columns = np.nonzero(batch["token_label"] != -100)
    losses = -log_softmax(logits)[rows, columns, batch["token_label"][rows, columns]]
    loss, weight, _ = task.loss(jnp.asarray(logits), batch, hyper())
    assert float(loss) == pytest.approx(np.sum(losses * WEIGHT[rows]), rel=1e-5)
    assert float(weight) == pytest.approx(WEIGHT[rows].sum())


def test_the_weighted_token_loss_by_hand() -> None:
    task, logits, batch, _, _ = CASES["weighted tokens"]
    rows, columns = np.nonzero(batch["token_label"] != -100)
    label = batch["token_label"][rows, columns]
    right = log_softmax(logits + np.array([-0.3, -1, -2]))[rows, columns, label]
    losses = -right * (1 - np.exp(right)) ** 2 * np.array([0.5, 1, 3])[label]
    assert float(task.loss(jnp.asarray(logits), batch, hyper())[0]) == pytest.approx(np.sum(losses * WEIGHT[rows]), rel=1e-5)


def test_tokens_without_a_label_have_no_gradient_whatever_they_hold() -> None:
    task, logits, batch, _, _ = CASES["token_classification"]
    spoiled = np.where((batch["token_label"] == -100)[:, :, None], np.nan, logits)
    (loss, _, _), gradient = value_and_gradient(task, spoiled, batch)
    clean, _ = value_and_gradient(task, logits, batch)
    assert loss == pytest.approx(clean[0], rel=1e-6)
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[batch["token_label"] == -100])


def test_question_answering_is_the_mean_of_both_ends_over_the_tokens_of_the_window() -> None:
    task, logits, batch, _, _ = CASES["question_answering"]
    expected = 0.0
    for row in range(ROWS):
        length = MASK[row].sum()
        ends = [-log_softmax(logits[row, :length, end])[batch["label"][row, end]] for end in (0, 1)]
        expected += WEIGHT[row] * np.mean(ends)
    assert float(task.loss(jnp.asarray(logits), batch, hyper())[0]) == pytest.approx(expected, rel=1e-5)


def test_padding_of_a_window_changes_no_answer() -> None:
    task, logits, batch, _, _ = CASES["question_answering"]
    longer = np.concatenate([logits, normal(ROWS, 3, 2) + 50], axis=1)
    padded = batch | {"mask": np.pad(MASK, ((0, 0), (0, 3)))}
    np.testing.assert_allclose(task.loss(jnp.asarray(longer), padded, hyper())[0], task.loss(jnp.asarray(logits), batch, hyper())[0], rtol=1e-6)


def test_the_contrastive_loss_by_hand() -> None:
    task, vectors, batch, _, _ = CASES["sentence_embedding"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit[:ROWS] @ unit[ROWS:].T / 0.1
    expected = 0.0
    for row in range(ROWS):
        # Rows 1 and 3 share a group, so neither is the other's negative.
        others = [column for column in range(ROWS) if column == row or batch["label"][column] != batch["label"][row]]
        forth = np.log(np.exp(scores[row, others]).sum()) - scores[row, row]
        back = np.log(np.exp(scores[others, row]).sum()) - scores[row, row]
        expected += WEIGHT[row] * (forth + back) / 2
    loss, weight, sums = task.loss(jnp.asarray(vectors), batch, hyper())
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == WEIGHT.sum()
    assert 0 <= float(sums["in_batch_accuracy"][0]) <= WEIGHT.sum()


def test_the_contrastive_loss_looks_at_directions_alone() -> None:
    task, vectors, batch, _, _ = CASES["sentence_embedding"]
    np.testing.assert_allclose(task.loss(7 * jnp.asarray(vectors), batch, hyper())[0], task.loss(jnp.asarray(vectors), batch, hyper())[0], rtol=1e-5)


def test_a_vector_of_length_zero_gives_a_finite_loss_and_gradient() -> None:
    task, vectors, batch, _, _ = CASES["sentence_embedding"]
    (loss, _, _), gradient = value_and_gradient(task, np.where(np.arange(2 * ROWS)[:, None] == 0, 0, vectors), batch)
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiLabel(()), r"^multi_label needs at least one label; the data have none$"),
        (lambda: TokenClassification(("O",)), r"^token_classification needs at least two tags; the data have 1: O$"),
    ],
)
def test_too_few_classes_are_refused(make: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    task, logits, batch, _, _ = CASES["multi_label"]
    theirs = functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(batch["label"]), reduction="none").mean(dim=1)
    assert float(task.loss(jnp.asarray(logits), batch, hyper())[0]) == pytest.approx(float((theirs * torch.tensor(WEIGHT)).sum()), rel=1e-5)
    task, logits, batch, _, _ = CASES["token_classification"]
    flat = functional.cross_entropy(
        torch.tensor(logits).reshape(-1, 3), torch.tensor(batch["token_label"]).reshape(-1).long(), reduction="sum", ignore_index=-100
    )
    assert float(task.loss(jnp.asarray(logits), batch | {"weight": np.ones_like(WEIGHT)}, hyper())[0]) == pytest.approx(float(flat), rel=1e-5)
    task, logits, batch, _, _ = CASES["classification"]
    smoothed = functional.cross_entropy(torch.tensor(logits), torch.tensor(batch["label"]).long(), label_smoothing=0.1, reduction="none")
    assert float(task.loss(jnp.asarray(logits), batch, hyper())[0]) == pytest.approx(float((smoothed * torch.tensor(WEIGHT)).sum()), rel=1e-5)
