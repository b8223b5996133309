"""Ways of splitting: by a hash alone, in whole groups, by time, in folds; what each promises whatever the rows are, and what each refuses."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import DataConfig
from ftjax.data.apportion import apportion, units_of
from ftjax.data.dataset import SPLITS, Rows
from ftjax.data.divide import check_torn, split_facts, with_picture_groups
from ftjax.data.folds import fold_of
from ftjax.data.moments import check_comparable, read_moment
from ftjax.data.split import complete_splits
from ftjax.data.split_settings import check_split_settings
from ftjax.errors import ConfigError, DataError

sizes = st.lists(st.integers(5, 30), min_size=2, max_size=4)
seeds = st.integers(0, 2**40)


def rows_of(counts: list[int], groups: int | None = None, *, times: bool = False) -> Rows:
    """Rows of classes of these sizes; row i is in group i % groups."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    ids = tuple(f"c{label}/{row}" for row, label in enumerate(labels))
    names = None if groups is None else tuple(f"g{row % groups}" for row in range(len(ids)))
    moments = tuple(read_moment(f"2024-01-{1 + row * 7 % 28:02d}") for row in range(len(ids))) if times else None
    classes = tuple(f"c{label}" for label in range(len(counts)))
    return Rows("here", ids, labels, ("train",) * len(ids), classes, lambda row: b"", groups=names, moments=moments)


def shuffled(rows: Rows, order: list[int]) -> Rows:
    pick = {name: tuple(getattr(rows, name)[row] for row in order) for name in ("ids", "splits", "groups", "moments") if getattr(rows, name) is not None}
    return dataclasses.replace(rows, labels=rows.labels[order], **pick)


def divided(rows: Rows, seed: int = 0, **config) -> dict[str, set[str]]:
    """The ids of each split."""
    given_rows = {split: np.flatnonzero(np.array(rows.splits) == split) for split in SPLITS}
    members, _ = complete_splits(rows, [name.encode() for name in rows.ids], given_rows, DataConfig(**config), seed)
    found = {split: {rows.ids[row] for row in members[split]} for split in SPLITS}
    assert sorted(name for part in found.values() for name in part) == sorted(rows.ids), "no row is lost or twice"
    return found


WAYS = [{"split": "hash"}, {"split": "group"}, {"split": "time"}, {"folds": 3}, {"folds": 3, "split": "group"}, {"folds": 3, "split": "hash", "test_fold": 1}]


@pytest.mark.parametrize("way", WAYS, ids=str)
@settings(max_examples=20, deadline=None)
@given(sizes, seeds, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_and_none_is_lost(way, counts, seed, random):
    rows = rows_of(counts, 9, times=True)
    order = list(range(len(rows)))
    random.shuffle(order)
    assert divided(rows, seed, **way) == divided(shuffled(rows, order), seed, **way)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 40), seeds, st.sampled_from([{}, {"folds": 4}, {"folds": 4, "test_fold": 2}]))
def test_a_hash_moves_no_row_when_data_grow(counts, more, seed, folds):
    small, large = rows_of(counts), rows_of([*counts, more])
    before, after = divided(small, seed, split="hash", **folds), divided(large, seed, split="hash", **folds)
    assert all(before[split] == after[split] & set(small.ids) for split in SPLITS)


def test_a_hash_gives_about_the_shares_and_seeds_differ():
    rows = rows_of([4000])
    found = divided(rows, 1, split="hash", test_fraction=0.2, validation_fraction=0.1)
    assert len(found["test"]) == pytest.approx(800, abs=80)
    assert len(found["validation"]) == pytest.approx(320, abs=60)
    assert found["test"] != divided(rows, 2, split="hash", test_fraction=0.2, validation_fraction=0.1)["test"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=40, max_size=80), seeds, st.sampled_from([{}, {"folds": 2}]))
