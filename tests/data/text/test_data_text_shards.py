"""Tables in several files, compressed, in Arrow, or in a folder that a library saved: the same rows as from one plain file, and nothing missing."""

from __future__ import annotations

import gzip
import json

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from text_files import collected, jsonl, reviews, write

from ftjax.config import DataConfig, TextConfig
from ftjax.data.text import columnar, encodings
from ftjax.data.text.sources import find_files, read_tables
from ftjax.data.text.table import read_table
from ftjax.errors import ConfigError, DataError


def tables(path, text=None, **options):
    return read_tables(DataConfig(source="table", path=str(path), **options), text or TextConfig())


def refused(path, text=None, **options) -> str:
    with pytest.raises(DataError) as error:
        tables(path, text, **options)
    return str(error.value).replace(str(path), "PATH").replace(str(path.parent), "ROOT")


def rows(start, stop):
    return [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(start, stop)]


def zstandard(content: str) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as file:
        file.write(content.encode())
    return sink.getvalue().to_pybytes()


def test_shards_are_one_table_whose_rows_name_file_and_line(tmp_path):
    for number in (0, 2, 10, 1, *range(3, 10)):
        write(tmp_path / f"part-{number}.jsonl", jsonl(*rows(2 * number, 2 * number + 2)))
    for pattern in ("part-*.jsonl", "part-{0..10}.jsonl"):
        found = tables(tmp_path / pattern)["train"]
        assert [row[0] for row in found.rows] == [f"text {number}" for number in range(22)]
        assert list(found.lines)[1:4] == ["part-0.jsonl:2", "part-1.jsonl:1", "part-1.jsonl:2"]
    assert found.facts == {"format": "jsonl", "encoding": "utf-8"}


def test_ids_and_rejected_rows_name_the_shard(tmp_path):
    lines = reviews().splitlines()
    write(tmp_path / "a/x.csv", "\n".join([*lines[:11], ",pos", "one,two,three"]) + "\n")
    write(tmp_path / "b/x.csv", "\n".join([lines[0], *lines[11:]]) + "\n")
    dataset = collected(tmp_path / "{a,b}/x.csv", bad_files="skip")
    ids = [name for split in dataset.splits.values() for name in split.ids]
    assert len(ids) == 20
    assert {"a/x.csv:2", "b/x.csv:2"} <= set(ids)
    assert [entry["file"] for entry in dataset.report["rejected"]] == ["a/x.csv:13", "a/x.csv:12"]


def test_a_missing_shard_and_another_header_are_refused(tmp_path):
    write(tmp_path / "p-0.csv", "text,label\nx,1\n")
    write(tmp_path / "p-1.csv", "text,lable\nx,1\n")
    write(tmp_path / "p-3.csv", "y,1\nz,0\n")
    assert "1 of 3 shards are not there: p-2.csv" in refused(tmp_path / "p-{0..2}.csv")
    assert "the shard p-2.csv is missing" in refused(tmp_path / "p-*.csv")
    assert refused(tmp_path / "p-{0,1}.csv") == (
        "ROOT/p-0.csv and ROOT/p-1.csv have different columns: only ROOT/p-0.csv has 'label', only ROOT/p-1.csv has 'lable'"
        "; is there a header in the first one only? Say text.header"
    )
    assert refused(tmp_path / "p-{0,3}.csv").startswith("ROOT/p-0.csv and ROOT/p-3.csv have different columns: only ROOT/p-0.csv has 'text', 'label', only ")


def test_columns_may_come_in_another_order(tmp_path):
    write(tmp_path / "a.jsonl", jsonl({"text": "x", "label": "1"}))
    write(tmp_path / "b.jsonl", jsonl({"label": "2", "text": "y"}))
    assert [tuple(row) for row in tables(tmp_path / "*.jsonl")["train"].rows] == [("x", "1"), ("y", "2")]


def test_what_the_first_shard_shows_holds_for_all(tmp_path):
    write(tmp_path / "a.csv", "film;label\nx, y;1\nz;0\n")
    write(tmp_path / "b.csv", "film;label\nx,1;1\nz,2;0\n")
    found = tables(tmp_path / "*.csv")["train"]
    assert (found.columns, found.facts["delimiter"], [row[0] for row in found.rows]) == (("film", "label"), ";", ["x, y", "z", "x,1", "z,2"])


def test_shards_of_each_split_in_a_folder(tmp_path):
    for number in range(2):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(number, number + 4)), tmp_path / f"train-{number:05d}-of-00002.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(9, 12)), tmp_path / "test-00000-of-00001.parquet")
    found = tables(tmp_path)
    assert {split: len(table.rows) for split, table in found.items()} == {"train": 8, "test": 3}
    assert found["train"].lines[4] == "train-00001-of-00002.parquet:1"
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    assert "the shard train-00001-of-00002.parquet is missing" in refused(tmp_path)
    write(tmp_path / "train.csv", "text,label\nx,1\n")
    assert "which both mean the train split; keep one" in refused(tmp_path)


