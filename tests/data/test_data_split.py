"""Splits and samples: disjoint, covering, stratified, nested, and decided by names and seed alone."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sample import sample
from ftjax.data.split import complete_splits, take
from ftjax.errors import DataError

counts = st.lists(st.integers(3, 40), min_size=1, max_size=5)
fractions = st.floats(0.02, 0.6)
seeds = st.integers(0, 2**40)


PINNED = ["c0/0.png", "c0/1.png", "c0/7.png", "c1/16.png", "c1/19.png"]


def table(sizes: list[int]) -> tuple[list[str], list[str], list[bytes]]:
    classes = [f"c{label}" for label, size in enumerate(sizes) for _ in range(size)]
    ids = [f"{name}/{row}.png" for row, name in enumerate(classes)]
    return ids, classes, [name.encode() for name in ids]


def rows_of(sizes: list[int], splits: tuple[str, ...] | None = None) -> Rows:
    ids, classes, _ = table(sizes)
    names = sorted(set(classes))
    return Rows("here", tuple(ids), np.array([names.index(name) for name in classes], np.int32), splits or ("train",) * len(ids), tuple(names), lambda row: b"")


@settings(max_examples=100, deadline=None)
@given(counts, fractions, seeds, st.integers(1, 2))
def test_each_class_gives_its_share_within_one_and_keeps_some(sizes, fraction, seed, leave):
    ids, classes, copies = table(sizes)
    taken = take(ids, classes, copies, fraction, seed=seed, purpose="test", leave=leave)
    given_away = collections.Counter(np.array(classes)[taken])
    for label, size in enumerate(sizes):
        count = given_away[f"c{label}"]
        assert 1 <= count <= size - leave
        assert abs(count - fraction * size) <= 1 or count == size - leave


@settings(max_examples=50, deadline=None)
@given(counts, fractions, seeds, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(sizes, fraction, seed, random):
    ids, classes, copies = table(sizes)
    order = list(range(len(ids)))
    random.shuffle(order)
    first = take(ids, classes, copies, fraction, seed=seed, purpose="test")
    second = take([ids[i] for i in order], [classes[i] for i in order], [copies[i] for i in order], fraction, seed=seed, purpose="test")
    assert {ids[i] for i in np.flatnonzero(first)} == {ids[order[i]] for i in np.flatnonzero(second)}


@settings(max_examples=50, deadline=None)
@given(counts, seeds, st.data())
def test_copies_stay_on_one_side(sizes, seed, data):
    ids, classes, copies = table([size + 10 for size in sizes])
    for start in data.draw(st.lists(st.integers(0, len(ids) - 2), max_size=5)):
        if classes[start] == classes[start + 1]:
            copies[start + 1] = copies[start]
    taken = take(ids, classes, copies, 0.3, seed=seed, purpose="test")
    sides = collections.defaultdict(set)
    for row, copy in enumerate(copies):
        sides[copy].add(bool(taken[row]))
    assert all(len(side) == 1 for side in sides.values())


def test_seed_and_purpose_choose_differently():
    ids, classes, copies = table([100])
    chosen = {(seed, purpose): tuple(take(ids, classes, copies, 0.3, seed=seed, purpose=purpose)) for seed in (0, 1) for purpose in ("test", "validation")}
    assert len(set(chosen.values())) == 4


def test_the_choice_is_the_same_for_ever():
    ids, classes, copies = table([12, 8])
    taken = take(ids, classes, copies, 0.25, seed=3, purpose="test")
    assert [ids[row] for row in np.flatnonzero(taken)] == PINNED


def test_a_class_too_small_to_split_is_named():
    ids, classes, copies = table([9, 2])
    with pytest.raises(DataError) as error:
        take(ids, classes, copies, 0.2, seed=0, purpose="test", leave=2)
    assert str(error.value) == "class 'c1' has 2 different images, too few to split test off (3 are needed); add images or bring the splits as folders"


@settings(max_examples=50, deadline=None)
@given(counts, seeds)
def test_the_three_splits_are_disjoint_cover_everything_and_hold_every_class(sizes, seed):
    rows = rows_of(sizes)
    members, origins = complete_splits(rows, [name.encode() for name in rows.ids], {"train": np.arange(len(rows))}, DataConfig(), seed)
    assert sorted(np.concatenate(list(members.values()))) == list(range(len(rows)))
    for split in ("train", "validation", "test"):
        assert set(rows.labels[members[split]]) == set(range(len(sizes)))
        assert (np.diff(members[split]) > 0).all()
    assert origins["test"].startswith("15.0% of")


def test_splits_that_the_data_bring_are_left_alone():
    rows = rows_of([20], ("train",) * 15 + ("validation",) * 5)
    given_members = {"train": np.arange(15), "validation": np.arange(15, 20), "test": np.arange(0)}
    members, origins = complete_splits(rows, [name.encode() for name in rows.ids], given_members, DataConfig(test_fraction=0.2), 0)
    assert members["validation"].tolist() == list(range(15, 20))
    assert len(members["test"]) == 3
    assert len(members["train"]) == 12
    assert origins == {
        "train": "what remains of the data's training rows",
        "test": "20.0% of the training rows, by class and a hash of the id",
        "validation": "given by the data",
    }


@settings(max_examples=50, deadline=None)
@given(counts, seeds, st.integers(1, 10), st.integers(0, 10))
def test_fewer_labels_are_a_subset_of_more(sizes, seed, few, more):
    rows = rows_of(sizes)
    everything = {"train": np.arange(len(rows)), "validation": np.arange(0), "test": np.arange(0)}
    small, report = sample(rows, everything, DataConfig(labels_per_class=few), seed)
    large, _ = sample(rows, everything, DataConfig(labels_per_class=few + more), seed)
    assert set(small["train"]) <= set(large["train"])
    kept = collections.Counter(rows.labels[small["train"]].tolist())
    assert kept == {label: min(few, size) for label, size in enumerate(sizes)}
    assert report["short"] == [f"c{label}" for label, size in enumerate(sizes) if size < few]


def test_without_a_number_all_labels_stay():
    rows = rows_of([4])
    members, report = sample(rows, {"train": np.arange(4)}, DataConfig(), 0)
    assert members["train"].tolist() == [0, 1, 2, 3]
    assert report == {"labels_per_class": None, "rows_before": 4, "rows_after": 4, "short": []}
