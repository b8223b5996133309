"""What training draws: targets after each place or behind masks, negatives that are never the user's own, and all of it pure in (key, row)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.data import InteractionPreprocessing, log_shares_of
from ftjax.data.interactions.preprocessing import following, newest, others
from ftjax.errors import DataError

KEY = jax.random.key(0)
OTHERS = jax.jit(others)


def batch_of(rows, ids=None):
    items = np.array(rows, np.int32)
    labels = np.array([max(np.flatnonzero(row), default=0) for row in items])
    return {
        "items": items,
        "label": items[np.arange(len(items)), labels],
        "weight": np.ones(len(items), np.float32),
        "id": np.array(ids if ids is not None else range(len(items)), np.int32),
    }


def test_every_place_asks_for_the_item_after_it_and_the_last_item_is_not_read():
    inputs, target = following(jnp.array([[5, 6, 7, 0], [8, 9, 0, 0], [0, 0, 0, 0]]))
    assert inputs.tolist() == [[5, 6, 0, 0], [8, 0, 0, 0], [0, 0, 0, 0]]
    assert target.tolist() == [[6, 7, 0, 0], [9, 0, 0, 0], [0, 0, 0, 0]]


def test_the_newest_items_are_kept_in_their_order():
    assert newest(jnp.array([[1, 2, 3, 4], [5, 6, 0, 0]]), 3).tolist() == [[2, 3, 4, 0], [5, 6, 0, 0]]
    assert newest(jnp.array([[1, 2]]), 3).tolist() == [[1, 2]]


def test_prediction_puts_the_mask_behind_the_newest_items_that_leave_room_for_it():
    made = InteractionPreprocessing(items=9, max_length=3, hides=True)
    found = made.inputs(batch_of([[1, 2, 3, 4], [5, 0, 0, 0], [0, 0, 0, 0]]))["items"]
    assert found[:, :4].tolist() == [[3, 4, 10, 0], [5, 10, 0, 0], [10, 0, 0, 0]]


def test_masked_items_are_asked_for_and_no_others():
    made = InteractionPreprocessing(items=9, max_length=50, hides=True, mask_probability=0.3)
    batch = batch_of(np.tile(np.arange(1, 9), (400, 1)))
    found = made.training_batch(batch, KEY)
    hidden = np.asarray(found["inputs"]) == 10
    assert np.array_equal(np.where(hidden, batch["items"], 0), found["target"])
    assert np.array_equal(found["inputs"][~hidden], batch["items"][~hidden])
    assert abs(hidden.mean() - 0.3) < 0.03


def test_a_share_of_the_histories_has_its_last_item_alone_hidden():
    made = InteractionPreprocessing(items=9, max_length=50, hides=True, mask_probability=0.5, mask_last=1.0)
    found = made.training_batch(batch_of([[1, 2, 3, 0], [4, 0, 0, 0]]), KEY)
    assert found["target"].tolist() == [[0, 0, 3, 0], [4, 0, 0, 0]]
    assert found["inputs"].tolist() == [[1, 2, 10, 0], [10, 0, 0, 0]]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 12), min_size=6, max_size=6), st.integers(1, 12))
def test_uniform_negatives_are_all_other_items_and_each_as_often(own, count):
    own = [item if item <= count else 0 for item in own]
    left = sorted(set(range(1, count + 1)) - set(own))
    draw = jnp.asarray((np.arange(60) + 0.5) / 60, jnp.float32)
    found = np.bincount(OTHERS(jnp.array(own, jnp.int32), draw, count), minlength=count + 1)
    assert np.flatnonzero(found).tolist() == (left or [0])
    assert not left or np.ptp(found[left]) <= 1


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_negatives_are_none_of_the_rows_own_items_and_do_not_depend_on_the_rest_of_the_batch(sampling):
    shares = log_shares_of(np.array([50, 1, 1, 1, 1, 20, 1, 1])) if sampling == "popularity" else None
    made = InteractionPreprocessing(items=8, max_length=4, loss="bce", negatives=20, negative_sampling=sampling, log_shares=shares)
    whole = made.training_batch(batch_of([[1, 2, 3], [4, 5, 6], [7, 8, 0]], ids=[7, 3, 5]), KEY)
    negative = np.asarray(whole["negative"])
    assert negative.shape == (3, 3, 20)
    for row, own in enumerate(({1, 2, 3}, {4, 5, 6}, {7, 8})):
        assert not set(negative[row].ravel().tolist()) & own
    alone = made.training_batch(batch_of([[4, 5, 6]], ids=[3]), KEY)
    assert np.array_equal(alone["negative"][0], negative[1])
    other = made.training_batch(batch_of([[4, 5, 6]], ids=[3]), jax.random.key(1))
    assert not np.array_equal(other["negative"], alone["negative"])
    if sampling == "popularity":
        counts = np.bincount(negative[1:].ravel(), minlength=9)
        assert counts[1] > 3 * counts[[2, 3]].max()


def test_what_the_whole_batch_is_told_from_is_drawn_as_often_as_is_said():
    shares = log_shares_of(np.array([30, 10, 0, 60]))
    assert np.exp(shares[1:]) == pytest.approx(np.array([30, 10, 1, 60]) / 101)
    made = InteractionPreprocessing(items=4, max_length=4, loss="sampled_softmax", negatives=4000, negative_sampling="popularity", log_shares=shares)
    found = made.training_batch(batch_of([[1, 2, 0], [3, 4, 1]]), KEY)
    assert found["drawn"].shape == (2, 2000)
    drawn = np.bincount(np.asarray(found["drawn"]).ravel(), minlength=5)[1:] / 4000
    assert drawn == pytest.approx(np.exp(shares[1:]), abs=0.03)
    assert np.array_equal(found["drawn_log_q"], shares[np.asarray(found["drawn"])])
    within = InteractionPreprocessing(items=4, max_length=4, loss="sampled_softmax", negative_sampling="in_batch", log_shares=shares)
    assert within.training_batch(batch_of([[1, 2, 0], [3, 4, 1]]), KEY)["drawn"].tolist() == [[2], [1]]


def test_its_description_is_read_back_and_a_missing_field_is_named():
    made = InteractionPreprocessing(items=8, max_length=4, hides=True, mask_last=0.1)
    assert InteractionPreprocessing.from_json(made.to_json()) == made
    with pytest.raises(DataError, match="preprocessing: the field 'hides' is missing"):
        InteractionPreprocessing.from_json({name: value for name, value in made.to_json().items() if name != "hides"})
