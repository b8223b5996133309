"""No look into the future: whatever the log, what trains is never later than what validates, and that never later than what tests; and no row order decides."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import collect, events, known, write

from ftjax.data import batch_at, eval_batches, steps_per_epoch
from ftjax.data.interactions.split import windows
from ftjax.errors import DataError

LOGS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12), st.integers(0, 30)), min_size=1, max_size=60)
"""(user, item, time), with ties and copies."""


def from_rows(rows, **settings_):
    """The data set, or None where the log is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return collect(write(Path(folder) / "log.csv", rows), **settings_)
        except DataError as error:
            if not any(word in str(error) for word in ("no user has", "no event", "one item only", "split is empty")):
                raise
            return None


def times_of(rows):
    """All times at which a user had an item."""
    found = {}
    for user, item, time in rows:
        found.setdefault((str(user), str(item)), []).append(time)
    return found


@settings(deadline=None, max_examples=60)
@given(LOGS)
def test_nothing_that_trains_is_later_than_what_the_user_is_validated_and_tested_on(rows):
    dataset = from_rows(rows)
    if dataset is None:
        return
    when, test, validation = times_of(rows), known(dataset, "test"), known(dataset, "validation")
    for user, (before, after) in test.items():
        assert len(after) == 1
        assert validation[user] == (before[:-1], before[-1:])
        # There is an order of times in which every event comes where the log has it.
        latest = 0
        for item in (*before, *after):
            latest = min(time for time in when[user, item] if time >= latest)
    for user, (before, after) in known(dataset, "train").items():
        assert not after
        assert before == (validation[user][0] if user in validation else before)
    total = sum(len(set(group)) for _, group in itertools.groupby(sorted(rows), key=lambda row: row[0]))
    alone = sum(1 for user in {row[0] for row in rows} if len({row for row in rows if row[0] == user}) == 1)
    assert dataset.report["interactions"]["events"] == total - alone


@settings(deadline=None, max_examples=60)
@given(LOGS, st.integers(1, 29), st.integers(1, 10))
def test_no_event_at_or_after_the_cut_is_known_before_it(rows, first, more):
    dataset = from_rows(rows, leave_out="time", validation_from=str(first), test_from=str(first + more))
    if dataset is None:
        return
    when = times_of(rows)
    borders = {"train": (0, first, first), "validation": (0, first, first + more), "test": (0, first + more, 10**9)}
    for split, (low, middle, high) in borders.items():
        for user, (before, after) in known(dataset, split).items():
            assert all(any(low <= time < middle for time in when[user, item]) for item in before)
            assert all(any(middle <= time < high for time in when[user, item]) for item in after)
            assert bool(after) == (split != "train")
    catalogue = dataset.catalogue
    unique = {row for row in rows if row[2] < first and len({other for other in rows if other[0] == row[0]}) > 1}
    assert catalogue.counts.sum() == len(unique)