def test_patterns_of_two_splits_may_not_overlap(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.csv", "text,label\nx,1\n")
    with pytest.raises(DataError, match=r"b\.csv is named for train and for test; rows that are trained on test nothing$"):
        find_files(DataConfig(source="table", path=str(tmp_path / "*.csv"), test_path=str(tmp_path / "b.csv")))


@pytest.mark.parametrize(("ending", "pack"), [(".gz", lambda text: gzip.compress(text.encode())), (".zst", zstandard)])
def test_compressed_tables_are_read_as_they_are(tmp_path, ending, pack, monkeypatch):
    write(tmp_path / f"train.csv{ending}", pack(reviews()))
    write(tmp_path / "plain.csv", reviews())
    found, plain = tables(tmp_path)["train"], read_table(tmp_path / "plain.csv", TextConfig())
    assert (found.rows, found.columns, found.facts, list(found.lines)) == (plain.rows, plain.columns, plain.facts, list(plain.lines))
    packed = (tmp_path / f"train.csv{ending}").read_bytes()
    for length in (5, len(packed) // 2, len(packed) - 1):
        path = write(tmp_path / f"cut.jsonl{ending}", packed[:length])
        assert refused(path).startswith("PATH cannot be unpacked: is it cut short or damaged? (")
    assert "is not compressed as its name says" in refused(write(tmp_path / f"lie.csv{ending}", "text,label\n"))
    bomb = write(tmp_path / f"bomb.csv{ending}", pack("x" * 3_000_000))
    monkeypatch.setattr(encodings, "LARGEST_FILE", 2_000_000)
    assert refused(bomb) == "PATH unpacks to more than 2,000,000 bytes; cut it into smaller files"


@pytest.mark.parametrize("form", ["feather", "file", "stream"])
def test_arrow_files_are_tables(tmp_path, form):
    table = pyarrow.Table.from_pylist([{"text": "x", "label": 1, "words": ["a"]}, {"text": None, "label": 2, "words": ["b", "c"]}])
    path = tmp_path / ("a.feather" if form == "feather" else "a.arrow")
    if form == "feather":
        pyarrow.feather.write_feather(table, path)
    else:
        with (pyarrow.ipc.new_file if form == "file" else pyarrow.ipc.new_stream)(str(path), table.schema) as writer:
            writer.write_table(table)
    for given in (path, write(tmp_path / "b.arrow", path.read_bytes())):
        found = read_table(given, TextConfig())
        assert (found.columns, list(found.rows), found.facts) == (("text", "label", "words"), [("x", 1, ["a"]), (None, 2, ["b", "c"])], {"format": "arrow"})
    assert read_table(write(tmp_path / "c.dat", path.read_bytes()), TextConfig(format="arrow")).columns == found.columns
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(DataError, match=r"cut\.arrow is (no Arrow file, or it is )?cut short"):
            read_table(write(tmp_path / "cut.arrow", whole[:length]), TextConfig())


def test_arrow_files_of_other_kinds_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"old\.feather is Feather of version 1; write it again"):
        read_table(write(tmp_path / "old.feather", b"FEA1...FEA1"), TextConfig())
    table = pyarrow.table([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["text", "text"])
    pyarrow.feather.write_feather(table.rename_columns(["text", "label"]), tmp_path / "large.feather")
    with pyarrow.ipc.new_file(str(tmp_path / "twice.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"twice\.arrow has the column 'text' twice"):
        read_table(tmp_path / "twice.arrow", TextConfig())
    monkeypatch.setattr(columnar, "LARGEST_FILE", 5)
    with pytest.raises(DataError, match=r"large\.feather unpacks to more than 5 bytes"):
        read_table(tmp_path / "large.feather", TextConfig())


def save(folder, values, features):
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(values)
    with pyarrow.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))


def test_a_saved_hugging_face_data_set_is_a_table_of_names(tmp_path):
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["bad", "good"], "_type": "ClassLabel"}}
    save(tmp_path / "train", [{"text": f"t{n}", "label": n % 2} for n in range(4)], features)
    save(tmp_path / "validation", [{"text": "v", "label": -1}], features)
    save(tmp_path / "extra", [{"text": "v", "label": 1}], features)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation", "extra"]}')
    found = tables(tmp_path)
    assert list(found["train"].rows) == [("t0", "bad"), ("t1", "good"), ("t2", "bad"), ("t3", "good")]
    assert list(found["validation"].rows) == [("v", None)]
    assert found["train"].warnings == (f"{tmp_path}: split 'extra' is left out: not one of train, validation, val, valid, test",)
    assert "is a saved data set with splits of its own" in refused(tmp_path, test_path=str(tmp_path / "x.csv"))


def test_patterns_are_for_tables(tmp_path):
    write(tmp_path / "a.conll", "x O\n")
    with pytest.raises(DataError, match=r"does not exist"):
        read_tables(DataConfig(source="conll", path=str(tmp_path / "*.conll")), TextConfig())
    with pytest.raises(ConfigError, match=r"needs data\.path"):
        read_tables(DataConfig(source="table"), TextConfig())
