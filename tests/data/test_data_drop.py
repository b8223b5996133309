"""Rows that a file names are left out before anything else, and every row that is left out is told with its reason."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ftjax.config import DataConfig
from ftjax.data.collect import collect
from ftjax.data.drop import read_drop
from ftjax.data.image_format import ImageFormat
from ftjax.data.report import left_out
from ftjax.errors import ConfigError, DataError

FORMAT = ImageFormat((8, 8))


@pytest.fixture
def folder(tree):
    return tree(
        {
            f"{split}/{name}/{number}.png": 10 * place + number
            for place, (split, name) in enumerate([(split, name) for split in ("train", "validation", "test") for name in ("cat", "dog")])
            for number in range(3)
        }
    )


def test_named_rows_are_left_out_and_told(folder, tmp_path):
    (folder / "train/cat/broken.png").write_bytes(b"no picture")
    file = tmp_path / "drop.txt"
    file.write_text("# looked at by hand\ntrain/cat/0.png\n\ntrain/cat/broken.png  # cannot be read\ntrain/cat/0.png\n")
    config = DataConfig(source="image_folder", path=str(folder), drop=str(file))
    dataset = collect(config, FORMAT, 0)
    assert dataset.splits["train"].ids == ("train/cat/1.png", "train/cat/2.png", "train/dog/0.png", "train/dog/1.png", "train/dog/2.png")
    assert dataset.report["drop"] == {"file": str(file), "rows": 2, "ids": ["train/cat/0.png", "train/cat/broken.png"]}
    plain = collect(DataConfig(source="image_folder", path=str(folder), bad_files="skip"), FORMAT, 0)
    assert plain.report["drop"] == {}
    assert np.array_equal(dataset.splits["train"].fields(np.array([0]))["image"], plain.splits["train"].fields(np.array([1]))["image"])
    assert dataset.report["fingerprint"] != plain.report["fingerprint"]
    why = f"named in {file}"
    assert left_out(dataset.report) == [
        {"id": "train/cat/0.png", "row": None, "why": why, "policy": "data.drop"},
        {"id": "train/cat/broken.png", "row": None, "why": why, "policy": "data.drop"},
    ]


def test_every_row_that_is_left_out_has_its_reason_and_policy(folder):
    (folder / "train/cat/broken.png").write_bytes(b"no picture")
    (folder / "train/cat/notes.txt").write_text("seen")
    (folder / "train/cat/copy.png").write_bytes((folder / "test/cat/0.png").read_bytes())
    report = collect(DataConfig(source="image_folder", path=str(folder), bad_files="skip"), FORMAT, 0).report
    told = [(entry["id"], entry["policy"]) for entry in left_out(report)]
    assert told == [
        ("train/cat/broken.png", "data.bad_files=skip"),
        ("train/cat/notes.txt", "not of this data set"),
        ("train/cat/copy.png", "data.duplicates=drop"),
    ]
    assert left_out(report)[-1]["why"] == "an exact copy: test/cat/0.png (test)"
    json.dumps(left_out(report))


def test_an_id_that_is_not_there_is_an_error_with_line_and_nearest(tmp_path):
    file = tmp_path / "drop.txt"
    file.write_text("train.csv:3\n# none\ntrain.csv:x\n")
    with pytest.raises(DataError) as error:
        read_drop(str(file), ["train.csv:3", "test.csv:9"], "here")
    assert str(error.value) == f"{file} line 3: here has no row 'train.csv:x'; the nearest id is 'train.csv:3'"


def test_ids_with_spaces_and_marks_are_found_as_they_are(tmp_path):
    file = tmp_path / "drop.txt"
    file.write_text("a b.png # why\nc #1.png\n#d.png\n#e\n")
    assert read_drop(str(file), ["a b.png", "c #1.png", "#d.png", "f"], "here")[0] == {"a b.png", "c #1.png", "#d.png"}


def test_a_file_that_is_not_there_or_not_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"data\.drop="):
        read_drop(str(tmp_path / "none.txt"), ["a"], "here")
    (tmp_path / "drop.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_drop(str(tmp_path / "drop.txt"), ["a"], "here")


def test_policies_and_thresholds_are_checked(folder):
    config = DataConfig(source="image_folder", path=str(folder))
    with pytest.raises(ConfigError, match=r"data.near_duplicates='dropp': did you mean 'drop'\?"):
        collect(dataclasses.replace(config, near_duplicates="dropp"), FORMAT, 0)  # pyrefly: ignore


def test_a_changed_copy_in_another_split_is_reported_or_dropped(folder):
    from PIL import Image

    smooth = Image.fromarray(np.random.default_rng(5).integers(0, 256, (5, 6, 3)).astype(np.uint8)).resize((60, 50), Image.Resampling.BICUBIC)
    smooth.save(folder / "test/cat/smooth.png")
    smooth.resize((48, 40)).save(folder / "train/cat/small.jpg", quality=60)
    config = DataConfig(source="image_folder", path=str(folder))
    reported = collect(config, FORMAT, 0)
    assert "train/cat/small.jpg" in reported.splits["train"].ids
    assert reported.report["near_duplicates"]["groups"][0]["ids"] == ["train/cat/small.jpg", "test/cat/smooth.png"]
    assert any(line.startswith("1 image of test is almost the same as one of train") for line in reported.report["warnings"])
    dropped = collect(dataclasses.replace(config, near_duplicates="drop"), FORMAT, 0)
    assert "train/cat/small.jpg" not in dropped.splits["train"].ids
    assert left_out(dropped.report)[0]["why"] == "almost the same: test/cat/smooth.png (test)"
    assert collect(dataclasses.replace(config, near_duplicates="off"), FORMAT, 0).report["near_duplicates"] == {"policy": "off"}


def test_without_given_splits_dropping_keeps_what_is_alike_on_one_side(tree):
    from PIL import Image

    root = tree({f"{name}/{number}.png": 20 * place + number for place, name in enumerate(("cat", "dog")) for number in range(6)})
    for number in range(8):
        image = Image.fromarray(np.random.default_rng(100 + number).integers(0, 256, (5, 6, 3)).astype(np.uint8)).resize((60, 50), Image.Resampling.BICUBIC)
        image.save(root / f"cat/large{number}.png")
        image.resize((48, 40)).save(root / f"cat/small{number}.png")
    config = DataConfig(source="image_folder", path=str(root), near_duplicates="drop", validation_fraction=0.3, test_fraction=0.3)
    splits = collect(config, FORMAT, 0).splits
    where = {name.replace("large", "").replace("small", ""): split for split in splits for name in splits[split].ids if "large" in name}
    assert len(set(where.values())) > 1
    assert where == {name.replace("small", ""): split for split in splits for name in splits[split].ids if "small" in name}
    assert sum(map(len, splits.values())) == 28