def test_groups_are_never_torn_also_where_copies_tie_them_together(table, seed, folds):
    table = [*table, *((label, 20 + 4 * extra + label) for label in range(4) for extra in range(6))]
    names = tuple(f"r{row}" for row in range(len(table)))
    labels = np.array([label for label, _ in table], np.int32)
    rows = Rows("here", names, labels, ("train",) * len(names), tuple("abcd"), lambda row: b"", groups=tuple(str(group) for _, group in table))
    copies = [b"%d" % (row // 2 if row < 6 else row) for row in range(len(names))]
    config = DataConfig(split="group", group="patient", **folds)
    members, _ = complete_splits(rows, copies, {"train": np.arange(len(rows))}, config, seed)
    assert sorted(np.concatenate([members[split] for split in SPLITS])) == list(range(len(rows)))
    where = {int(row): split for split in SPLITS for row in members[split]}
    for first in range(len(rows)):
        for second in range(first):
            if rows.groups[first] == rows.groups[second] or copies[first] == copies[second]:
                assert where[first] == where[second]
    assert set(labels[members["train"]]) == {0, 1, 2, 3}


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(2, 5), seeds)
def test_every_row_is_in_exactly_one_fold_and_classes_are_even(counts, folds, seed):
    rows = rows_of(counts)
    pool, copies = np.arange(len(rows)), [name.encode() for name in rows.ids]
    numbers = fold_of(rows, copies, pool, folds, "stratified", seed, "fold")
    assert set(numbers) == set(range(folds))
    for label, count in enumerate(counts):
        assert max(np.bincount(numbers[rows.labels == label], minlength=folds)) <= -(-count // folds)
    assert np.ptp(np.bincount(numbers)) <= len(counts)
    validated = [divided(rows, seed, folds=2, fold=fold, test_fraction=0.2) for fold in range(2)]
    assert validated[0]["test"] == validated[1]["test"]
    assert validated[0]["validation"] == validated[1]["train"]


def test_nested_folds_test_every_row_once_and_validate_the_rest_once():
    rows = rows_of([12, 9])
    tested = collections.Counter()
    for outer in range(3):
        parts = [divided(rows, 4, folds=3, fold=inner, test_fold=outer) for inner in range(3)]
        assert all(part["test"] == parts[0]["test"] for part in parts)
        tested.update(parts[0]["test"])
        assert collections.Counter(name for part in parts for name in part["validation"]) == dict.fromkeys(set(rows.ids) - parts[0]["test"], 1)
    assert tested == dict.fromkeys(rows.ids, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=60).filter(lambda years: len(set(years)) > 2), st.floats(0.05, 0.5))
def test_time_puts_what_is_newer_into_validation_and_the_newest_into_test(years, fraction):
    ids = tuple(f"r{row:02d}" for row in range(len(years)))
    rows = Rows("here", ids, np.zeros(len(ids), np.int32), ("train",) * len(ids), ("a",), lambda row: b"", moments=tuple(map(read_moment, years)))
    found = divided(rows, split="time", test_fraction=fraction, validation_fraction=0.3)
    spans = {split: [years[ids.index(name)] for name in found[split]] for split in SPLITS}
    assert max(spans["train"]) < min(spans["validation"])
    assert max(spans["validation"]) < min(spans["test"])
    assert len(spans["test"]) <= max(round(fraction * len(ids)), years.count(max(years)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_units_are_the_connected_components(pairs):
    units = units_of([f"a{first}" for first, _ in pairs], [second for _, second in pairs])
    reached = {row: {row} for row in range(len(pairs))}
    for _ in pairs:
        for row in reached:
            reached[row] |= {
                other for known in list(reached[row]) for other in range(len(pairs)) if set(enumerate(pairs[known])) & set(enumerate(pairs[other]))
            }
    for first in reached:
        assert {other for other in reached if units[other] == units[first]} == reached[first]


def test_shares_are_kept_within_about_a_row():
    labels = [0] * 100 + [1] * 20
    bins = apportion([str(row) for row in range(120)], labels, range(120), (0.7, 0.2, 0.1), seed=5, purpose="x")
    assert [np.bincount(bins[part]).tolist() for part in (slice(0, 100), slice(100, 120))] == [[70, 20, 10], [14, 4, 2]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=25), seeds)
def test_the_trained_bin_misses_no_class_whatever_the_units(table, seed):
    labels, units = [label for label, _ in table], [unit for _, unit in table]
    bins = apportion([str(row) for row in range(len(table))], labels, units, (0.34, 0.36, 0.3), seed=seed, purpose="x")
    assert {label for label, number in zip(labels, bins) if number == 0} == set(labels)
    assert all(len({int(number) for number, other in zip(bins, units) if other == unit}) == 1 for unit in units)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 4))
