"""What `records` says of one example, and that `Records` keeps it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_examples import logits_and_labels, records_of
from hypothesis import given, settings
from scipy.special import log_softmax

from ftjax.errors import ConfigError, DataError
from ftjax.evaluation import Records, read_records, records, write_records
from ftjax.evaluation.kinds import TokenRecords


def computed(logits, label, weight=None) -> dict[str, np.ndarray]:
    batch = {
        "id": jnp.arange(len(label), dtype=jnp.int32),
        "label": jnp.asarray(label, jnp.int32),
        "weight": jnp.ones(len(label)) if weight is None else jnp.asarray(weight),
    }
    return {name: np.asarray(value) for name, value in jax.jit(records, static_argnums=2)(jnp.asarray(logits), batch, 1).items()}


@settings(deadline=None, max_examples=60)
@given(logits_and_labels())
def test_finite_rows_agree_with_numpy(example):
    logits, label = example
    got = Records.from_logits(logits, label)
    expected = log_softmax(logits.astype(np.float64), axis=1)
    own = logits[np.arange(len(label)), label]
    np.testing.assert_array_equal(got.prediction, logits.argmax(axis=1))
    np.testing.assert_allclose(got.label_log_probability, expected[np.arange(len(label)), label], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.confidence, np.exp(expected.max(axis=1)), rtol=1e-5)
    np.testing.assert_array_equal(got.label_rank, (logits > own[:, None]).sum(axis=1))
    assert got.label_rank.dtype == got.prediction.dtype == got.id.dtype == np.int32
    assert got.confidence.dtype == got.label_log_probability.dtype == got.weight.dtype == np.float32


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_row_that_is_not_finite_is_never_right(poison, where):
    logits = np.array([[3.0, 1.0, 0.0]], np.float32)
    logits[0, where] = poison
    for label in range(3):
        row = computed(logits, [label])
        assert row["prediction"][0] == -1
        assert row["label_rank"][0] == 3
        assert row["confidence"][0] == 1.0
        assert row["label_log_probability"][0] == pytest.approx(-87.3365, abs=1e-3)


def test_a_row_that_is_not_finite_leaves_the_others_alone():
    clean = computed([[3.0, 1.0], [0.0, 2.0]], [0, 1])
    beside = computed([[3.0, 1.0], [np.nan, 2.0]], [0, 1])
    for name in clean:
        assert clean[name][0] == beside[name][0]


def test_ties_count_against_the_label_in_the_rank_and_go_to_the_lowest_class_in_the_prediction():
    row = computed([[1.0, 1.0, 1.0, 0.0]] * 3, [0, 1, 3])
    assert row["label_rank"].tolist() == [2, 2, 3]
    assert row["prediction"].tolist() == [0, 0, 0]


def test_a_label_that_is_no_class_has_no_probability_and_is_never_a_hit():
    row = computed([[1.0, 2.0]] * 3, [-1, 2, 1])
    assert np.isnan(row["label_log_probability"]).tolist() == [True, True, False]
    assert row["label_rank"].tolist() == [2, 2, 0]


def test_huge_logits_stay_finite():
    row = computed(np.array([[3.0e38, -3.0e38]], np.float32), [1])
    assert np.isfinite(row["label_log_probability"][0])
    assert row["prediction"][0] == 0


def test_bfloat16_logits_are_measured_in_float32():
    row = computed(jnp.asarray([[1.0, 2.0]], jnp.bfloat16), [1])
    assert row["label_log_probability"].dtype == np.float32
    assert row["label_log_probability"][0] == pytest.approx(-0.313262, abs=1e-6)


def test_no_prediction_is_not_right_even_beside_a_missing_label():
    assert not records_of([-1], [-1]).correct.any()


def test_top_k_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"^evaluation\.top_k is 0; allowed: 1 or more$"):
        records(jnp.zeros((1, 2)), {}, 0)


def test_padding_is_dropped_and_only_padding():
    kept = records_of([0, 1, 0, 1], [0, 1, 1, 0], weight=[1, 0, 1, 0]).drop_padding()
    assert kept.id.tolist() == [0, 2]
    assert kept.correct.tolist() == [True, False]
    assert len(kept) == 2


def test_concatenation_keeps_order_and_keeps_logits_only_where_all_have_them():
    one, other = Records.from_logits(np.eye(2), np.array([0, 1])), Records.from_logits(1 - np.eye(2), np.array([0, 1]), id=np.array([7, 5]))
    both = Records.concatenate([one, other])
    assert both.id.tolist() == [0, 1, 7, 5]
    assert both.correct.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(both.logits, np.concatenate([np.eye(2), 1 - np.eye(2)]))
    assert Records.concatenate([one, records_of([0], [0])]).logits is None


def test_nothing_to_concatenate_is_an_error():
    with pytest.raises(DataError, match=r"^no records to concatenate: the split gave no batch$"):
        Records.concatenate([])


@pytest.mark.parametrize("with_logits", [True, False])
def test_a_file_gives_back_what_was_written(tmp_path, with_logits):
    value = Records.from_logits(np.array([[0.5, 2.0], [np.nan, 0.0]]), np.array([1, 0]), id=np.array([4, 9]))
    value = (
        value
        if with_logits
        else Records(
            **{name: getattr(value, name) for name in ("id", "label", "prediction", "confidence")},
            **{name: getattr(value, name) for name in ("label_log_probability", "label_rank", "weight")},
        )
    )
    write_records(tmp_path / "evaluation" / "test.npz", value)
    back = read_records(tmp_path / "evaluation" / "test.npz")
    for name in vars(value):
        np.testing.assert_array_equal(getattr(back, name), getattr(value, name))
    assert [path.name for path in (tmp_path / "evaluation").iterdir()] == ["test.npz"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "test.npz"
    write_records(path, records_of([0], [0]))
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        write_records(path, records_of([0, 1], [0, 1]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_batches_of_other_widths_are_joined_and_padded_with_what_the_field_says():
    def part(first, words):
        return TokenRecords(
            id=np.arange(first, first + 2, dtype=np.int32),
            weight=np.ones(2, np.float32),
            label=np.ones((2, words), np.int32),
            prediction=np.ones((2, words), np.int32),
            probability=np.ones((2, words), np.float32),
            label_log_probability=np.zeros((2, words), np.float32),
        )

    joined = TokenRecords.concatenate([part(2, 1), part(0, 3)]).by_id()
    assert joined.id.tolist() == [0, 1, 2, 3]
    assert joined.label[0].tolist() == [1, 1, 1]
    assert joined.label[3].tolist() == joined.prediction[3].tolist() == [1, -1, -1]
    assert joined.probability[3].tolist() == [1, 0, 0]
    assert joined.label_log_probability[3].tolist() == pytest.approx([0, -87.3365, -87.3365], abs=1e-3)


def test_rows_in_order_are_left_where_they_are():
    value = records_of([0, 1], [0, 1])
    assert value.by_id() is value
    assert records_of([0, 1], [0, 1], id=[5, 2]).by_id().id.tolist() == [2, 5]
    with pytest.raises(DataError, match=r"^example 5 was evaluated 2 times; every example must count once$"):
        records_of([0, 1], [0, 1], id=[5, 5]).by_id()
