"""What was collected is written as ArrayRecord and read back: the same ids, labels, pixels and splits."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ftjax.config import DataConfig, TextConfig
from ftjax.data import Dataset, ImageFormat, collect
from ftjax.data.convert import convert
from ftjax.data.sources import read_source
from ftjax.errors import ConfigError, DataError
from ftjax.files import read_json

sys.path.insert(0, str(Path(__file__).parent / "text"))
from text_files import collected, reviews, write

SMALL = ImageFormat((8, 8))


def back(folder: Path) -> DataConfig:
    return DataConfig(source="array_record", path=str(folder), workers=2)


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        read_source(back(folder))
    return str(error.value).replace(str(folder), "ROOT")


def assert_same(one: Dataset, other: Dataset) -> None:
    assert one.classes == other.classes
    for name, split in one.splits.items():
        assert other.splits[name].ids == split.ids
        np.testing.assert_array_equal(other.splits[name].labels, split.labels)
        everything = np.arange(len(split))
        for key, array in split.fields(everything).items():
            np.testing.assert_array_equal(other.splits[name].fields(everything)[key], array)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    from PIL import Image

    root = tmp_path_factory.mktemp("convert") / "photos"
    for number in range(30):
        folder = root / ("cat", "dog é")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (9 + number, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{('jpg', 'png', 'webp')[number % 3]}")
    shutil.copy(root / "cat/0.jpg", root / "dog é/0.jpg")  # conflicting labels: both leave the training rows
    return root


@pytest.fixture(scope="module")
def converted(photos) -> Path:
    config = DataConfig(source="image_folder", path=str(photos), workers=2)
    assert convert(collect(config, SMALL, 3), config, None, photos.parent / "fast") == {"train": 21, "validation": 4, "test": 4}
    return photos.parent / "fast"


def test_pictures_come_back_with_ids_labels_pixels_and_splits(photos, converted):
    given = collect(DataConfig(source="image_folder", path=str(photos), workers=2), SMALL, 3)
    assert_same(given, collect(back(converted), SMALL, 99))
    rows = read_source(back(converted))
    assert rows.read(0) == (photos / rows.ids[0]).read_bytes()
    assert rows.schema == {"id": "Text", "image": "Image", "label": "ClassLabel"}
    assert read_json(converted / "data.json")["duplicates"]["dropped"] == ["cat/0.jpg", "dog é/0.jpg"]
    assert "tensorflow" not in sys.modules
    assert read_source(back(photos.parent / "fast")).ids == rows.ids
    assert not [path.name for path in photos.parent.iterdir() if path.name.startswith(".fast")]


def test_arrays_come_back_without_loss(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (40, 9, 7)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=grey, labels=np.arange(40) % 2)
    config = DataConfig(source="npz", path=str(tmp_path / "a.npz"))
    given = collect(config, SMALL, 0)
    convert(given, config, None, tmp_path / "new/fast")
    assert_same(given, collect(back(tmp_path / "new/fast"), SMALL, 0))


@pytest.mark.parametrize("task", ["classification", "token_classification"])
def test_texts_come_back_with_ids_labels_and_splits(tmp_path, task):
    if task == "classification":
        path, source = write(tmp_path / "a.csv", reviews()), "table"
    else:
        path, source = write(tmp_path / "a.conll", "\n\n".join(f"mr O\n{name} B-PER\nx O" for name in ("smith", "dog", "cat") * 8)), "conll"
    given = collected(path, task, source=source)
    convert(given, DataConfig(source=source, path=str(path)), TextConfig(), tmp_path / "fast")
    again = collected(tmp_path / "fast", task)
    assert_same(given, again)
    assert given.splits["test"].show(0) == again.splits["test"].show(0)
    assert again.report["format"] == "array_record"


def test_nothing_is_overwritten_and_nothing_half_is_left(photos, tmp_path, monkeypatch):
    config = DataConfig(source="image_folder", path=str(photos), workers=2)
    dataset = collect(config, SMALL, 3)
    with pytest.raises(ConfigError, match=r"^--output=.* is there already; name a new folder, nothing is overwritten$"):
        convert(dataset, config, None, photos)
    strange = dataclasses.replace(dataset.splits["train"], ids=(*dataset.splits["train"].ids[:-1], "gone.png"))
    with pytest.raises(DataError, match=r"has changed while it was converted: there is no row 'gone\.png' any more; convert it again$"):
        convert(dataclasses.replace(dataset, splits={**dataset.splits, "train": strange}), config, None, tmp_path / "fast")
    assert not list(tmp_path.iterdir())


def test_folders_that_are_no_data_set_are_named(converted, tmp_path):
    assert refused(tmp_path) == "data.path=ROOT holds no dataset_info.json: it is no folder of a tensorflow-datasets data set; ftjax data convert writes one"
    for name in ("one", "two"):
        shutil.copytree(converted, tmp_path / name)
    assert refused(tmp_path) == "data.path=ROOT holds 2 data sets (one, two); say which one: data.path=ROOT/one"
    shutil.rmtree(tmp_path / "two")
    assert len(read_source(back(tmp_path))) == 29
    info = json.loads((tmp_path / "one/dataset_info.json").read_text())
    (tmp_path / "one/dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    assert "is stored as tfrecord: only array_record can be read without TensorFlow" in refused(tmp_path)
    (tmp_path / "one/dataset_info.json").write_text("{")
    assert refused(tmp_path).startswith("ROOT/one cannot be opened as a tensorflow-datasets data set: ")
    (tmp_path / "one/features.json").unlink()
    assert refused(tmp_path).startswith("ROOT/one holds dataset_info.json but no features.json")


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_records_that_are_cut_short_are_named(converted, tmp_path, keep):
    copy = Path(shutil.copytree(converted, tmp_path / "copy"))
    path = next(copy.glob("*train.array_record*"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    assert "ROOT" in refused(copy)
    path.unlink()
    assert "ROOT" in refused(copy)


def test_a_table_is_no_data_set_of_pictures_nor_the_other_way_round(converted, tmp_path):
    with pytest.raises(DataError, match=r"has the features id, image, label; a table that ftjax data convert wrote has 'id' and 'row'$"):
        collected(converted)
    path = write(tmp_path / "a.csv", reviews())
    convert(collected(path), DataConfig(source="table", path=str(path)), TextConfig(), tmp_path / "fast")
    assert "has 0 Image features (none) among id, row; one is needed" in refused(tmp_path / "fast")