@settings(deadline=None, max_examples=30)
@given(LOGS, st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = from_rows(rows), from_rows(shuffled)
    assert (one is None) == (other is None)
    if one is None:
        return
    assert one.classes == other.classes
    assert one.report["fingerprint"] == other.report["fingerprint"]
    for split in ("train", "validation", "test"):
        assert known(one, split) == known(other, split)


def test_ties_are_counted_and_drawn_by_the_seed(tmp_path):
    path = write(tmp_path / "log.csv", [(f"u{user}", f"i{item}", 5 + (item > 2)) for user in range(20) for item in range(6)])
    dataset = collect(path)
    assert dataset.report["interactions"]["ties"] == {"events": 80, "targets": 40}
    assert any("validation and test events are at the same moment as the one before" in warning for warning in dataset.report["warnings"])
    last = [after[0] for _, after in known(dataset, "test").values()]
    assert set(last) == {"i3", "i4", "i5"}  # neither the last row nor the largest id
    assert known(dataset, "test") == known(collect(path), "test")
    assert known(dataset, "test") != known(collect(path, seed=1), "test")


def test_shares_of_a_temporal_split_are_of_all_events_and_whole_moments(tmp_path):
    path = write(tmp_path / "log.csv", [(f"u{place % 5}", f"i{place % 7}", place // 4) for place in range(100)])
    dataset = collect(path, leave_out="time", validation_fraction=0.1, test_fraction=0.2, duplicates="keep")
    facts = dataset.report["interactions"]["split"]
    assert (facts["validation_from"], facts["test_from"]) == ("18", "20")
    assert dataset.catalogue.counts.sum() == 72
    assert sum(len(after) for _, after in known(dataset, "test").values()) == 20


def test_moments_are_dates_where_the_log_has_dates(tmp_path):
    path = write(tmp_path / "log.csv", events())
    facts = collect(path, leave_out="time", validation_from="2001-09-12", test_from="2001-09-13").report["interactions"]["split"]
    assert facts["validation_from"] == "2001-09-12 00:00:00"
    assert facts["without_history"] == {"validation": 0, "test": 0}
    with pytest.raises(DataError, match=r"validation begins at 2001-09-12 .* and test at 2001-09-10 .*; validation comes first"):
        collect(path, leave_out="time", validation_from="2001-09-12", test_from="2001-09-10")
    with pytest.raises(DataError, match=r"recommendation\.test_from='soon': its time 'soon' is neither a number nor an ISO date"):
        collect(path, leave_out="time", test_from="soon")
    with pytest.raises(DataError, match="the test split is empty: no user has events in it and before it"):
        collect(path, leave_out="time", validation_from="2001-09-12", test_from="2011-01-01")
    with pytest.raises(DataError, match=r"has no column of times \(user, item\), which recommendation\.leave_out='time' reads"):
        collect(write(tmp_path / "pairs.txt", [row[:2] for row in events()], header=(), between=" "), leave_out="time")


def test_users_who_come_after_the_cut_are_counted(tmp_path):
    rows = [*events(), *(("late", f"i{place}", 1_000_000_000 + 86_400 * (3 + place)) for place in range(3))]
    dataset = collect(write(tmp_path / "log.csv", rows), leave_out="time", validation_from="2001-09-12", test_from="2001-09-13")
    assert dataset.report["interactions"]["split"]["without_history"] == {"validation": 1, "test": 0}
    assert "late" not in dataset.splits["validation"].ids
    assert known(dataset, "test")["late"] == (["i0"], ["i1", "i2"])
    assert "validation: 1 user has no event before it and cannot be ranked for; they were left out" in dataset.report["warnings"]


def test_batches_have_histories_padded_at_the_right_and_all_that_is_known(tmp_path):
    rows = [(f"u{user}", f"i{place}", place) for user in range(4) for place in range(6 * (user + 1))]
    dataset = collect(write(tmp_path / "log.csv", rows), max_length=10)
    train, test = dataset.splits["train"], dataset.splits["test"]
    assert train.lengths.tolist() == [4, 10, 11, 11]
    assert dataset.report["splits"]["train"]["cut"] == 2
    seen = {}
    for step in range(int(steps_per_epoch(train, 2))):
        batch = batch_at(train, step, 2, 0)
        assert batch["items"].shape[1] in train.buckets
        for row, items, weight, label in zip(batch["id"], batch["items"], batch["weight"], batch["label"]):
            if weight:
                seen[int(row)] = items[items > 0].tolist()
                assert (items[len(seen[int(row)]) :] == 0).all()
                assert label == seen[int(row)][-1]
    ids = dataset.classes
    assert [[ids[item - 1] for item in seen[row]] for row in range(4)] == [[f"i{place}" for place in range(6 * user + 4)][-11:] for user in range(4)]
    for batch in eval_batches(test, 3):
        for row, items, known_items, weight in zip(batch["id"], batch["items"], batch["seen"], batch["weight"]):
            if weight:
                everything = [f"i{place}" for place in range(6 * row + 5)]
                assert [ids[item - 1] for item in items[items > 0]] == everything[-10:]
                assert [ids[item - 1] for item in known_items[known_items > 0]] == everything
        assert batch["items"].shape[1] == min(batch["seen"].shape[1], 16)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=5), st.integers(2, 9))
def test_every_event_of_a_long_history_is_a_target_of_one_window(lengths, newest):
    stop = np.cumsum(lengths)
    (user, start, end, _), number = windows((np.arange(len(lengths)), stop - lengths, stop, stop), newest)
    assert (end - start <= newest).all()
    assert (end - start >= 2).all()
    targets = sorted(event for first, last in zip(start, end) for event in range(first + 1, last))
    assert targets == [event for first, last in zip(stop - lengths, stop) for event in range(first + 1, last)]
    assert [end[row] for row in range(len(user)) if number[row] == 0] == stop.tolist()


def test_windows_have_names_of_their_own(tmp_path):
    path = write(tmp_path / "log.csv", [("u", f"i{place}", place) for place in range(12)])
    train = collect(path, max_length=4, long_histories="windows").splits["train"]
    assert train.ids == ("u", "u (1 back)", "u (2 back)")
    assert [train.show(row)["known"] for row in range(3)] == [5, 5, 2]


def test_negatives_are_items_that_the_user_never_has_the_same_every_time(tmp_path):
    path = write(tmp_path / "log.csv", [(f"u{user}", f"i{(user + place * place) % 60}", place) for user in range(30) for place in range(6)])
    for way in ("uniform", "popularity"):
        dataset = collect(path, sampled_negatives=20, sampled_by=way)
        for split in ("validation", "test"):
            rows = dataset.splits[split]
            drawn = rows.fields(np.arange(len(rows)))["negatives"]
            assert drawn.shape == (30, 20)
            for row in range(30):
                have = set(known(dataset, "test")[rows.ids[row]][0] + known(dataset, "test")[rows.ids[row]][1])
                items = [dataset.classes[item - 1] for item in drawn[row]]
                assert len(set(items)) == 20
                assert not have & set(items)
            np.testing.assert_array_equal(rows.fields(np.array([3]))["negatives"][0], drawn[3])
        trained = dataset.catalogue.counts[drawn - 1]
        assert (trained > 0).all() == (way == "popularity")
    everything = collect(path, sampled_negatives=100).splits["test"].fields(np.array([0]))["negatives"]
    assert (everything > 0).sum() == len(collect(path).classes) - 6