def test_copies_are_in_one_fold(seed, folds):
    rows = rows_of([12, 12])
    copies = [b"%d" % (row // 2) for row in range(len(rows))]
    numbers = fold_of(rows, copies, np.arange(len(rows)), folds, "stratified", seed, "fold")
    assert (numbers[::2] == numbers[1::2]).all()


def test_times_are_read_exactly_and_compared_only_with_their_kind():
    assert read_moment("2024-01-31").order == read_moment("2024-01-31T00:00:00").order
    assert read_moment("2024-01-31T12:00+02:00").order == read_moment("2024-01-31T10:00Z").order
    assert read_moment("1700000000000000001").order - read_moment(1700000000000000000).order == 1
    rows = [read_moment("2024-01-31"), read_moment("2023"), read_moment("2024-01-31T10:00Z")]
    with pytest.raises(DataError) as error:
        check_comparable(["a:1", "a:2", "a:3"], rows, "a.csv")
    assert str(error.value) == (
        "a.csv: data.time holds what cannot be compared: date (a:1: '2024-01-31'), number (a:2: '2023'), "
        "date with a time zone (a:3: '2024-01-31T10:00Z'); write one kind in the whole column"
    )


@pytest.mark.parametrize("value", ["31.01.2024", "01/31/2024", "2024-02-30", "1_000", "nan", "1e999", True, ["2024-01-01"]], ids=str)
def test_what_is_no_time_is_refused(value):
    with pytest.raises(DataError, match=r"^its time .* is neither a number nor an ISO date such as 2024-01-31$"):
        read_moment(value)


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")], ids=repr)
def test_a_missing_time_is_said_to_be_missing(value):
    with pytest.raises(DataError, match=r"^it has no time$"):
        read_moment(value)


REFUSED = [
    ({"split": "group"}, "data.split='group' needs data.group: the column of a table, or for pictures a regular expression with one group, such as"),
    ({"group": "(a", "split": "group"}, "data.group='(a' is no regular expression: missing ), unterminated subpattern at position 0"),
    ({"group": "(a)(b)", "split": "group"}, "data.group='(a)(b)' has 2 groups; allowed is exactly one, around what rows have in common, as in"),
    ({"split": "time", "time": "when"}, "data.split='time': data.source='digits' has no column with a time; it is for tables; for pictures use"),
    ({"split": "time", "source": "table"}, "data.split='time' needs data.time, the column of a table that holds ISO dates or numbers"),
    ({"split": "time", "source": "table", "time": "t", "folds": 3}, "data.folds=3: folds of data.split='time' would train on what comes later; leave"),
    ({"folds": 1}, "data.folds=1: allowed is 2 or more"),
    ({"folds": 5, "fold": 5}, "data.fold=5 is out of range: data.folds=5, so allowed is 0 to 4"),
    ({"folds": 5, "test_fold": 7}, "data.test_fold=7 is out of range: data.folds=5, so allowed is 0 to 4"),
    ({"fraction": 0.0}, "data.fraction=0.0: allowed is above 0, at most 1"),
    ({"max_per_class": 0}, "data.max_per_class=0: allowed is 1 or more"),
    ({"fraction": 0.1, "class_floor": 0}, "data.class_floor=0: allowed is 1 or more"),
    ({"fraction": 0.1, "labels_per_class": 3}, "data.labels_per_class=3 and data.fraction both say how many examples of a class are kept; leave one open"),
    ({"fraction": 0.1, "class_floor": 4, "max_per_class": 3}, "data.class_floor=4 is above data.max_per_class=3; allowed is at most 3"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED, ids=[str(config) for config, _ in REFUSED])
def test_settings_that_contradict_each_other_are_refused(config, message):
    with pytest.raises(ConfigError) as error:
        check_split_settings(DataConfig(**config))
    assert str(error.value).startswith(message)


def refusal(rows: Rows, **config) -> str:
    with pytest.raises(DataError) as error:
        divided(rows, **config)
    return str(error.value)


def test_more_folds_than_rows_or_groups_of_a_class_are_refused():
    assert refusal(rows_of([20, 4]), folds=5, test_fold=0, fold=1) == (
        "class 'c1' has 4 different images, and data.folds=5 needs 5: one in each outer fold; ask for fewer folds or add images"
    )
    assert refusal(rows_of([20, 4]), folds=5) == (
        "class 'c1' has 4 different images, too few to split test off (6 are needed); add images or bring the splits as folders"
    )
    alone = dataclasses.replace(rows_of([20, 4]), groups=tuple("abcdefghij" * 2) + ("z",) * 4)
    assert refusal(alone, folds=5, split="group", test_fold=0) == (
        "class 'c1' is in 1 group, and data.folds=5 needs 2: one to train it while the other validates; ask for fewer folds or add images"
    )
    assert refusal(rows_of([20, 4], 3), folds=5, split="group", test_fold=0) == "here: data.folds=5 needs as many groups for the outer folds; there are 3"
    assert refusal(rows_of([20, 4], 2), split="group") == (
        "here: data.group makes 2 groups that share no copies, too few for train, test, validation; give more, or bring splits"
    )


def test_folds_leave_given_splits_alone():
    rows = dataclasses.replace(rows_of([10, 10]), splits=("train",) * 8 + ("validation",) * 2 + ("train",) * 10)
    assert refusal(rows, folds=3) == "data.folds=3 makes the validation split, but here brings one (2 images); leave data.folds open"
    rows = dataclasses.replace(rows, splits=("train",) * 8 + ("test",) * 2 + ("train",) * 10)
    assert refusal(rows, folds=3, test_fold=0) == "data.test_fold=0 makes the test split, but here brings one (2 images); leave data.test_fold open"
    assert divided(rows, folds=3)["test"] == {"c0/8", "c0/9"}


def test_too_few_moments_are_refused():
    rows = dataclasses.replace(rows_of([4]), moments=(read_moment(1),) * 3 + (read_moment(2),))
    assert refusal(rows, split="time") == "data.time has 2 different values in 4 rows, too few to split test off (3 are needed)"


def test_the_groups_of_pictures_are_read_off_their_ids():
    rows = dataclasses.replace(rows_of([2]), ids=("cat/patient_12_a.png", "cat/patient_3_b.png"))
    assert with_picture_groups(rows, DataConfig(group=r"(patient_\d+)_", split="group")).groups == ("patient_12", "patient_3")
    with pytest.raises(DataError) as error:
        with_picture_groups(rows, DataConfig(group=r"patient_1(\d*)", split="group"))
    assert str(error.value) == "here: data.group='patient_1(\\\\d*)' finds no group in 1 of 2 ids: cat/patient_3_b.png"


def test_groups_that_given_splits_tear_apart_are_named():
    rows = dataclasses.replace(rows_of([6], 3), splits=("train",) * 4 + ("test",) * 2)
    members = {"train": np.arange(4), "validation": np.arange(0), "test": np.arange(4, 6)}
    with pytest.raises(DataError) as error:
        check_torn(rows, members)
    assert str(error.value) == (
        "here: 2 groups of data.group are in more than one of the splits that the data bring:\n  'g1': train, test\n  'g2': train, test\n"
        "Move their rows to one split, or set data.torn_groups='warn'."
    )
    facts, warnings = split_facts(rows, members, DataConfig(split="group", group="g", torn_groups="warn"))
    assert facts["split"] == {
        "way": "group",
        "group": "g",
        "groups": {"train": 3, "validation": 0, "test": 2},
        "torn": {"g1": ["train", "test"], "g2": ["train", "test"]},
    }
    assert warnings == ["2 groups are in more than one split (such as 'g1': train, test): what is measured is too good"]


def test_given_splits_out_of_time_are_a_warning():
    rows = dataclasses.replace(
        rows_of([3]), splits=("train", "test", "validation"), moments=tuple(map(read_moment, ("2024-05-01", "2024-01-01", "2024-06-01")))
    )
    facts, warnings = split_facts(rows, {"train": np.array([0]), "test": np.array([1]), "validation": np.array([2])}, DataConfig(split="time", time="when"))
    assert facts["split"]["from_to"]["train"] == ["2024-05-01", "2024-05-01"]
    assert warnings == [
        "data.split='time' decided nothing: the data bring validation and test",
        "test begins (2024-01-01) before validation ends (2024-06-01): it tests nothing that is to come",
        "test begins (2024-01-01) before train ends (2024-05-01): it tests nothing that is to come",
    ]
