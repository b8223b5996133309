"""What is left out is left out by a rule, counted in data.json and named in rejected.jsonl; cores are the largest part in which everybody has enough."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import collect, events, known, write

from ftjax.errors import DataError


@settings(deadline=None, max_examples=40)
@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=50), st.integers(1, 4), st.integers(1, 4))
def test_in_a_core_everybody_has_enough_and_no_larger_part_has(pairs, user_core, item_core):
    left = set(pairs)
    while True:
        users = {user for user, _ in left if sum(user == other for other, _ in left) < max(user_core, 2)}
        items = {item for _, item in left if sum(item == other for _, other in left) < item_core}
        smaller = {(user, item) for user, item in left if user not in users and item not in items}
        if smaller == left:
            break
        left = smaller
    rows = [(f"u{user}", f"i{item}", place) for place, (user, item) in enumerate(sorted(pairs))]
    with tempfile.TemporaryDirectory() as folder:
        try:
            # Users with one event go in any case; counted as part of the core here.
            dataset = collect(write(Path(folder) / "log.csv", rows), user_core=max(user_core, 2), item_core=item_core)
        except DataError:
            return
    found = {(f"u{user}", f"i{item}") for user, item in left}
    assert {user for user, _ in found} >= set(dataset.splits["test"].ids)
    assert dataset.report["interactions"]["events"] == len(found)
    assert set(dataset.classes) == {item for _, item in found}


def test_cores_tell_their_rounds_and_name_who_went(tmp_path):
    rows = [*events(), ("rare", "i0", 5), ("rare", "odd", 6), ("rare", "odder", 7)]
    dataset = collect(write(tmp_path / "log.csv", rows), user_core=3, item_core=2)
    facts = dataset.report["interactions"]
    assert facts["core_rounds"] == [{"round": 1, "users": 0, "items": 2, "events": 2}, {"round": 2, "users": 1, "items": 0, "events": 1}]
    assert list(dataset.removed) == [
        {"id": "item odd", "row": None, "why": "1 event, in round 1", "policy": "recommendation.item_core=2"},
        {"id": "item odder", "row": None, "why": "1 event, in round 1", "policy": "recommendation.item_core=2"},
        {"id": "user rare", "row": None, "why": "1 event, in round 2", "policy": "recommendation.user_core=3"},
    ]
    assert facts["removed"][0] == {"policy": "recommendation.item_core=2", "events": 2, "items": 2}


def test_low_ratings_go_by_name(tmp_path):
    path = write(tmp_path / "log.csv", [(*row, 5 if place % 5 else 2) for place, row in enumerate(events())], header=("user", "item", "time", "rating"))
    dataset = collect(path, min_rating=3)
    assert next(iter(dataset.removed)) == {"id": "log.csv:2", "row": 2, "why": "its rating is 2", "policy": "recommendation.min_rating=3"}
    assert dataset.report["interactions"]["removed"] == [{"policy": "recommendation.min_rating=3", "events": 6}]
    assert "6 events (20.0%) were left out: recommendation.min_rating=3" in dataset.report["warnings"]
    with pytest.raises(DataError, match=r"no event is left: 30 by recommendation\.min_rating=9"):
        collect(path, min_rating=9)
    with pytest.raises(DataError, match=r"has no column of ratings \(user, item, time\), which recommendation\.min_rating reads: say recommendation\.rating"):
        collect(write(tmp_path / "bare.csv", events()), min_rating=3)


def test_a_sample_of_users_is_part_of_a_larger_one(tmp_path):
    path = write(tmp_path / "log.csv", events(users=40))
    few, many = (set(collect(path, max_users=count).splits["test"].ids) for count in (5, 20))
    assert (len(few), len(many)) == (5, 20)
    assert few < many
    assert few != set(collect(path, max_users=5, seed=1).splits["test"].ids)


@pytest.mark.parametrize(("policy", "events_left"), [("drop", 6), ("keep", 7), ("first", 5)])
def test_repeated_events_by_policy(tmp_path, policy, events_left):
    rows = [("u", item, time) for time, item in ((1, "a"), (2, "b"), (2, "b"), (3, "c"), (4, "d"), (5, "a"), (6, "e"))]
    dataset = collect(write(tmp_path / "log.csv", rows), duplicates=policy)
    facts = dataset.report["interactions"]
    assert facts["events"] == events_left
    assert facts["duplicates"] == {"policy": policy, "events": 1, "repeated": 1}
    gone = [(entry["row"], entry["why"]) for entry in dataset.removed]
    copies = {"drop": [(4, "the same event as log.csv:3")], "keep": []}
    assert gone == copies.get(policy, [(4, "the same user and item as log.csv:3"), (7, "the same user and item as log.csv:2")])
    before, after = known(dataset, "test")["u"]
    assert after == ["e"]
    assert before[-1] == ("d" if policy == "first" else "a")


def test_counts_of_the_report_by_hand(tmp_path):
    rows = [(f"u{user}", item, place) for user, items in enumerate(("abcd", "abce", "abf", "gh")) for place, item in enumerate(items)]
    report = collect(write(tmp_path / "log.csv", rows), cold_below=2).report
    facts = report["interactions"]
    assert (facts["users"], facts["items"], facts["events"]) == (4, 8, 13)
    assert facts["sparsity"] == pytest.approx(1 - 13 / 32)
    assert facts["events_per_user"]["mean"] == 13 / 4
    assert facts["popularity"]["top_tenth"] == pytest.approx(3 / 13)
    assert facts["split"] == {"way": "last", "only_train": 1, "never_train": 1}
    counts = {"a": 3, "b": 2, "g": 1, "h": 1}
    dataset = collect(write(tmp_path / "log.csv", rows))
    assert dataset.catalogue.counts.tolist() == [counts.get(item, 0) for item in dataset.classes]
    assert report["splits"]["test"]["unseen"] == 3
    validation = report["splits"]["validation"]
    assert {name: validation[name] for name in ("rows", "cut", "unseen", "cold", "repeats")} == {"rows": 3, "cut": 0, "unseen": 2, "cold": 2, "repeats": 0}
    assert validation["cold_share"] == pytest.approx(2 / 3)
    assert "3 test targets of 3 (100.0%): the item has no training event, so a model that knows items by their ids alone cannot find it" in report["warnings"]


def test_a_hundred_thousand_events_take_seconds(tmp_path):
    """Nothing loops over events in Python: 2 seconds are far above what it takes and far below what a loop would."""
    import time

    generator = np.random.default_rng(0)
    rows = np.stack([generator.integers(0, 5_000, 200_000), generator.integers(0, 8_000, 200_000), generator.integers(0, 10**9, 200_000)], axis=1)
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n" + "\n".join(map(",".join, rows.astype(str).tolist())))
    began = time.process_time()
    dataset = collect(path)
    assert time.process_time() - began < 10
    assert dataset.report["interactions"]["events"] > 199_000
