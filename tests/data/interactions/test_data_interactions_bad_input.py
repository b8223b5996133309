"""What people's logs have, and what they are told of it: one test for each message."""

from __future__ import annotations

import gzip
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest
from logs import collect, events, known, write

from ftjax.config import TextConfig
from ftjax.data.interactions.lines import check_lines
from ftjax.errors import ConfigError, DataError


def warned(dataset, text):
    return [warning for warning in dataset.report["warnings"] if text in warning]


def test_users_with_one_event_are_left_out_by_name(tmp_path):
    dataset = collect(write(tmp_path / "log.csv", [*events(), ("once", "i1", 5), ("alone", "i2", 6)]))
    assert "once" not in dataset.splits["train"].ids
    assert warned(dataset, "2 events (6.2%) with 2 users were left out: users with one event")
    assert [entry["id"] for entry in dataset.removed] == ["user alone", "user once"]
    with pytest.raises(DataError, match="no event is left: 6 by users with one event"):
        collect(write(tmp_path / "sparse.csv", [(f"u{user}", "i", user) for user in range(6)]))


def test_users_with_two_events_only_train(tmp_path):
    dataset = collect(write(tmp_path / "log.csv", [*events(), ("two", "i1", 5), ("two", "i2", 6)]))
    assert known(dataset, "train")["two"] == (["i1", "i2"], [])
    assert "two" not in dataset.splits["test"].ids
    assert dataset.report["interactions"]["split"]["only_train"] == 1
    with pytest.raises(
        DataError, match=r"no user has three events: one to train on, one to validate and one to test; is recommendation\.user another column\?"
    ):
        collect(write(tmp_path / "short.csv", [(f"u{user}", f"i{place}", place) for user in range(6) for place in range(2)]))
    with pytest.raises(DataError, match="the train split is empty: no user has four events, two of them to train on"):
        collect(write(tmp_path / "three.csv", [(f"u{user}", f"i{place}", place) for user in range(6) for place in range(3)]))


def test_items_unseen_in_training_are_counted_and_can_still_be_ranked(tmp_path):
    dataset = collect(write(tmp_path / "log.csv", [*events(), ("u0", "new", 2_000_000_000)]))
    assert "new" in dataset.classes
    assert dataset.catalogue.counts[dataset.classes.index("new")] == 0
    assert warned(dataset, "1 test target of 6 (16.7%): the item has no training event, so a model that knows items by their ids alone cannot find it")


def test_one_item_leaves_nothing_to_rank(tmp_path):
    with pytest.raises(DataError, match="has one item only \\('i'\\): there is nothing to rank"):
        collect(write(tmp_path / "log.csv", [("u", "i", place) for place in range(5)], header=("user", "item", "time")))


def test_duplicate_events_are_kept_once_or_refused_by_name(tmp_path):
    rows = events()
    path = write(tmp_path / "log.csv", [*rows, rows[3], rows[4], rows[4]])
    dataset = collect(path)
    assert warned(dataset, "3 events (9.1%) were left out: recommendation.duplicates=drop")
    assert next(iter(dataset.removed))["why"] == "the same event as log.csv:5"
    told = r"3 events are there twice: log\.csv:32 \(user 'u0', item 'i3'\), .*; remove them, or say recommendation\.duplicates='drop'"
    with pytest.raises(DataError, match=told):
        collect(path, duplicates="error")
    assert not warned(collect(path, duplicates="keep"), "left out")


