"""WebDataset shards: files of one name are one sample, classes by number or name, splits by the shards' names."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, collect
from ftjax.data.sources import read_source
from ftjax.errors import ConfigError, DataError


def shard(path, files) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


@pytest.fixture
def samples(helpers):
    picture, encode = helpers

    def make(start, stop, label=lambda number: str(number % 2), **more):
        return {
            name: content
            for number in range(start, stop)
            for name, content in ((f"{number:06d}.png", encode(picture(number))), (f"{number:06d}.cls", label(number).encode()))
        } | more

    return make


def config(path, **options) -> DataConfig:
    return DataConfig(source="webdataset", path=str(path), workers=2, **options)


def refused(path, **options) -> str:
    with pytest.raises(DataError) as error:
        read_source(config(path, **options))
    return str(error.value).replace(str(path), "PATH").replace(str(path.parent), "ROOT")


def test_shards_are_samples_in_the_order_of_names(tmp_path, samples, helpers):
    for number in range(3):
        shard(tmp_path / f"x-{number:02d}.tar", samples(8 * number, 8 * number + 8, **{f"{8 * number:06d}.txt": b"a caption"}))
    rows = read_source(config(tmp_path / "x-{00..02}.tar"))
    assert rows.ids == tuple(f"x-{number // 8:02d}.tar/{number:06d}" for number in range(24))
    assert rows.labels.tolist() == [number % 2 for number in range(24)]
    assert (rows.classes, set(rows.splits)) == (("0", "1"), {"train"})
    picture, encode = helpers
    assert rows.read(17) == encode(picture(17))
    assert rows.details == {"layout": "train", "shards": 3, "unused": ["txt"]}
    assert rows.schema == {"image": "file (.png)", "label": ".cls, one of 2"}
    for same in ("x-*.tar", ""):
        assert read_source(config(tmp_path / same)).ids == rows.ids
    assert read_source(config(tmp_path / "x-01.tar")).ids == rows.ids[8:16]
    assert sum(len(split) for split in collect(config(tmp_path), ImageFormat((8, 8)), 0).splits.values()) == 24


def test_splits_by_name_and_classes_by_file(tmp_path, samples):
    for name, start in (("birds-train-0.tar", 0), ("birds-train-1.tar", 4), ("birds-val-0.tar", 8), ("birds-test-0.tar", 12)):
        shard(tmp_path / name, samples(start, start + 4))
    (tmp_path / "classes.txt").write_text("robin\nwren\n")
    rows = read_source(config(tmp_path))
    assert rows.classes == ("robin", "wren")
    assert dict(zip(rows.ids, rows.splits))["birds-val-0.tar/000009"] == "validation"
    assert [rows.splits.count(split) for split in ("train", "validation", "test")] == [8, 4, 4]
    shard(tmp_path / "more-9.tar", samples(16, 18))
    assert "birds-test-0.tar is named for a split and more-9.tar is not; either all shards are or none" in refused(tmp_path)


def test_labels_are_names_or_stand_in_json(tmp_path, samples, helpers):
    shard(tmp_path / "a.tar", samples(0, 4, lambda number: ("wren\n", "robin")[number % 2]))
    rows = read_source(config(tmp_path / "a.tar"))
    assert (rows.classes, rows.labels.tolist()) == (("robin", "wren"), [1, 0, 1, 0])
    picture, encode = helpers
    files = {
        f"d/{n}.{kind}": content for n in range(2) for kind, content in (("JPG", encode(picture(n), "JPEG")), ("json", json.dumps({"label": 5 * n}).encode()))
    }
    shard(tmp_path / "b.tar", files)
    rows = read_source(config(tmp_path / "b.tar"))
    assert (rows.ids, rows.classes, rows.details["unused"]) == (("b.tar/d/0", "b.tar/d/1"), ("0", "5"), [])
    shard(tmp_path / "c.tar", samples(0, 2) | {"000000.json": b"{}"})
    assert read_source(config(tmp_path / "c.tar")).details["unused"] == ["json"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"x.png": b"1"},
            "PATH: 1 samples cannot be used:\n  a.tar/x: it has no label (.cls or .json)\nRepair them, or leave them out: data.bad_files='skip'.",
        ),
        ({"x.cls": b"1"}, "PATH: 1 samples cannot be used:\n  a.tar/x: it has no image (jpg, jpeg, png, webp)\n"),
        ({"x.png": b"1", "x.jpg": b"2", "x.cls": b"1"}, "it has several images (x.jpg, x.png)"),
        ({"x.png": b"1", "x.cls": b""}, "a.tar/x: its label is empty"),
        ({"x.png": b"1", "x.cls": b"\xff"}, "a.tar/x: its label cannot be read: 'utf-8' codec"),
        ({"x.png": b"1", "x.json": b"{"}, "a.tar/x: its label cannot be read: Expecting"),
        (
            {"x.png": b"1", "x.json": b'{"label": 1.5}'},
            "a.tar/x: its .json has no label that is a number or a name ('label', 'class', 'cls') and there is no .cls",
        ),
        ({"x.png": b"1", "x.json": b"[" * 100_000}, "a.tar/x: its label cannot be read: "),
        ({"x.png": b"1", "x.PNG": b"2", "x.cls": b"1"}, "PATH holds x.png and x.PNG, one sample with two of a kind; pack it again"),
        ({"x.png": b"1", "x.cls": b"wren"}, "the label of a.tar/000000 is a number, that of a.tar/x a name; let all be of one kind, or name the numbers in"),
    ],
)
def test_what_is_no_sample_is_named(tmp_path, samples, more, message):
    shard(tmp_path / "a.tar", samples(0, 4) | more)
    assert message in refused(tmp_path / "a.tar")


def test_samples_that_are_skipped_are_in_the_report(tmp_path, samples):
    shard(tmp_path / "a.tar", samples(0, 4, **{"x.png": b"1", "../y.png": b"1"}))
    rows = read_source(config(tmp_path / "a.tar", bad_files="skip"))
    assert len(rows) == 4
    assert [dict(entry) for entry in rows.ignored] == [
        {"file": "a.tar/x", "why": "it has no label (.cls or .json)"},
        {"file": "a.tar/../y.png", "why": "its name leads out of the archive (..)"},
    ]


def test_labels_that_classes_txt_does_not_name(tmp_path, samples):
    (tmp_path / "classes.txt").write_text("robin\nwren\n")
    shard(tmp_path / "a.tar", samples(0, 4, str))
    assert refused(tmp_path / "a.tar") == "a.tar/000002: label 2 is out of range; ROOT/classes.txt names 2 classes, so 0 to 1 are allowed"
    shard(tmp_path / "a.tar", samples(0, 4, lambda number: "wrn"))
    assert "a.tar/000000: ROOT/classes.txt names no class 'wrn': did you mean 'wren'?" in refused(tmp_path / "a.tar")
    (tmp_path / "classes.txt").write_text("wren\nwren\n")
    assert refused(tmp_path / "a.tar") == "ROOT/classes.txt names a class twice"


def test_a_missing_and_a_damaged_shard(tmp_path, samples):
    for number in (0, 1, 3):
        shard(tmp_path / f"x-{number}.tar", samples(4 * number, 4 * number + 4))
    assert "the shard x-2.tar is missing" in refused(tmp_path)
    assert "1 of 4 shards are not there: x-2.tar" in refused(tmp_path / "x-{0..3}.tar")
    whole = (tmp_path / "x-1.tar").read_bytes()
    (tmp_path / "x-1.tar").write_bytes(whole[: len(whole) - 10_000])
    assert "x-1.tar is cut short" in refused(tmp_path / "x-{0,1}.tar") or "x-1.tar cannot be read as a tar archive" in refused(tmp_path / "x-{0,1}.tar")
    with pytest.raises(ConfigError, match=r"^data\.source='webdataset' needs data\.path: tar shards, such as"):
        read_source(DataConfig(source="webdataset"))


def test_pixels_come_at_random_from_many_shards(tmp_path, samples, helpers):
    for number in range(2):
        shard(tmp_path / f"x-{number}.tar", samples(10 * number, 10 * number + 10))
    dataset = collect(config(tmp_path, cache_megabytes=0), ImageFormat((12, 16)), 0)
    picture, _ = helpers
    train = dataset.splits["train"]
    order = np.random.default_rng(0).permutation(len(train))
    for pixels, row in zip(train.fields(order)["image"], order):
        np.testing.assert_array_equal(pixels, picture(int(train.ids[row].split("/")[-1])))
