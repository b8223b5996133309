"""Tables split by a column: whole groups, the newest rows, folds; every row that says nothing of its group or time is named."""

from __future__ import annotations

import datetime
import json

import pyarrow
import pyarrow.parquet
import pytest
from text_files import BAD, GOOD, collected, jsonl, write

from ftjax.data import batch_at
from ftjax.errors import ConfigError, DataError


def table(column: str, values: list, *, copies: int = 1) -> str:
    """Forty different short texts of two classes with one more column."""
    rows = [(f"{text} {number}", label) for number in (1, 2) for label, texts in (("pos", GOOD), ("neg", BAD)) for text in texts]
    return jsonl(*({"text": text, "label": label, column: value} for (text, label), value in zip(rows * copies, values, strict=True)))


def lines(dataset) -> dict[str, set[int]]:
    return {split: {int(name.split(":")[1]) for name in part.ids} for split, part in dataset.splits.items()}


def test_groups_of_a_column_stay_together(tmp_path):
    patients = [row * 7 % 10 for row in range(40)]
    dataset = collected(write(tmp_path / "a.jsonl", table("patient", patients)), split="group", group="patient")
    where = lines(dataset)
    assert sorted(row for rows in where.values() for row in rows) == list(range(1, 41))
    held = {split: {patients[row - 1] for row in rows} for split, rows in where.items()}
    assert sum(map(len, held.values())) == 10
    assert dataset.report["split"] == {"way": "group", "group": "patient", "groups": {split: len(found) for split, found in held.items()}, "torn": {}}
    json.dumps(dataset.report, allow_nan=False)


def test_a_missing_column_is_refused_with_the_nearest(tmp_path):
    path = write(tmp_path / "a.jsonl", table("patient", list(range(40))))
    with pytest.raises(DataError, match=r"a\.jsonl has no column 'pateint' \(data\.group\): did you mean 'patient'\? allowed: 'label', 'patient', 'text'$"):
        collected(path, split="group", group="pateint")
    with pytest.raises(DataError, match=r"a\.jsonl has no column 'when' \(data\.time\): allowed: "):
        collected(path, split="time", time="when")


def test_rows_without_a_group_are_named_and_left_out_on_request(tmp_path):
    path = write(tmp_path / "a.jsonl", table("patient", [None, " ", *(row % 10 for row in range(38))]))
    with pytest.raises(DataError, match=r"2 of 40 rows cannot be used:\n  a\.jsonl:1: its group is empty\n  a\.jsonl:2: its group is empty\n"):
        collected(path, split="group", group="patient")
    report = collected(path, split="group", group="patient", bad_files="skip").report
    assert report["rejected"] == [{"file": f"a.jsonl:{line}", "why": "its group is empty"} for line in (1, 2)]
    assert sum(report["splits"][split]["rows"] for split in report["splits"]) == 38


def test_the_newest_rows_are_the_test_split(tmp_path):
    days = [(datetime.date(2024, 1, 1) + datetime.timedelta(days=row * 11 % 40)).isoformat() for row in range(40)]
    dataset = collected(write(tmp_path / "a.jsonl", table("when", days)), split="time", time="when", test_fraction=0.25, validation_fraction=0.2)
    spans = {split: sorted(days[row - 1] for row in rows) for split, rows in lines(dataset).items()}
    assert (spans["train"][-1], spans["validation"][0], spans["validation"][-1], spans["test"][0]) == ("2024-01-24", "2024-01-25", "2024-01-30", "2024-01-31")
    assert dataset.report["split"]["from_to"]["test"] == ["2024-01-31", "2024-02-09"]
    assert dataset.report["splits"]["test"]["origin"] == "25.0% of the training rows, the newest"


def test_dates_of_mixed_formats_are_named_row_by_row(tmp_path):
    path = write(tmp_path / "a.jsonl", table("when", ["01.02.2024", None, *(f"2024-01-{row % 28 + 1:02d}" for row in range(38))]))
    with pytest.raises(DataError) as error:
        collected(path, split="time", time="when")
    assert "  a.jsonl:1: its time '01.02.2024' is neither a number nor an ISO date such as 2024-01-31\n  a.jsonl:2: it has no time\n" in str(error.value)
    path = write(tmp_path / "b.jsonl", table("when", ["2024", *(f"2024-01-{row % 28 + 1:02d}" for row in range(39))]))
    with pytest.raises(DataError, match=r"data\.time holds what cannot be compared: number \(b\.jsonl:1: '2024'\), date \(b\.jsonl:2: '2024-01-01'\)"):
        collected(path, split="time", time="when", bad_files="skip")