def test_ties_in_time_are_told(tmp_path):
    rows = [(user, item, time // 86_400 * 0 + 7 if user == "u1" else time) for user, item, time in events()]
    told = warned(collect(write(tmp_path / "log.csv", rows)), "at the same moment")
    assert told == [
        "2 validation and test events are at the same moment as the one before: which of them came last was drawn by a hash of the ids and the seed, "
        "as the log does not say"
    ]


def test_targets_that_the_user_had_before_are_told(tmp_path):
    rows = [*events(), ("u0", "i0", 2_000_000_000)]
    assert warned(collect(write(tmp_path / "log.csv", rows)), "1 test target: the user had the item before, and what a user knows is not recommended")


def test_negative_times_are_refused_or_skipped_by_name(tmp_path):
    path = write(tmp_path / "log.csv", [*events(), ("u0", "i1", -5)])
    with pytest.raises(DataError, match=r"1 event of 31 cannot be used:\n  log\.csv:32: its time -5 is negative: times are counted from 1970\nRepair them"):
        collect(path)
    dataset = collect(path, bad_files="skip")
    assert dataset.report["rejected"] == [{"file": "log.csv:32", "why": "its time -5 is negative: times are counted from 1970"}]
    assert warned(dataset, "1 event was unreadable and skipped; rejected.jsonl names them")


@pytest.mark.parametrize(
    ("time", "why"),
    [
        ("", "it has no time"),
        ("yesterday", "its time 'yesterday' is neither a number nor an ISO date such as 2024-01-31"),
        ("1e999", "its time is no finite number"),
    ],
)
def test_times_that_are_none(tmp_path, time, why):
    with pytest.raises(DataError, match=f"log.csv:32: {why}"):
        collect(write(tmp_path / "log.csv", [*events(), ("u0", "i1", time)]))


def test_numbers_and_dates_in_one_column_cannot_be_compared(tmp_path):
    path = write(tmp_path / "log.csv", [*events(), ("u0", "i1", "2024-01-31")])
    told = r"holds what cannot be compared: a number \(log\.csv:2: '1000000000'\) and a date \(log\.csv:32: '2024-01-31'\); write one kind"
    with pytest.raises(DataError, match=told):
        collect(path)
    mixed = [("u", f"i{place}", time) for place, time in enumerate(("2024-01-01", "2024-01-02T00:00+01:00", "2024-01-03"))]
    with pytest.raises(DataError, match=r"a?date \('2024-01-0[13]'\), date with a time zone \('2024-01-02T00:00\+01:00'\)"):
        collect(write(tmp_path / "zones.csv", mixed))
    with pytest.raises(DataError, match=r"its time 'x' is neither a number nor an ISO date such as 2024-01-31; is recommendation\.time another column\?"):
        collect(write(tmp_path / "words.csv", [("u", f"i{place}", "x") for place in range(4)]))
    with pytest.raises(DataError, match="the column of times is empty"):
        collect(write(tmp_path / "none.csv", [("u", f"i{place}", "") for place in range(4)]))


def test_dates_with_a_bad_one_among_them_name_it(tmp_path):
    rows = [("u", f"i{place}", f"2024-01-0{place + 1}") for place in range(6)]
    with pytest.raises(DataError, match=r"log\.csv:8: its time '2024-13-40' is neither"):
        collect(write(tmp_path / "log.csv", [*rows, ("u", "i9", "2024-13-40")]))


def test_a_user_id_that_looks_like_a_number_stays_a_text(tmp_path):
    rows = [(user, f"i{place}", place) for user in ("7", "007", "7.0", "1e3") for place in range(4)]
    dataset = collect(write(tmp_path / "log.csv", rows))
    assert set(dataset.splits["test"].ids) == {"7", "007", "7.0", "1e3"}


def test_missing_users_and_items_are_named(tmp_path):
    rows = [*events(), ("", "i1", 5), ("u0", " ", 6)]
    with pytest.raises(DataError, match=r"2 events of 32 cannot be used:\n  log\.csv:32: it has no user\n  log\.csv:33: it has no item"):
        collect(write(tmp_path / "log.csv", rows))


def test_many_bad_events_are_counted_and_the_first_ones_shown(tmp_path):
    rows = [*events(), *(("u", "i", -place - 1) for place in range(30))]
    with pytest.raises(DataError, match=r"30 events of 60 cannot be used:\n(?:  log.*\n){10}  \.\.\. \(30 in all\)\n"):
        collect(write(tmp_path / "log.csv", rows))


def test_a_line_of_a_gigabyte_is_refused_before_it_is_held(tmp_path):
    path = tmp_path / "log.csv"
    with path.open("wb") as file:
        file.write(b"user,item,time\n")
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"line 2 has more than 16,777,216 bytes; a log has a line for each event, or each user: is it another kind of file"):
        collect(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_long_line_in_a_packed_file_is_refused_too(tmp_path):
    path = tmp_path / "log.txt.gz"
    path.write_bytes(gzip.compress(b"u i j\nv " + b"i " * 9_000_000, 1))
    with pytest.raises(DataError, match="line 2 has more than 16,777,216 bytes"):
        collect(path)


def test_a_user_with_two_lines_of_items_is_refused(tmp_path):
    (tmp_path / "log.txt").write_text("u a b c\nv a b c d\nu d\n")
    with pytest.raises(DataError, match="line 3 is of user 'u', who has line 1 already; a line holds all items of a user, oldest first"):
        collect(tmp_path / "log.txt")
    (tmp_path / "log.txt").write_text("u a b c d\nv a b c d e\nw\n")
    with pytest.raises(DataError, match=r"log\.txt:3: user 'w' has no items"):
        collect(tmp_path / "log.txt", form="sequences")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"bad_files": "repair"}, "data.bad_files='repair' is for pictures; of an event nothing is left"),
        ({"max_length": 1}, "recommendation.max_length=1: allowed is 2 or more"),
        ({"test_fraction": 1.0}, "data.test_fraction=1.0: allowed is above 0 and below 1"),
        ({"sampled_negatives": 9, "leave_out": "time"}, "recommendation.sampled_negatives: a sampled metric is of one target"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, settings, told):
    with pytest.raises(ConfigError, match=told):
        collect(write(tmp_path / "log.csv", events()), **settings)


