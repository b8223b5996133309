"""Buckets and batches of texts: little padding, few shapes, every row once an epoch, whoever asks."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.data.text import bucketed
from ftjax.errors import ConfigError, DataError

lengths_of_rows = st.lists(st.integers(1, 70), min_size=1, max_size=60).map(lambda values: np.array(values, np.int32))


def _padded_tokens(lengths: np.ndarray, buckets: tuple[int, ...]) -> int:
    return int(np.asarray(buckets)[np.searchsorted(buckets, lengths)].sum())


@settings(deadline=None, max_examples=60)
@given(lengths_of_rows, st.integers(1, 4))
def test_buckets_are_the_best_of_all_choices(lengths, count):
    buckets = bucketed.choose_buckets(lengths, count)
    assert len(buckets) <= count
    assert all(length % 8 == 0 for length in buckets)
    assert list(buckets) == sorted(set(buckets))
    candidates = sorted({-(-int(length) // 8) * 8 for length in lengths})
    best = min(_padded_tokens(lengths, choice) for k in range(1, count + 1) for choice in itertools.combinations(candidates, k) if choice[-1] == candidates[-1])
    assert _padded_tokens(lengths, buckets) == best


def test_no_buckets_is_refused():
    with pytest.raises(ConfigError, match=r"^text\.buckets=0: allowed is 1 or more$"):
        bucketed.choose_buckets(np.array([3]), 0)
    with pytest.raises(DataError, match=r"^there are no rows to choose buckets for$"):
        bucketed.choose_buckets(np.array([], np.int32), 4)


@settings(deadline=None, max_examples=60)
@given(lengths_of_rows, st.integers(1, 4), st.integers(1, 9), st.integers(0, 3), st.sampled_from([None, 72, 200, 1000]))
def test_every_epoch_holds_every_row_once_in_the_shapes_of_the_buckets(lengths, count, batch_size, seed, tokens):
    buckets = bucketed.choose_buckets(lengths, count)
    steps = bucketed.steps_per_epoch(lengths, buckets, batch_size, tokens)
    for epoch in range(2):
        batches = [bucketed.batch_rows(lengths, buckets, epoch * steps + step, batch_size, seed, tokens) for step in range(steps)]
        assert sorted(np.concatenate([rows for rows, _, _ in batches])) == list(range(len(lengths)))
        for rows, length, size in batches:
            assert length in buckets
            assert lengths[rows].max() <= length
            assert size == (batch_size if tokens is None else tokens // length)
        counted = bucketed.batches_per_bucket(lengths, buckets, batch_size, tokens)
        assert counted == tuple(sum(length == bucket for _, length, _ in batches) for bucket in buckets)
        short = [(length, len(rows)) for rows, length, size in batches if len(rows) < size]
        assert len(short) <= 1
        assert all(length == buckets[-1] and rows for length, rows in short)


@settings(deadline=None, max_examples=40)
@given(lengths_of_rows, st.integers(1, 5))
def test_with_rows_counted_an_epoch_has_as_few_batches_as_rows_allow(lengths, batch_size):
    assert bucketed.steps_per_epoch(lengths, bucketed.choose_buckets(lengths, 3), batch_size) == -(-len(lengths) // batch_size)


def test_batches_do_not_depend_on_who_asks_when():
    lengths = np.random.default_rng(0).integers(1, 60, 300).astype(np.int32)
    buckets = bucketed.choose_buckets(lengths, 4)

    def ask(step):
        return bucketed.batch_rows(lengths, buckets, step, 8, 5)[0].tolist()

    forward = [ask(step) for step in range(90)]
    bucketed._epoch.cache_clear()
    assert [ask(step) for step in reversed(range(90))] == forward[::-1]
    bucketed._epoch.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(90))) == forward
    again = lengths.copy()
    assert [bucketed.batch_rows(again, buckets, step, 8, 5)[0].tolist() for step in range(90)] == forward


def test_epochs_and_seeds_differ_and_batches_are_shuffled():
    lengths = np.random.default_rng(0).integers(1, 60, 300).astype(np.int32)
    buckets = bucketed.choose_buckets(lengths, 4)
    steps = bucketed.steps_per_epoch(lengths, buckets, 8)

    def epoch(number, seed):
        return [bucketed.batch_rows(lengths, buckets, number * steps + step, 8, seed) for step in range(steps)]

    first = epoch(0, 1)
    assert [batch[0].tolist() for batch in first] != [batch[0].tolist() for batch in epoch(1, 1)]
    assert [batch[0].tolist() for batch in first] != [batch[0].tolist() for batch in epoch(0, 2)]
    of_length = [length for _, length, _ in first]
    assert of_length != sorted(of_length)


def test_a_batch_of_tokens_too_small_for_one_text_is_refused():
    lengths = np.array([5, 30], np.int32)
    with pytest.raises(
        ConfigError, match=r"^train\.batch_tokens=16 does not hold one text of 32 tokens; allowed is 32 or more, or a smaller text\.max_length$"
    ):
        bucketed.batch_rows(lengths, (8, 32), 0, 4, 0, 16)
    with pytest.raises(
        ConfigError, match=r"^train\.batch_tokens=64 does not hold 4 texts \(one for each device and part of the batch\) of 32 tokens; allowed is 128"
    ):
        bucketed.steps_per_epoch(lengths, (8, 32), 4, 64, multiple=4)
    assert bucketed.batch_size_of(32, 4, 300, multiple=4) == 8


def test_a_row_longer_than_every_bucket_is_refused():
    with pytest.raises(DataError, match=r"^row 1 has 33 tokens, more than the longest bucket \(32\)$"):
        bucketed.batch_rows(np.array([5, 33]), (8, 32), 0, 4, 0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(0, 5), st.integers(0, 5))
def test_drawn_rows_make_classes_equally_frequent(sizes, seed, epoch):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    weights = 1.0 / np.array(sizes)[labels]
    rows = bucketed.drawn(weights, seed, epoch)
    assert len(rows) == len(labels)
    share = len(labels) / len(sizes)
    counts = np.bincount(rows, minlength=len(labels))
    for label, size in enumerate(sizes):
        here = counts[labels == label]
        assert here.min() >= np.floor(share / size - 1e-9)
        assert here.max() <= np.ceil(share / size + 1e-9)
        alike = [other for other in range(len(sizes)) if sizes[other] == size]
        together = sum(int(counts[labels == other].sum()) for other in alike)
        assert abs(together - share * len(alike)) < 1 + 1e-9


def test_a_frequent_class_takes_turns_over_epochs_and_draws_are_fixed_by_seed_and_epoch():
    labels = np.array([0] * 90 + [1] * 10)
    weights = np.where(labels == 0, 1 / 90, 1 / 10)
    np.testing.assert_array_equal(bucketed.drawn(weights, 3, 1), bucketed.drawn(weights, 3, 1))
    seen = np.unique(np.concatenate([bucketed.drawn(weights, 3, epoch) for epoch in range(20)]))
    assert len(seen) == 100


def test_batches_of_drawn_rows_keep_the_number_of_steps_and_the_balance():
    generator = np.random.default_rng(1)
    labels = (np.arange(400) < 40).astype(int)
    lengths = np.where(labels == 1, generator.integers(30, 60, 400), generator.integers(3, 20, 400)).astype(np.int32)
    weights = 1 / np.bincount(labels)[labels]
    buckets = bucketed.choose_buckets(lengths, 4)
    for tokens in (None, 512):
        steps = bucketed.steps_per_epoch(lengths, buckets, 16, tokens)
        rows = np.concatenate([bucketed.batch_rows(lengths, buckets, step, 16, 0, tokens, weights)[0] for step in range(steps)])
        if tokens is None:
            assert len(rows) == 400
            assert labels[rows].sum() == 200
        else:
            assert labels[rows].sum() > 80
