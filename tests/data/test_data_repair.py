"""Pictures that were cut short: what is left of them is kept and named, nothing is made up, all else is left out."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, collect
from ftjax.data.decode import decode, decode_cut_short
from ftjax.data.repair import is_cut_short
from ftjax.errors import ConfigError, DataError

FORMAT = ImageFormat(size=(16, 16), interpolation="bilinear", crop_fraction=1.0)


def picture(seed: int = 0, height: int = 200, width: int = 96) -> np.ndarray:
    """Smooth colours that differ in every line."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([(rows + 37 * seed) % 256, (2 * columns + 11 * seed) % 256, (rows + columns) % 256], -1).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("share", [0.75, 0.9, 0.99])
def test_every_line_that_is_kept_is_a_line_of_the_picture(options, share):
    whole = jpeg(picture(), **options)
    found = decode_cut_short(whole[: int(len(whole) * share)], 10**6)
    kept = len(found.pixels)
    assert 100 <= kept < 200
    assert found.conversions == (f"cut short: {kept} of 200 lines are left",)
    np.testing.assert_allclose(found.pixels.astype(int), decode(whole, 10**6).pixels[:kept].astype(int), atol=8)


def test_a_progressive_picture_is_whole_and_less_sharp():
    whole = jpeg(picture(), progressive=True)
    for length in range(len(whole) * 3 // 4, len(whole) - 2, 97):
        found = decode_cut_short(whole[:length], 10**6)
        assert found.pixels.shape == (200, 96, 3)
        assert found.conversions == ("cut short: less sharp than it was",)
        assert np.abs(found.pixels.astype(int) - picture()).mean() < 16


def test_less_than_half_is_no_picture_and_a_whole_file_is_not_touched():
    whole = jpeg(picture())
    with pytest.raises(DataError, match=r"cut short: \d+ of 200 lines are left"):
        decode_cut_short(whole[: int(len(whole) * 0.3)], 10**6)
    with pytest.raises(DataError, match=r"more than data\.max_pixels=100 allows"):
        decode_cut_short(whole[:-50], 100)
    assert not is_cut_short(whole)
    assert not is_cut_short(whole + b"\0" * 500)
    assert not is_cut_short(whole + b"written by a camera")
    assert not is_cut_short(b"\x89PNG")
    assert not is_cut_short(picture())
    assert is_cut_short(whole[:-2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 12 pictures: one was cut at 80 %, one at 20 %, a PNG was cut."""
    for number in range(24):
        target = tmp_path / ("ants" if number % 2 else "bees") / f"{number:02}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(jpeg(picture(number)))
    for name, share in (("ants/03.jpg", 0.8), ("bees/04.jpg", 0.2)):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    png = io.BytesIO()
    Image.fromarray(picture(30)).save(png, "PNG")
    (tmp_path / "ants" / "cut.png").write_bytes(png.getvalue()[:-200])
    return tmp_path


def test_repair_names_what_it_kept_and_what_it_left_out(folder, tmp_path_factory):
    config = DataConfig(source="image_folder", path=str(folder), bad_files="repair", near_duplicates="off")
    dataset = collect(config, FORMAT, 0)
    (entry,) = dataset.report["repaired"]
    assert entry["file"] == "ants/03.jpg"
    assert entry["what"].endswith("of 200 lines are left")
    assert [row["file"] for row in dataset.report["rejected"]] == ["ants/cut.png", "bees/04.jpg"]
    assert "1 image was cut short and kept in part; see repaired in data.json" in dataset.report["warnings"]
    assert sum(map(len, dataset.splits.values())) == 23
    json.dumps(dataset.report["repaired"])
    cached = dataclasses.replace(config, cache=str(tmp_path_factory.mktemp("cache")))
    for _ in range(2):
        again = collect(cached, FORMAT, 0)
        assert again.report["repaired"] == dataset.report["repaired"]
        assert again.report["fingerprint"] == dataset.report["fingerprint"]
    on_demand = collect(dataclasses.replace(config, cache_megabytes=0), FORMAT, 0)
    for name, split in dataset.splits.items():
        rows = np.arange(len(split))
        np.testing.assert_array_equal(split.fields(rows)["image"], on_demand.splits[name].fields(rows)["image"])


def test_without_repair_the_message_offers_it_and_texts_have_none(folder):
    with pytest.raises(DataError, match=r"(?s)3 of 25 images cannot be read.*'repair' keeps what is left of cut JPEGs"):
        collect(DataConfig(source="image_folder", path=str(folder)), FORMAT, 0)
    with pytest.raises(ConfigError, match=r"data.bad_files='repair' is for pictures"):
        collect(DataConfig(source="table", path="x.csv", bad_files="repair"), FORMAT, 0)