def test_an_encoding_can_be_told(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"user,item,time\n" + "".join(f"J\u00f6rg,caf\u00e9{place},{place}\n" for place in range(5)).encode("latin-1"))
    assert warned(collect(path), "is not UTF-8; it was read as latin-1")
    dataset = collect(path, text=TextConfig(encoding="latin-1"))
    assert dataset.splits["test"].ids == ("J\u00f6rg",)


@pytest.mark.parametrize("lengths", [(700_000,) * 4, (10, 1_500_000, 10), (2_200_000,)])
def test_a_line_is_as_long_as_it_is_wherever_the_pieces_end(tmp_path, lengths):
    path = tmp_path / "log.txt"
    path.write_text("\n".join("x" * length for length in lengths) + "\n")
    check_lines(path, max(lengths))
    with pytest.raises(DataError, match=f"line {lengths.index(max(lengths)) + 1} has more than"):
        check_lines(path, max(lengths) - 1)


def test_columns_of_lists_and_bytes_are_refused(tmp_path):
    path = tmp_path / "log.parquet"
    columns = {"user": ["u"] * 4, "item": [["i"]] * 4, "time": [1, 2, 3, 4]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match=r"the column 'item' of the item holds list<.*>; allowed are texts, numbers and dates"):
        collect(path)
    pyarrow.parquet.write_table(pyarrow.table({**columns, "item": pyarrow.array([b"\xff\xfe"] * 4)}), path)
    with pytest.raises(DataError, match="the column 'item' of the item cannot be read as text"):
        collect(path)


def test_a_quote_that_is_left_open_costs_its_line_and_no_other(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n" + "".join(f"u,i{place},{place}\n" for place in range(4)) + 'u,"i5,5\nu,"i,6",6\nu,i7\nu,i8,-8\n')
    with pytest.raises(DataError, match=r"log\.csv:6: its quotes are not balanced\n  log\.csv:8: 2 fields, not 3 .*\n  log\.csv:9: its time -8"):
        collect(path)
    assert known(collect(path, bad_files="skip"), "test") == {"u": (["i0", "i1", "i2", "i3"], ["i,6"])}
