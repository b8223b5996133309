"""Hugging Face data sets on disk, written here as `datasets` writes them: one folder a split, streams of Arrow and their descriptions."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pyarrow
import pytest

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, collect
from ftjax.data.sources import read_source
from ftjax.errors import DataError

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
NAMES = ["cat", "dog"]


def save(folder, rows, features=None, files=1, label="int64"):
    """One split as `Dataset.save_to_disk` leaves it."""
    folder.mkdir(parents=True)
    schema = pyarrow.schema([("image", IMAGE), ("label", pyarrow.type_for_alias(label))])
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for name, part in zip(names, np.array_split(np.arange(len(rows)), files)):
        with pyarrow.OSFile(str(folder / name), "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
            for start in range(0, len(part), 3):
                writer.write_batch(pyarrow.RecordBatch.from_pylist([rows[row] for row in part[start : start + 3]], schema))
    features = features or {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features, "splits": {}}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], "_split": "train"}))
    return folder


@pytest.fixture
def rows_of(helpers):
    picture, encode = helpers
    return lambda start, stop: [{"image": {"bytes": encode(picture(n)), "path": f"{n}.png"}, "label": n % 2} for n in range(start, stop)]


@pytest.fixture
def saved(tmp_path, rows_of):
    save(tmp_path / "hf/train", rows_of(0, 20), files=3)
    save(tmp_path / "hf/test", rows_of(20, 26))
    (tmp_path / "hf/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return tmp_path / "hf"


def read(path, **options):
    return read_source(DataConfig(source="hf_disk", path=str(path), workers=2, **options))


def refused(path) -> str:
    with pytest.raises(DataError) as error:
        read(path)
    return str(error.value).replace(str(path), "ROOT")


def test_a_dict_of_splits_is_read_at_random(saved, helpers):
    rows = read(saved)
    assert (rows.ids[0], rows.ids[-1]) == ("train/000000", "test/000005")
    assert (rows.classes, rows.splits.count("train"), rows.splits.count("test")) == (("cat", "dog"), 20, 6)
    assert rows.labels.tolist() == [n % 2 for n in range(26)]
    picture, encode = helpers
    for row in np.random.default_rng(0).permutation(26):
        assert rows.read(int(row)) == encode(picture(int(row)))
    assert rows.details == {"layout": "train|test", "image feature": "image", "label feature": "label"}
    report = collect(DataConfig(source="hf_disk", path=str(saved), workers=3), ImageFormat((8, 8)), 0).report
    assert report["details"]["schema"] == {"image": "Image", "label": "ClassLabel"}
    assert report["splits"]["test"]["rows"] == 6


def test_one_data_set_alone_is_for_training(saved):
    rows = read(saved / "train")
    assert (len(rows), set(rows.splits)) == (20, {"train"})


def test_labels_may_be_plain_values(tmp_path, rows_of):
    features = {"image": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}
    rows = read(save(tmp_path / "a", [{**row, "label": "dcb"[row["label"]]} for row in rows_of(0, 4)], features, label="string"))
    assert (rows.classes, rows.labels.tolist(), rows.schema["label"]) == (("c", "d"), [1, 0, 1, 0], "string")


def test_what_has_no_bytes_is_a_row_that_cannot_be_read(tmp_path, rows_of):
    rows = rows_of(0, 4)
    rows[1]["image"], rows[2]["image"] = {"bytes": None, "path": "/home/x/1.png"}, None
    found = read(save(tmp_path / "a", rows))
    with pytest.raises(DataError, match=r"^its image is only a path \(/home/x/1\.png\); save the data set again, save_to_disk puts the pictures into it$"):
        found.read(1)
    with pytest.raises(DataError, match=r"^it has no image$"):
        found.read(2)


def test_labels_out_of_range_are_named(tmp_path, rows_of):
    for value, hint in ((2, ""), (-1, "; -1 marks rows without a label: leave that split out"), (None, "")):
        rows = rows_of(0, 4)
        rows[3]["label"] = value
        assert refused(save(tmp_path / f"a{value}", rows)) == f"ROOT: label of row 3 is {value}; 2 classes allow 0 to 1{hint}"


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9, -1, -8])
def test_a_file_that_is_cut_short_is_refused(saved, keep):
    path = saved / "train/data-00001-of-00003.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    assert refused(saved) == "ROOT/train/data-00001-of-00003.arrow is no Arrow file, or it is cut short: a stream of Arrow ends with a mark, which is not there"


def test_a_file_whose_end_mark_lies_is_refused(saved):
    path = saved / "train/data-00001-of-00003.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + whole[-8:])
    assert refused(saved).startswith("ROOT/train/data-00001-of-00003.arrow is no Arrow file that can be read: ")


def test_a_damaged_file_gives_a_message_or_rows(tmp_path, rows_of):
    """One byte at a time all over the structure: neither a crash of the reader nor a silent end."""
    rows = rows_of(0, 2)
    for row in rows:
        row["image"]["bytes"] = b"picture"
    path = save(tmp_path / "a", rows) / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    for place in range(0, len(whole), 2):
        path.unlink()  # the old one may still be mapped
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = read(tmp_path / "a")
            for row in range(len(found)):
                with contextlib.suppress(DataError):
                    found.read(row)
        except DataError:
            pass


def test_missing_parts_are_named(saved, tmp_path, rows_of):
    (saved / "train/data-00002-of-00003.arrow").unlink()
    assert refused(saved) == "ROOT/train: data-00002-of-00003.arrow is missing (3 files are named in state.json); save or fetch the data set again"
    (saved / "test/state.json").unlink()
    (saved / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert refused(saved) == "ROOT/test holds no state.json: it is no folder that datasets' save_to_disk wrote, or not all of it"
    (saved / "dataset_dict.json").write_text('{"splits": ["../../etc"]}')
    assert refused(saved) == "ROOT/dataset_dict.json: 'splits' must be a list of names"
    assert refused(tmp_path).startswith("ROOT holds neither dataset_dict.json nor state.json")
    folder = save(tmp_path / "b", rows_of(0, 2))
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    assert refused(folder) == "ROOT/state.json: '_data_files' must name the files that lie beside it"
    folder = save(tmp_path / "c", rows_of(0, 2), {"label": {"names": NAMES, "_type": "ClassLabel"}, "image": {"_type": "Value", "dtype": "binary"}})
    assert refused(folder) == "ROOT has 0 Image features (none) among label, image; one is needed"
