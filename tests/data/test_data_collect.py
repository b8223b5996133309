"""The story of the data from end to end, on folders that the tests make, and every refusal on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, collect
from ftjax.errors import ConfigError, DataError
from ftjax.files import read_json, write_json

SMALL = ImageFormat((8, 8))


def folder(path, **options) -> DataConfig:
    return DataConfig(source="image_folder", path=str(path), workers=2, **options)


def two_classes(count: int) -> dict[str, int]:
    return {f"{name}/{row}.png": 100 * label + row for label, name in enumerate(("cat", "dog")) for row in range(count)}


def message(config: DataConfig, kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as error:
        collect(config, SMALL, 0)
    return str(error.value).replace(str(config.path), "ROOT") if config.path else str(error.value)


def test_digits_are_the_real_ones():
    dataset = collect(DataConfig(labels_per_class=10), ImageFormat((16, 16)), 0)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 100, "validation": 228, "test": 269}
    assert dataset.classes == tuple("0123456789")
    test = dataset.splits["test"]
    assert test.ids[0] == "digits/0015"
    assert test.fields(np.arange(3))["image"].shape == (3, 16, 16, 3)
    assert dataset.report["fingerprint"].startswith("6d01fe97d23bbd07")
    assert dataset.report["majority"] == {"class": "0", "share": 0.1}


def test_the_report_tells_everything_and_is_strict_json(tree, tmp_path, helpers):
    picture, encode = helpers
    files = two_classes(10) | {"cat/notes.txt": b"x", "dog/broken.jpg": b"\xff\xd8\xff\xe0", "cat/empty.png": b""}
    files |= {"cat/deep.png": encode(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)), "dog/copy.png": encode(picture(100))}
    root = tree(files)
    dataset = collect(folder(root, bad_files="skip", labels_per_class=9), SMALL, 5)
    report = dataset.report
    write_json(tmp_path / "data.json", report)
    assert read_json(tmp_path / "data.json") == report
    assert report["source"] == f"image_folder: {root}"
    assert report["seed"] == 5
    assert report["classes"] == ["cat", "dog"]
    assert report["image_size"] == [8, 8]
    assert report["rejected"][0] == {"file": "cat/empty.png", "why": "empty file (0 bytes)"}
    assert report["rejected"][1]["file"] == "dog/broken.jpg"
    assert report["rejected"][1]["why"].startswith("damaged header")
    assert report["ignored"] == [{"file": "cat/notes.txt", "why": "not an image by its suffix (allowed: .jpg, .jpeg, .png, .webp, in any case)"}]
    assert report["conversions"] == {"16-bit": 1}
    assert report["duplicates"]["within"] == [{"split": "train", "ids": ["dog/0.png", "dog/copy.png"]}]
    assert report["splits"]["test"] == {
        "rows": 4,
        "per_class": {"cat": 2, "dog": 2},
        "origin": "15.0% of the training rows, by class and a hash of the id",
    }
    even = {"cat": 0.5, "dog": 0.5}
    shares = {"before": even, "after": even}
    assert report["sampling"] == {"labels_per_class": 9, "rows_before": 16, "rows_after": 16, "short": ["cat", "dog"], "shares": shares}
    assert report["warnings"] == [
        "2 unreadable images were skipped",
        "1 other file was ignored",
        "1 image has 16 bits a channel; only the upper 8 are used",
        "fewer than 9 training examples (all were kept) of 'cat', 'dog'",
    ]


def test_pixels_are_the_same_from_memory_and_on_demand(tree):
    root = tree(two_classes(8))
    cached, fresh = (collect(folder(root, cache_megabytes=size), SMALL, 0) for size in (100, 0))
    assert cached.report["in_memory"]
    assert not fresh.report["in_memory"]
    for name, split in cached.splits.items():
        assert split.ids == fresh.splits[name].ids
        everything = np.arange(len(split))[::-1]
        np.testing.assert_array_equal(split.fields(everything)["image"], fresh.splits[name].fields(everything)["image"])


def test_a_file_that_changes_after_it_was_collected_is_named(tree):
    root = tree(two_classes(4))
    train = collect(folder(root, cache_megabytes=0), SMALL, 0).splits["train"]
    (root / train.ids[0]).write_bytes(b"")
    (root / train.ids[1]).write_bytes((root / train.ids[2]).read_bytes())
    with pytest.raises(DataError, match=rf"{root}: {train.ids[1]}: its content has changed since the data were collected; put the old file back, or begin a"):
        train.fields(np.array([1]))
    with pytest.raises(DataError, match=rf"{root}: {train.ids[0]}: empty file \(0 bytes\)"):
        train.fields(np.array([0]))["image"]
    (root / train.ids[0]).unlink()
    with pytest.raises(DataError, match=rf"{root}: {train.ids[0]}: .*No such file"):
        train.fields(np.array([0]))["image"]


def test_the_fingerprint_follows_content_names_and_labels_only(tree, helpers, tmp_path):
    picture, encode = helpers
    root = tree(two_classes(5))
    first = collect(folder(root), SMALL, 0).report["fingerprint"]
    assert collect(folder(root), ImageFormat((4, 4)), 7).report["fingerprint"] == first
    (root / "cat/0.png").write_bytes(encode(picture(0), compress_level=0))
    assert collect(folder(root), SMALL, 0).report["fingerprint"] == first
    (root / "cat/0.png").write_bytes(encode(picture(999)))
    assert collect(folder(root), SMALL, 0).report["fingerprint"] != first


def test_bad_jpeg_policy(tree, helpers):
    picture, encode = helpers
    cut = encode(picture(9, (40, 40)), "JPEG")[:-200]
    root = tree(two_classes(6) | {"cat/cut.jpg": cut, "dog/zero.png": b"", "dog/gif.jpg": b"GIF89a12"})
    text = message(folder(root))
    assert text.startswith("ROOT: 3 of 15 images cannot be read:\n  cat/cut.jpg: damaged JPEG file: ")
    assert "\n  dog/gif.jpg: not a JPEG, PNG or WebP file (it begins with b'GIF89a12')\n  dog/zero.png: empty file (0 bytes)\n" in text
    assert text.endswith(
        "Repair or remove them, or leave them out: data.bad_files='skip' ('repair' keeps what is left of cut JPEGs; predict: --bad-files=skip)."
    )
    skipped = collect(folder(root, bad_files="skip"), SMALL, 0)
    assert [entry["file"] for entry in skipped.report["rejected"]] == ["cat/cut.jpg", "dog/gif.jpg", "dog/zero.png"]
    assert sum(map(len, skipped.splits.values())) == 12


def test_nothing_readable_is_an_error_under_any_policy(tree):
    text = message(folder(tree({"cat/1.png": b"", "dog/2.png": b"x"}), bad_files="skip"))
    assert text == "ROOT: 2 of 2 images cannot be read:\n  cat/1.png: empty file (0 bytes)\n  dog/2.png: not a JPEG, PNG or WebP file (it begins with b'x')"


def test_a_decompression_bomb_is_refused(tree, helpers):
    _, encode = helpers
    bomb = encode(Image.new("L", (20000, 10000)))
    assert "cat/bomb.png: 20000 x 10000 = 200000000 pixels, more than data.max_pixels=50000000 allows" in message(
        folder(tree(two_classes(4) | {"cat/bomb.png": bomb}))
    )


def test_one_class_cannot_be_learnt(tree):
    assert message(folder(tree({"cat/1.png": 1, "cat/2.png": 2}))) == "ROOT has one class only ('cat'): there is nothing to tell apart"


def test_a_class_too_small_is_named(tree):
    text = message(folder(tree(two_classes(5) | {"emu/1.png": 900, "emu/2.png": 901})))
    assert text == "class 'emu' has 2 different images, too few to split test off (3 are needed); add images or bring the splits as folders"


def test_a_label_unseen_in_training_is_named(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4)).astype(np.uint8)
    np.savez(
        tmp_path / "d.npz", train_images=images[:3], train_labels=[0, 1, 1], val_images=images[3:4], val_labels=[0], test_images=images[4:], test_labels=[0, 2]
    )
    config = DataConfig(source="npz", path=str(tmp_path / "d.npz"))
    assert message(config) == "ROOT: class '2' is in test (such as test/0001) but has no training example: nothing can learn it"


def test_a_class_that_nobody_has_is_named(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=[0, 1] * 5, classes=["a", "b", "c"])
    assert message(DataConfig(source="npz", path=str(tmp_path / "d.npz"))) == "ROOT: class 'c' has no training example: add some or remove the class"


def test_a_split_that_cleaning_empties_is_named(tree):
    files = {f"train/{name}": seed for name, seed in two_classes(3).items()} | {"val/cat/1.png": 50, "test/cat/1.png": 50}
    assert message(folder(tree(files))) == "ROOT: the validation split is empty after cleaning"


def test_copies_in_the_test_set_leave_training_and_are_told(tree):
    files = {f"train/{name}": seed for name, seed in two_classes(6).items()} | {"test/cat/x.png": 0, "test/dog/y.png": 777}
    dataset = collect(folder(tree(files)), SMALL, 0)
    assert dataset.report["duplicates"]["dropped"] == ["train/cat/0.png"]
    assert "1 image is in more than one split; the copies outside of the higher split were dropped" in dataset.report["warnings"]
    assert "1 image is in more than one split:\n  train/cat/0.png (train) = test/cat/x.png (test)" in message(
        folder(dataset.report["source"].removeprefix("image_folder: "), duplicates="error")
    )


def test_imbalance_is_told(tree):
    files = {f"cat/{row}.png": row for row in range(60)} | {f"dog/{row}.png": 500 + row for row in range(3)}
    report = collect(folder(tree(files)), SMALL, 0).report
    assert report["imbalance_ratio"] == 43.0
    assert report["majority"]["class"] == "cat"
    assert report["warnings"] == ["classes are imbalanced 43.0 to 1: always saying 'cat' is right for 97.7% of the training rows; look at balanced accuracy"]


def test_a_class_missing_from_test_is_told(tree):
    files = {f"train/{name}": seed for name, seed in two_classes(4).items()} | {"test/cat/1.png": 50}
    assert collect(folder(tree(files)), SMALL, 0).report["warnings"] == ["test has no example of 'dog'"]


def test_progress_counts_to_the_end(tree):
    calls: list[tuple[int, int]] = []
    collect(folder(tree(two_classes(5))), SMALL, 0, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"test_fraction": 0.0}, "data.test_fraction=0.0: allowed is above 0 and below 1 (every run is validated and tested)"),
        ({"validation_fraction": 1.0}, "data.validation_fraction=1.0: allowed is above 0 and below 1 (every run is validated and tested)"),
        ({"labels_per_class": 0}, "data.labels_per_class=0: allowed is 1 or more, or None for all"),
        ({"workers": -1}, "data.workers=-1: allowed is 0 or more"),
        ({"max_pixels": 0}, "data.max_pixels=0: allowed is 1 or more"),
        ({"bad_files": "skipp"}, "data.bad_files='skipp': did you mean 'skip'? allowed: 'error', 'repair', 'skip'"),
        ({"duplicates": "dropp"}, "data.duplicates='dropp': did you mean 'drop'? allowed: 'drop', 'error', 'report'"),
    ],
)
def test_settings_out_of_range_are_named(options, expected):
    assert message(DataConfig(**options), ConfigError) == expected


@pytest.mark.slow
def test_eurosat_brings_its_splits(shared_data):
    dataset = collect(DataConfig(source="image_folder", path=str(shared_data / "images/eurosat")), ImageFormat((32, 32)), 0)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 2000, "validation": 500, "test": 1000}
    assert {entry["origin"] for entry in dataset.report["splits"].values()} == {"given by the data"}
    assert dataset.report["rejected"] == dataset.report["ignored"] == dataset.report["warnings"] == []


@pytest.mark.slow
def test_real_photos_with_odd_suffixes_and_missing_splits_are_read(shared_data):
    def sizes(name: str) -> tuple[dict[str, int], dict]:
        dataset = collect(DataConfig(source="image_folder", path=str(shared_data / "images" / name)), ImageFormat((32, 32)), 0)
        return {split: len(rows) for split, rows in dataset.splits.items()}, dataset.report

    assert sizes("sign_digits")[0] == {"train": 600, "validation": 150, "test": 250}
    found, report = sizes("ants_bees")
    assert found == {"train": 208, "validation": 153, "test": 36}
    assert report["splits"]["test"]["origin"] == "15.0% of the training rows, by class and a hash of the id"
    assert json.dumps(report, allow_nan=False)
