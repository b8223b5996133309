"""tensorflow-datasets, on data sets that the script builds offline with tensorflow-datasets itself."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, collect
from ftjax.data.mixture import mixed_rows
from ftjax.data.sources import read_source
from ftjax.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]


def build(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "scripts/build_tfds_example.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    assert build("--data_dir", str(folder)) == "ftjax_example/digits:1.0.0"
    return folder


@pytest.fixture
def copy(digits, tmp_path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "copy"))


def config(folder: Path, name: str | None = "ftjax_example/digits") -> DataConfig:
    return DataConfig(source="tfds", path=str(folder), name=name, workers=2)


def message(settings: DataConfig, kind: type[Exception] = DataError, read: Callable[[DataConfig], object] = read_source) -> str:
    with pytest.raises(kind) as error:
        read(settings)
    return str(error.value)


def mixed(settings: DataConfig) -> object:
    return mixed_rows(read_source(settings), settings, read_source)


def description(folder: Path) -> Path:
    return folder / "ftjax_example/digits/1.0.0/dataset_info.json"


def test_digits_come_back_without_tensorflow(digits):
    rows, original = read_source(config(digits)), read_source(DataConfig())
    assert len(rows) == len(original) == 1797
    assert rows.classes == original.classes
    assert np.bincount(rows.labels).tolist() == np.bincount(original.labels).tolist()
    assert rows.ids[0] == "train/000000"
    assert dict(rows.details) == {"layout": "train", "name": "ftjax_example/digits/1.0.0", "image feature": "image", "label feature": "label"}
    assert "tensorflow" not in sys.modules
    image = ImageFormat((16, 16))
    stored, direct = (collect(settings, image, 0) for settings in (config(digits), DataConfig()))
    content = [
        sorted(
            (int(label), pixels.tobytes())
            for split in dataset.splits.values()
            for label, pixels in zip(split.labels, split.fields(np.arange(len(split)))["image"])
        )
        for dataset in (stored, direct)
    ]
    assert content[0] == content[1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> tuple[Path, Path, str]:
    """A folder of 18 photos in three splits; the data_dir that it was written to, and its name there."""
    folder = tmp_path_factory.mktemp("few")
    root = folder / "photos"
    for seed, place in enumerate(f"{split}/{name}/{row}.png" for split in ("train", "val", "test") for name in "ab" for row in range(3)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(root / place)
    return root, folder / "tfds", build("--data_dir", str(folder / "tfds"), "--folder", str(root))


def test_a_folder_of_photos_keeps_splits_and_bytes(photos):
    root, data_dir, name = photos
    rows, original = read_source(config(data_dir, name)), read_source(DataConfig(source="image_folder", path=str(root)))
    assert sorted(set(rows.splits)) == ["test", "train", "validation"]
    assert sorted((rows.splits[i], rows.read(i)) for i in range(18)) == sorted((original.splits[i], original.read(i)) for i in range(18))


def test_one_data_set_needs_no_name_and_may_be_given_by_its_own_folder(digits, monkeypatch):
    named = read_source(config(digits))
    for folder in (digits, digits / "ftjax_example", description(digits).parent):
        rows = read_source(config(folder, None))
        assert (rows.ids, rows.labels.tolist(), rows.read(7)) == (named.ids, named.labels.tolist(), named.read(7))
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits))
    assert read_source(DataConfig(source="tfds", name="ftjax_example/digits")).ids == named.ids


@pytest.mark.parametrize("further", ["ftjax_example/digits:2.0.0", "{folder}/ftjax_example/digits/2.0.0"], ids=["by name", "by directory"])
def test_several_are_mixed_by_weight(copy, further):
    shutil.copytree(description(copy).parent, copy / "ftjax_example/digits/2.0.0")
    newer = copy / "ftjax_example/digits/2.0.0/dataset_info.json"
    newer.write_text(json.dumps({**json.loads(newer.read_text()), "version": "2.0.0"}))
    settings = dataclasses.replace(config(copy, "ftjax_example/digits:1.0.0"), mixture=((further.format(folder=copy), 3.0),), duplicates="report")
    dataset = collect(settings, ImageFormat((8, 8)), 0)
    first, more = dataset.report["mixture"]["sets"]
    assert more["rows"] == 1797
    np.testing.assert_allclose(more["share_drawn"], 3 * 1797 / (3 * 1797 + first["rows"]))
    assert sum(name.startswith(("digits:2.0.0/", "2.0.0/")) for name in dataset.splits["train"].ids) == 1797
    assert not dataset.report["mixture"]["sets"][0]["left_out"]


def test_names_are_checked(digits, copy, tmp_path):
    shutil.copytree(copy / "ftjax_example", copy / "other")
    assert message(config(copy, None), ConfigError) == f"data.source='tfds' needs data.name; in {copy} there is: 'ftjax_example', 'other'"
    assert message(dataclasses.replace(config(digits), mixture=(("ftjax_exmple", 1.0),)), read=mixed) == (
        f"data.name='ftjax_exmple': no such tensorflow-datasets data set in {digits}: did you mean 'ftjax_example'? allowed: 'ftjax_example'"
    )
    assert message(config(digits, "ftjax_exmple")) == (
        f"data.name='ftjax_exmple': no such tensorflow-datasets data set in {digits}: did you mean 'ftjax_example'? allowed: 'ftjax_example'"
    )
    (tmp_path / "empty").mkdir()
    assert message(config(tmp_path / "empty")) == (
        f"data.name='ftjax_example/digits': no such tensorflow-datasets data set in {tmp_path / 'empty'}: the folder holds no prepared data set"
    )
    assert message(config(digits, "ftjax_example/digts")).startswith(f"data.name='ftjax_example/digts' cannot be opened in {digits}: ")
    assert message(config(digits, "ftjax_example/digits:9.9.9")).startswith(f"data.name='ftjax_example/digits:9.9.9' cannot be opened in {digits}: ")


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("parquet", "tensorflow-datasets 4.9.10 loses rows in parquet files without saying so"),
        ("tfrecord", "only array_record can be read without TensorFlow"),
    ],
)
def test_other_file_formats_are_refused_with_the_reason(copy, form, why):
    info = json.loads(description(copy).read_text())
    description(copy).write_text(json.dumps({**info, "fileFormat": form}))
    assert message(config(copy)) == (
        f"data.name='ftjax_example/digits' is stored as {form}: {why}. Prepare it again with tfds.builder('ftjax_example/digits', file_format='array_record')"
    )


def test_lost_records_are_noticed(copy, photos):
    shutil.copy(next(photos[1].rglob("*train.array_record-*")), next(copy.rglob("*.array_record-*")))
    assert message(config(copy)) == (
        "tfds data set 'ftjax_example/digits', train: record 6 of 1797 cannot be read (index 6 out of bound 6); "
        "the files are incomplete or damaged, prepare them again"
    )
