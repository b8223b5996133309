"""Training by difficulty: what a cartography file may hold, which rows there are at a step, and that batches stay pure functions of the step."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import Config, DataConfig, TaskConfig
from ftjax.config_usage import check_used
from ftjax.data import batch_at, batches_of_every_shape, paced, train_batches
from ftjax.data.curriculum import _smallest, available, check_curriculum, draw, read_difficulty, stratified
from ftjax.data.dataset import Curriculum, Dataset, Rows, Split
from ftjax.data.sample import sample
from ftjax.errors import ConfigError, DataError

COUNTS = (30, 10)


def split_of(lengths: np.ndarray | None = None, buckets: tuple[int, ...] = ()) -> Split:
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS).astype(np.int32)
    ids = tuple(f"c{label}/{row}" for row, label in enumerate(labels))

    def fields(rows: np.ndarray) -> dict[str, np.ndarray]:
        if lengths is None:
            return {"image": rows.astype(np.uint8).reshape(-1, 1, 1, 1)}
        length = next(bucket for bucket in buckets if bucket >= lengths[rows].max())
        return {"tokens": np.ones((len(rows), length), np.int32)}

    return Split(ids, labels, fields, lengths=lengths, buckets=buckets)


def write(folder: Path, split: Split, **changes: Any) -> str:
    """A cartography in which row i of n has the confidence i / n and the variability of a parabola."""
    lines = []
    for row, name in enumerate(split.ids):
        share = row / len(split)
        lines.append({"id": name, "confidence": share, "variability": share * (1 - share), "seen": 3} | changes.get(name, {}))
    path = folder / "cartography.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def dataset_of(split: Split) -> Dataset:
    return Dataset({"train": split, "validation": split, "test": split}, ("c0", "c1"), {"sampling": {"rows_after": 40}})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 2**40), st.data())
def test_every_beginning_of_the_order_holds_about_the_same_share_of_each_class_the_easiest_first(counts: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    values = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.5, 0.9]), min_size=len(labels), max_size=len(labels))))
    ids = [f"row {row}" for row in range(len(labels))]
    order = stratified(values, labels, ids, seed)
    assert sorted(order) == list(range(len(labels)))
    for label, count in enumerate(counts):
        own = order[labels[order] == label]
        assert (np.diff(values[own]) >= 0).all()
        for kept in range(1, len(order) + 1):
            assert abs(np.sum(labels[order[:kept]] == label) - kept * count / len(order)) <= len(counts)


def test_the_first_fifth_is_there_at_first_and_everything_in_the_end() -> None:
    curriculum = Curriculum(np.arange(40), 10, 0.2)
    assert [available(curriculum, step) for step in (0, 1, 5, 9, 10, 1000)] == [8, 12, 24, 37, 40, 40]
    assert available(Curriculum(np.arange(1), 10, 0.2), 0) == 1


@pytest.mark.parametrize("way", ["easy_first", "hard_first"])
def test_paced_batches_hold_available_rows_alone_and_do_not_depend_on_who_asks(tmp_path: Path, way: str) -> None:
    split = split_of()
    config = DataConfig(difficulty=write(tmp_path, split), curriculum=way)  # type: ignore[arg-type]
    found = paced(dataset_of(split), config, 3, 12)
    train = found.splits["train"]
    assert train.curriculum is not None
    seen = set()
    for step in range(12):
        rows = batch_at(train, step, 8, 3)["id"]
        there = train.curriculum.order[: available(train.curriculum, step)]
        assert set(rows) <= set(there)
        assert len(set(rows)) == 8  # eight of at least eight: none twice
        seen |= set(rows)
    first = train.curriculum.order[:8]
    easiest = [range(24, 30), range(38, 40)] if way == "easy_first" else [range(6), range(30, 32)]
    assert set(first) == {row for part in easiest for row in part}
    assert len(seen) > 20
    after = np.concatenate([batch_at(train, step, 8, 3)["id"] for step in range(15, 20)])
    assert sorted(after) == list(range(40)), "from the end of the pacing on every row is there once an epoch"
    ahead = [batch["id"].tolist() for batch in train_batches(train, 8, 3, 5, 16, workers=2)]
    assert ahead == [batch_at(train, step, 8, 3)["id"].tolist() for step in range(5, 16)]
    assert not np.array_equal(batch_at(train, 4, 8, 3)["id"], batch_at(train, 4, 8, 4)["id"])
    about = found.report["sampling"]["curriculum"]
    assert (about["way"], about["share_at_start"], about["all_from_step"], about["not_in_train"]) == (way, 0.2, 12, 0)
    assert paced(found, config, 3, 12).splits["train"].curriculum.order.tolist() == train.curriculum.order.tolist()  # type: ignore[union-attr]


def test_a_batch_larger_than_what_is_there_holds_each_row_about_equally_often() -> None:
    rows = draw(Curriculum(np.arange(100, 120), 10, 0.2), 0, 10, 0)
    assert set(rows) == {100, 101, 102, 103}
    assert set(np.unique(rows, return_counts=True)[1]) <= {2, 3}


@given(st.lists(st.integers(0, 5) | st.integers(2**64 - 3, 2**64 - 1), min_size=1, max_size=40), st.data())
def test_the_smallest_words_are_those_of_a_stable_sort_of_all(words: list[int], data: st.DataObject) -> None:
    array, count = np.array(words, np.uint64), data.draw(st.integers(1, len(words)))
    assert _smallest(array, count).tolist() == np.argsort(array, kind="stable")[:count].tolist()


def test_a_step_draws_the_rows_of_a_stable_sort_in_its_order_and_never_sorts_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    curriculum = Curriculum(np.random.default_rng(0).permutation(300), 50, 0.2)
    plain, sizes = np.argsort, []
    monkeypatch.setattr(np, "argsort", lambda values, **options: (sizes.append(len(values)), plain(values, **options))[1])
    for step in (0, 7, 49):
        count = available(curriculum, step)
        for batch in (1, 8, count, count + 5):
            words = np.random.Philox(key=np.array([3, step | 1 << 62], np.uint64)).random_raw(count)
            assert draw(curriculum, step, batch, 3).tolist() == curriculum.order[np.resize(plain(words, kind="stable"), batch)].tolist()
            assert sizes.pop() == min(batch, count)


def test_paced_texts_meet_only_the_shapes_that_are_compiled(tmp_path: Path) -> None:
    lengths = (np.arange(40) * 7 % 24 + 1).astype(np.int32)
    split = split_of(lengths, (8, 16, 24))
    train = paced(dataset_of(split), DataConfig(difficulty=write(tmp_path, split), curriculum="easy_first"), 0, 20).splits["train"]
    shapes = {batch["tokens"].shape for batch in batches_of_every_shape(train, 0, 4, 0)}
    assert {batch_at(train, step, 4, 0)["tokens"].shape for step in range(40)} <= shapes


def test_the_most_ambiguous_share_of_each_class_is_kept(tmp_path: Path) -> None:
    split = split_of()
    rows = Rows("here", split.ids, split.labels, ("train",) * 40, ("c0", "c1"), lambda row: b"")
    file = write(tmp_path, split)
    members, report = sample(rows, {"train": np.arange(40)}, DataConfig(fraction=1 / 6, curriculum="ambiguous", difficulty=file), 0)
    # The parabola is highest in the middle, at row 20; of the second class the first rows are nearest to it.
    assert members["train"].tolist() == [18, 19, 20, 21, 22, 30, 31]
    assert report["curriculum"]["by"] == "variability"
    smaller, _ = sample(rows, {"train": np.arange(40)}, DataConfig(fraction=0.1, curriculum="ambiguous", difficulty=file), 0)
    assert set(smaller["train"]) < set(members["train"])


def test_rows_that_the_file_does_not_know_or_has_never_seen_are_named(tmp_path: Path) -> None:
    split = split_of()
    file = write(tmp_path, split, **{"c0/3": {"confidence": None, "variability": None, "seen": 0}})
    with pytest.raises(DataError, match=r"does not know 2 training rows \('new', 'newer'\); .* seed, data\.split and data\.folds decide which"):
        read_difficulty(file, ["new", "c0/1", "newer"])
    with pytest.raises(DataError, match=re.escape("1 training row ('c0/3') was never trained on in the run that wrote it")):
        read_difficulty(file, ["c0/1", "c0/3"])
    found = read_difficulty(file, ["c0/4", "c0/1"])
    assert found.confidence.tolist() == [0.1, 0.025]
    assert found.facts["not_in_train"] == 38


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r'line 1 is not \{"id": \.\.\., "confidence": \.\.\., "variability": \.\.\.\}'),
        ('{"id": 3, "confidence": 0.1, "variability": 0.1}', "line 1: the id is 3; allowed is a text"),
        ('{"id": "a", "confidence": 2, "variability": 0.1}', "line 1: confidence and variability of 'a' are 2 and 0.1; allowed are numbers from 0 to 1"),
        ('{"id": "a", "confidence": NaN, "variability": 0.1}', "are nan and 0.1; allowed"),
        ('{"id": "a", "confidence": 0.5, "variability": 0.1}\n' * 2, "line 2: 'a' is there twice"),
    ],
)
def test_a_file_that_is_no_cartography_is_refused_by_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "map.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=message):
        read_difficulty(str(path), ["a"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"curriculum": "easy_first"}, "data.curriculum='easy_first' needs data.difficulty"),
        ({"curriculum": "ambiguous", "difficulty": "x"}, "data.curriculum='ambiguous' keeps the share data.fraction of each class; say which"),
        ({"curriculum": "hard_first", "difficulty": "x", "sampling": "sqrt"}, "data.curriculum='hard_first' and data.sampling='sqrt' both say how often"),
        ({"curriculum": "hard_first", "difficulty": "x", "mixture": (("y", 1.0),)}, "data.curriculum='hard_first' and data.mixture both say how often"),
    ],
)
def test_a_curriculum_that_says_too_little_or_too_much_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_curriculum(DataConfig(**settings))


def test_rows_that_are_drawn_by_class_are_not_paced_too(tmp_path: Path) -> None:
    split = dataclasses.replace(split_of(), sampling=np.ones(40))
    with pytest.raises(ConfigError, match="rows are drawn by class or data set already"):
        paced(dataset_of(split), DataConfig(difficulty=write(tmp_path, split), curriculum="easy_first"), 0, 5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(data=DataConfig(difficulty="x")), "data.difficulty='x' is set and nothing reads it: data.curriculum is 'off'"),
        (Config(data=DataConfig(curriculum_until="3 epochs")), "data.curriculum_until='3 epochs' is set and nothing reads it"),
        (Config(data=DataConfig(curriculum="easy_first", difficulty="x"), task=TaskConfig(name="regression")), "task.name is 'regression'"),
    ],
)
def test_keys_that_nothing_reads_are_refused(config: Config, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_used(config)
