"""Samples of the training rows: nested, with a floor and a cap for each class; and how often classes are drawn, for pictures and for texts."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import Config, DataConfig, TaskConfig, TrainConfig
from ftjax.data import ImageFormat, batch_at, collect, draw_by_class
from ftjax.data.dataset import Dataset, Rows, Split
from ftjax.data.sample import sample
from ftjax.errors import ConfigError
from ftjax.tasks import check_task, make_task

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)
seeds = st.integers(0, 2**40)


def rows_of(counts: list[int]) -> Rows:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    ids = tuple(f"c{label}/{row}" for row, label in enumerate(labels))
    return Rows("here", ids, labels, ("train",) * len(ids), tuple(f"c{label}" for label in range(len(counts))), lambda row: b"")


def kept(rows: Rows, seed: int = 0, **config) -> tuple[set[str], dict]:
    members, report = sample(rows, {"train": np.arange(len(rows)), "test": np.arange(2)}, DataConfig(**config), seed)
    assert members["test"].tolist() == [0, 1]
    return {rows.ids[row] for row in members["train"]}, report


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.integers(1, 4))
def test_a_smaller_share_is_among_a_larger_one_and_no_class_falls_below_its_floor(counts, seed, one, other, floor):
    rows = rows_of(counts)
    (small, report), (large, _) = (kept(rows, seed, fraction=fraction, class_floor=floor) for fraction in sorted((one, other)))
    assert small <= large
    found = collections.Counter(name.split("/")[0] for name in small)
    for label, count in enumerate(counts):
        share = round(min(one, other) * count)
        assert found[f"c{label}"] == min(count, max(floor, share))
        assert (f"c{label}" in report["raised"]) == (share < min(floor, count))
    assert report["rows_after"] == len(small)


@settings(max_examples=30, deadline=None)
@given(sizes, seeds, st.integers(1, 20), st.floats(0.01, 1.0), st.randoms(use_true_random=False))
def test_a_cap_holds_and_the_order_of_rows_changes_nothing(counts, seed, cap, fraction, random):
    rows = rows_of(counts)
    order = list(range(len(rows)))
    random.shuffle(order)
    turned = Rows("here", tuple(rows.ids[row] for row in order), rows.labels[order], rows.splits, rows.classes, rows.read)
    found, _ = kept(rows, seed, fraction=fraction, max_per_class=cap)
    members, _ = sample(turned, {"train": np.arange(len(rows))}, DataConfig(fraction=fraction, max_per_class=cap), seed)
    assert {turned.ids[row] for row in members["train"]} == found
    assert max(collections.Counter(name.split("/")[0] for name in found).values()) <= cap
    assert found <= kept(rows, seed, fraction=fraction)[0]


def test_a_share_that_would_lose_a_class_says_that_it_kept_it():
    _, report = kept(rows_of([100, 4]), fraction=0.05)
    assert report == {
        "labels_per_class": None,
        "rows_before": 104,
        "rows_after": 6,
        "short": [],
        "fraction": 0.05,
        "class_floor": 1,
        "raised": {"c1": 1},
        "shares": {"before": {"c0": 100 / 104, "c1": 4 / 104}, "after": {"c0": 5 / 6, "c1": 1 / 6}},
    }


def dataset_of(counts: list[int]) -> Dataset:
    rows = rows_of(counts)
    train = Split(rows.ids, rows.labels, lambda here: {})
    return Dataset({"train": train}, rows.classes, {"sampling": {"labels_per_class": None}, "warnings": ["first"]})


@pytest.mark.parametrize(("sampling", "wanted"), [("balanced", [1 / 3] * 3), ("sqrt", [8 / 14, 4 / 14, 2 / 14])])
def test_classes_are_drawn_as_often_as_asked_for_and_the_report_says_so(sampling, wanted):
    drawn = draw_by_class(dataset_of([64, 16, 4]), sampling)
    labels = np.concatenate([batch_at(drawn.splits["train"], step, 12, 3)["label"] for step in range(7 * 20)])
    np.testing.assert_allclose(np.bincount(labels) / len(labels), wanted, atol=0.01)
    assert drawn.report["sampling"]["drawn"] == sampling
    shares = drawn.report["sampling"]["shares"]
    np.testing.assert_allclose(list(shares["effective"].values()), wanted)
    assert shares["before"] == shares["after"] == {"c0": 64 / 84, "c1": 16 / 84, "c2": 4 / 84}


def test_a_shift_of_the_classes_is_a_warning_with_what_corrects_it():
    assert draw_by_class(dataset_of([64, 4]), "sqrt").report["warnings"] == [
        "first",
        "data.sampling='sqrt' draws 'c1' for 20.0% of the steps' rows, where it is 5.9% of the training rows: probabilities are those of the drawn shares; "
        "task.imbalance='logit_adjust' takes the drawn shares out of the logits",
    ]
    assert draw_by_class(dataset_of([64, 4]), "balanced").report["warnings"][1].endswith("training rows: probabilities are those of the drawn shares")
    assert draw_by_class(dataset_of([5, 5]), "sqrt").report["warnings"] == ["first"]


def test_natural_changes_nothing_and_oversampling_twice_is_oversampling_once():
    dataset = dataset_of([8, 2])
    assert draw_by_class(dataset, "natural") is dataset
    once = draw_by_class(dataset, "balanced", "task.imbalance")
    assert draw_by_class(once, "balanced", "task.imbalance") is once
    assert once.splits["train"].sampling is not None


@pytest.mark.parametrize("imbalance", ["logit_adjust", "sqrt"])
def test_priors_and_weights_are_those_of_what_is_drawn(imbalance):
    counts = [64, 16, 4]
    natural, balanced, root = (draw_by_class(dataset_of(counts), sampling).splits["train"] for sampling in ("natural", "balanced", "sqrt"))
    task = {name: make_task(TaskConfig(imbalance=imbalance), ("a", "b", "c"), split=split) for name, split in (("n", natural), ("b", balanced), ("r", root))}
    values = {name: np.array(found.log_prior if imbalance == "logit_adjust" else found.class_weights) for name, found in task.items()}
    if imbalance == "logit_adjust":
        np.testing.assert_allclose(values["n"], np.log(np.array(counts) / 84))
        np.testing.assert_allclose(values["b"], np.log([1 / 3] * 3))
        np.testing.assert_allclose(values["r"], np.log(np.array([8, 4, 2]) / 14))
    else:
        np.testing.assert_allclose(values["b"], 1)
        np.testing.assert_allclose(values["r"] / values["r"][0], [1, 2**0.5, 2])


def test_two_ways_of_drawing_are_refused_and_so_is_drawing_from_a_full_batch():
    with pytest.raises(ConfigError) as error:
        check_task(Config(data=DataConfig(sampling="sqrt"), task=TaskConfig(imbalance="oversample")))
    assert str(error.value) == (
        "task.imbalance='oversample' and data.sampling='sqrt' both say how often rows are drawn; leave one open (oversample is data.sampling='balanced')"
    )
    with pytest.raises(ConfigError) as error:
        check_task(Config(data=DataConfig(sampling="sqrt"), train=TrainConfig(batch_size="all")))
    assert str(error.value) == (
        "train.batch_size='all' takes every row once and data.sampling='sqrt' draws rows; use a number of rows, or task.imbalance='balanced'"
    )
    with pytest.raises(ConfigError, match=r"^train\.batch_size='all' takes every row once and task\.imbalance='oversample' draws rows;"):
        check_task(Config(task=TaskConfig(imbalance="oversample"), train=TrainConfig(batch_size="all")))


def photos(tree, counts: dict[str, int], **config) -> Dataset:
    files = {f"{name}/p{row // 2}_{row}.png": 1000 * number + row for number, (name, count) in enumerate(counts.items()) for row in range(count)}
    return collect(DataConfig(source="image_folder", path=str(tree(files)), workers=2, **config), ImageFormat((8, 8)), 0)


def test_pictures_are_split_by_group_and_sampled_end_to_end(tree):
    dataset = photos(tree, {"cat": 24, "dog": 12}, split="group", group=r"(p\d+)_", sampling="sqrt", max_per_class=9)
    held = {split: {name.split("/")[1].split("_")[0] for name in part.ids} for split, part in dataset.splits.items()}
    assert not held["train"] & held["test"]
    assert not held["train"] & held["validation"]
    assert not held["validation"] & held["test"]
    report = dataset.report
    assert report["split"]["groups"] == {split: len(groups) for split, groups in held.items()} | {"train": report["split"]["groups"]["train"]}
    assert report["splits"]["train"]["per_class"]["cat"] == 9
    assert set(report["sampling"]["shares"]) == {"before", "after", "effective"}
    assert dataset.splits["train"].sampling is not None
    assert report["splits"]["test"]["origin"] == "15.0% of the training rows, whole groups, by class and a hash of their ids"


def test_a_copy_that_a_hash_puts_on_the_other_side_leaves_training(tree):
    files = {f"{name}/{row}.png": 100 * number + row for number, name in enumerate(("cat", "dog")) for row in range(30)}
    files |= {f"cat/copy{row}.png": row for row in range(30)}
    dataset = collect(DataConfig(source="image_folder", path=str(tree(files)), workers=2, split="hash"), ImageFormat((8, 8)), 0)
    report = dataset.report
    assert report["duplicates"]["across"]
    where = {name: split for split, part in dataset.splits.items() for name in part.ids}
    for row in range(30):
        pair = {where[name] for name in (f"cat/{row}.png", f"cat/copy{row}.png") if name in where}
        assert len(pair) == 1
    assert len(where) == 90 - len(report["duplicates"]["dropped"])