def test_dates_of_parquet_are_read(tmp_path):
    texts = [f"{text} {number}" for number in (1, 2) for text in (*GOOD, *BAD)]
    days = [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=row) for row in range(40)]
    columns = {"text": texts, "label": (["pos"] * 10 + ["neg"] * 10) * 2, "when": days}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert max(lines(collected(tmp_path / "a.parquet", split="time", time="when"))["test"]) == 40


def test_rows_that_are_appended_move_no_other(tmp_path):
    content = table("note", list(range(40)))
    before = lines(collected(write(tmp_path / "a.jsonl", content), split="hash", validation_fraction=0.3, test_fraction=0.3))
    more = jsonl(*({"text": f"the place where he lives {row}", "label": "pos", "note": 0} for row in range(25)))
    after = lines(collected(write(tmp_path / "a.jsonl", content + more), split="hash", validation_fraction=0.3, test_fraction=0.3))
    assert {split: {row for row in rows if row <= 40} for split, rows in after.items()} == before
    assert sum(map(len, after.values())) == 65


def test_questions_on_one_context_go_one_way_under_a_hash(tmp_path):
    contexts = [f"mr smith lives in paris {number}" for number in range(12)]
    questions = [
        {"id": f"{number}{word}", "question": f"{word} lives ?", "answers": [{"text": "paris", "answer_start": 18}]}
        for number in range(12)
        for word in ("who", "where")
    ]
    paragraphs = [{"context": context, "qas": questions[2 * number : 2 * number + 2]} for number, context in enumerate(contexts)]
    path = write(tmp_path / "a.json", json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    dataset = collected(path, "question_answering", source="squad", split="hash", max_length=24, stride=4, test_fraction=0.3, validation_fraction=0.3)
    held = [{name.split("#")[0].removesuffix("where").removesuffix("who") for name in part.ids} for part in dataset.splits.values()]
    assert all(held)
    assert sum(map(len, map(set, held))) == len(contexts)
    with pytest.raises(ConfigError) as error:
        collected(path, "question_answering", source="squad", split="time", time="when")
    assert str(error.value) == "data.split='time': questions on one context stay together, which it cannot promise; allowed: 'stratified', 'group'"


def test_samples_and_draws_of_texts(tmp_path):
    path = write(tmp_path / "a.jsonl", table("note", list(range(40))))
    small, large = (collected(path, fraction=share, class_floor=2) for share in (0.1, 0.5))
    assert set(small.splits["train"].ids) < set(large.splits["train"].ids)
    assert small.splits["test"].ids == large.splits["test"].ids
    assert small.report["splits"]["train"]["per_class"] == {"neg": 2, "pos": 2}
    uneven = write(tmp_path / "b.jsonl", "".join(line for line in table("note", list(range(40))).splitlines(True)[:26]))
    drawn = collected(uneven, sampling="balanced")
    assert drawn.report["sampling"]["shares"]["effective"] == pytest.approx({"neg": 0.5, "pos": 0.5})
    assert drawn.splits["train"].sampling is not None
    for key, value in (("sampling", "'sqrt'"), ("max_per_class", "3")):
        with pytest.raises(ConfigError, match=rf"^data\.{key}={value}: only classification has one class for each row, regression has not; leave it open$"):
            collected(path, "regression", **{key: value.strip("'") if key == "sampling" else int(value)})


def test_the_full_batch_of_texts_holds_every_row_once(tmp_path):
    path = write(tmp_path / "a.jsonl", table("note", list(range(40))))
    train = collected(path).splits["train"]
    for step in range(2):
        batch = batch_at(train, step, len(train), 0)
        assert sorted(batch["id"]) == list(range(len(train)))
        assert (batch["weight"] == 1).all()
