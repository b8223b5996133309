"""Every public form of a log says the same, ids are texts from end to end, and what was guessed is told."""

from __future__ import annotations

import datetime
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from logs import collect, events, known, write

from ftjax.config import TextConfig
from ftjax.errors import ConfigError, DataError

ROWS = events()
EXPECTED = {f"u{user}": [f"i{(3 * user + place) % 7}" for place in range(5)] for user in range(6)}


def in_form(folder, form):
    rated = [(user, item, 4.0, time) for user, item, time in ROWS]
    dated = [(user, item, datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")) for user, item, time in ROWS]
    table = {"user_id": [row[0] for row in ROWS], "item_id": [row[1] for row in ROWS], "timestamp": [row[2] for row in ROWS]}
    if form == "ratings.csv":
        return write(folder / form, rated, header=("userId", "movieId", "rating", "timestamp"))
    if form == "u.data":
        return write(folder / form, rated, header=(), between="\t")
    if form == "ratings.dat":
        return write(folder / form, rated, header=(), between="::")
    if form == "log.inter":
        return write(folder / form, ROWS, header=("user_id:token", "item_id:token", "timestamp:float"), between="\t")
    if form == "pairs.txt":
        return write(folder / form, [row[:2] for row in sorted(ROWS, key=lambda row: row[2])], header=(), between=" ")
    if form == "sequences.txt":
        return write(folder / form, [(user, *items) for user, items in EXPECTED.items()], header=(), between=" ")
    if form == "dates.csv":
        return write(folder / form, dated, header=("visitor_id", "asin", "date"))
    if form == "milliseconds.csv.gz":
        (folder / form).write_bytes(gzip.compress(write(folder / "plain", [(user, item, time * 1000) for user, item, time in ROWS]).read_bytes()))
    elif form == "log.jsonl":
        (folder / form).write_text("".join(json.dumps({"user": user, "item": item, "time": time}) + "\n" for user, item, time in ROWS))
    elif form == "log.parquet":
        pyarrow.parquet.write_table(pyarrow.table(table), folder / form)
    elif form == "typed.parquet":
        table["timestamp"] = pyarrow.array([datetime.datetime.fromtimestamp(row[2], datetime.UTC) for row in ROWS], pyarrow.timestamp("ms", tz="UTC"))
        pyarrow.parquet.write_table(pyarrow.table(table), folder / form)
    return folder / form


FORMS = (
    *("ratings.csv", "u.data", "ratings.dat", "log.inter", "pairs.txt", "sequences.txt"),
    *("dates.csv", "milliseconds.csv.gz", "log.jsonl", "log.parquet", "typed.parquet"),
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_histories(tmp_path, form):
    dataset = collect(in_form(tmp_path, form))
    assert {user: before + after for user, (before, after) in known(dataset, "test").items()} == EXPECTED
    assert {user: after for user, (_, after) in known(dataset, "validation").items()} == {user: items[3:4] for user, items in EXPECTED.items()}
    assert {user: before for user, (before, _) in known(dataset, "train").items()} == {user: items[:3] for user, items in EXPECTED.items()}
    assert dataset.classes == tuple(f"i{number}" for number in range(7))
    told = dataset.report["columns"]
    assert all(entry["why"] for entry in told.values())
    assert ("time" in told) == (form not in ("pairs.txt", "sequences.txt"))


@pytest.mark.parametrize(
    ("form", "unit"), [("ratings.csv", "seconds"), ("milliseconds.csv.gz", "milliseconds"), ("dates.csv", "microseconds"), ("typed.parquet", "microseconds")]
)
def test_times_are_shown_as_dates(tmp_path, form, unit):
    facts = collect(in_form(tmp_path, form)).report["interactions"]
    assert facts["time_unit"] == unit
    assert facts["from"] == "2001-09-09 01:46:40"


def test_the_guess_is_shown_and_can_be_overruled(tmp_path):
    path = write(tmp_path / "log.csv", [(item, user, time) for user, item, time in ROWS], header=("a", "b", "ts"))
    with pytest.raises(DataError, match=r"which column is the user cannot be seen \('a', 'b', 'ts'\): say recommendation\.user"):
        collect(path)
    dataset = collect(path, user="b", item="a")
    assert dataset.report["columns"]["user"] == {"column": "b", "origin": "given", "why": "by recommendation.user"}
    assert dataset.report["columns"]["time"] == {"column": "ts", "origin": "guessed", "why": "from its name"}
    with pytest.raises(DataError, match=r"has no column 'A' \(recommendation\.item\): did you mean|has no column 'A'"):
        collect(path, user="b", item="A")
    with pytest.raises(DataError, match="the column 'a' would be used twice"):
        collect(path, user="a", item="a")


def test_ids_stay_what_they_are(tmp_path):
    rows = [(user, item, place) for user in ("7", "007", "u") for place, item in enumerate(("01", "1", "x", "10"))]
    dataset = collect(write(tmp_path / "log.csv", rows))
    assert dataset.splits["test"].ids == ("7", "007", "u")
    assert dataset.classes == ("1", "01", "10", "x")
    assert known(dataset, "test")["007"] == (["01", "1", "x"], ["10"])


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_numbers_and_texts_of_typed_files_are_the_texts_that_they_look_like(tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    rows = [{"user": user, "item": item, "time": 10 + item} for user in (1, 2) for item in (7, 8, 9, 10)]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *({**row, "user": "007"} for row in rows[:4])]))
    else:
        floats = {name: pyarrow.array([float(row[name]) for row in rows]) for name in ("user", "item", "time")}
        pyarrow.parquet.write_table(pyarrow.table(floats), path)
    dataset = collect(path)
    assert dataset.classes == ("7", "8", "9", "10")
    assert dataset.splits["test"].ids == (("1", "2", "007") if kind == "jsonl" else ("1", "2"))


def test_several_files_are_one_log_whose_events_know_their_file(tmp_path):
    write(tmp_path / "part-0.csv", ROWS[:15])
    write(tmp_path / "part-1.csv", [*ROWS[15:], ("", "i1", 5)])
    with pytest.raises(DataError, match=r"1 event of 31 cannot be used:\n  part-1\.csv:17: it has no user\nRepair"):
        collect(tmp_path / "part-*.csv")
    dataset = collect(tmp_path / "part-*.csv", bad_files="skip")
    assert {user: before + after for user, (before, after) in known(dataset, "test").items()} == EXPECTED
    assert dataset.report["rejected"] == [{"file": "part-1.csv:17", "why": "it has no user"}]
    write(tmp_path / "part-2.csv", [("u", "i")], header=("user", "item"))
    with pytest.raises(DataError, match="files of one log have the same columns"):
        collect(tmp_path / "part-*.csv")


def test_quotes_blank_lines_and_lines_of_another_width(tmp_path):
    text = 'user,item,time\nu,"a,b",1\n\nu,c,2\nu,d\nu,e,4\n,,\nu,f,"5"\n'
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(DataError, match=r"log\.csv:5: 2 fields, not 3 \(user, item, time\)\n  log\.csv:7: it has no user"):
        collect(tmp_path / "log.csv")
    dataset = collect(tmp_path / "log.csv", bad_files="skip")
    assert known(dataset, "test") == {"u": (["a,b", "c", "e"], ["f"])}


def test_semicolons_with_everything_in_quotes(tmp_path):
    rows = [f'"u{user}";"0{place}-X";"{place}"' for user in range(3) for place in range(5)]
    (tmp_path / "log.csv").write_text('"User-ID";"ISBN";"Book-Rating"\n' + "\n".join(rows) + "\n")
    dataset = collect(tmp_path / "log.csv")
    assert dataset.classes == tuple(f"0{place}-X" for place in range(5))
    assert dataset.report["columns"]["item"]["column"] == "ISBN"
    assert "the log has no times: its lines were taken to be in the order of time" in dataset.report["warnings"]


def test_texts_of_items_come_from_their_table(tmp_path):
    path = in_form(tmp_path, "ratings.csv")
    (tmp_path / "movies.csv").write_text('movieId,title,genres\ni0,"One, the first",Drama\ni1,Two,Crime|Drama\ni9,Nine,None\n')
    dataset = collect(path, items_path=str(tmp_path / "movies.csv"))
    assert dataset.catalogue.texts[:3] == ("One, the first", "Two", "")
    assert dataset.catalogue.name(2) == "Two"
    assert dataset.catalogue.name(3) == "i2"
    assert any("has no text for 5 items of 7, such as 'i2'" in warning for warning in dataset.report["warnings"])
    assert collect(path, items_path=str(tmp_path / "movies.csv"), item_text="title, genres").catalogue.texts[1] == "Two, Crime|Drama"
    with pytest.raises(DataError, match=r"has no column 'titel' \(recommendation\.item_text\): did you mean 'title'"):
        collect(path, items_path=str(tmp_path / "movies.csv"), item_text="titel")
    (tmp_path / "other.csv").write_text("movieId,title\n55,Other\n")
    with pytest.raises(DataError, match=r"knows none of the 7 items .* is it another table\?"):
        collect(path, items_path=str(tmp_path / "other.csv"))


def test_texts_of_items_may_stand_in_the_log(tmp_path):
    path = write(tmp_path / "log.csv", [(*row, row[1].upper()) for row in ROWS], header=("user", "item", "time", "title"))
    assert collect(path).catalogue.texts is None
    assert collect(path, item_text="title").catalogue.texts[2] == "I2"


def test_what_is_no_log_is_said_to_be_none(tmp_path):
    (tmp_path / "prose.txt").write_text("It was a dark night.\nNobody came.\n\nThen\n")
    with pytest.raises(DataError, match="neither a table of events with columns, nor `user item`"):
        collect(tmp_path / "prose.txt")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match=r"empty\.csv is empty"):
        collect(tmp_path / "empty.csv")
    (tmp_path / "head.csv").write_text("user,item,time\n")
    with pytest.raises(DataError, match="holds no events"):
        collect(tmp_path / "head.csv")
    with pytest.raises(DataError, match=r"is a folder; name the log in it\. It holds .*prose\.txt"):
        collect(tmp_path)
    with pytest.raises(ConfigError, match=r"text\.delimiter='\\n': allowed is any text without line breaks"):
        collect(tmp_path / "prose.txt", text=TextConfig(delimiter="\n"))
    (tmp_path / "three.txt").write_text("u i 1\nu j 2\n")
    with pytest.raises(DataError, match=r"say recommendation\.form, and text\.delimiter='space' for a table"):
        collect(tmp_path / "three.txt")
