"""NumPy archives: every form that is promised is read, every other is refused by key and row."""

from __future__ import annotations

import numpy as np
import pytest

from ftjax.config import DataConfig
from ftjax.data.sources import read_source
from ftjax.errors import DataError

GREY = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
LABELS = np.array([0, 1, 0, 1])


def read(path, **arrays):
    np.savez(path / "d.npz", **arrays)
    return read_source(DataConfig(source="npz", path=str(path / "d.npz")))


def message(path, **arrays) -> str:
    with pytest.raises(DataError) as error:
        read(path, **arrays)
    return str(error.value).replace(str(path), "DIR")


@pytest.mark.parametrize("images", [GREY, GREY[..., None], np.repeat(GREY[..., None], 3, -1)])
def test_uint8_images_are_taken_as_they_are(tmp_path, images):
    rows = read(tmp_path, images=images, labels=LABELS)
    assert rows.ids == ("train/0000", "train/0001", "train/0002", "train/0003")
    assert rows.classes == ("0", "1")
    np.testing.assert_array_equal(np.reshape(rows.read(2), (6, 5, -1))[..., 0], GREY[2])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_float_images_are_rounded_to_the_nearest_level(tmp_path, dtype):
    rows = read(tmp_path, images=(GREY / 255).astype(dtype), labels=LABELS)
    np.testing.assert_array_equal(rows.read(3)[..., 0], GREY[3])


def test_labels_become_classes_in_sorted_order(tmp_path):
    rows = read(tmp_path, images=GREY, labels=np.array(["dog", "cat", "dog", "emu"]))
    assert rows.classes == ("cat", "dog", "emu")
    assert rows.labels.tolist() == [1, 0, 1, 2]
    rows = read(tmp_path, images=GREY, labels=np.array([10, 2, 2, 10]))
    assert rows.classes == ("2", "10")
    rows = read(tmp_path, images=GREY, labels=LABELS, classes=np.array(["no", "yes"]))
    assert rows.classes == ("no", "yes")


def test_named_splits_are_kept(tmp_path):
    rows = read(tmp_path, train_images=GREY, train_labels=LABELS, val_images=GREY[:1], val_labels=LABELS[:1], test_images=GREY[:2], test_labels=LABELS[:2])
    assert rows.splits == ("train",) * 4 + ("validation",) + ("test",) * 2
    assert rows.ids[4:] == ("validation/0000", "test/0000", "test/0001")


FLOATS = GREY.astype(np.float32) / 255


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"image": GREY, "labels": LABELS}, "DIR/d.npz holds an array 'image': did you mean 'images' or 'val"),
        ({"images": GREY}, "DIR/d.npz holds 'images' but no 'labels'"),
        (
            {"images": GREY, "labels": LABELS, "test_images": GREY, "test_labels": LABELS},
            "holds 'images' and also 'test_images': either the splits are named, or they are not",
        ),
        ({"classes": LABELS}, "DIR/d.npz holds no images; save them with np.savez('d', images=..., labels=...)"),
        ({"test_images": GREY, "test_labels": LABELS}, "DIR/d.npz has no 'train' split; it holds 'test'."),
        (
            {"images": GREY.transpose(0, 2, 1)[:, None], "labels": LABELS},
            "has shape (4, 1, 5, 6); allowed are [n h w], [n h w 1] and [n h w 3]; that looks like channels first: images.transpose(0, 2, 3, 1)",
        ),
        ({"images": GREY.astype(np.int64), "labels": LABELS}, "DIR/d.npz: images is int64; allowed are uint8 (0..255) and float (0..1)"),
        (
            {"images": FLOATS * 255, "labels": LABELS},
            "DIR/d.npz: images is float32 between 0 and 119; float images must lie in 0..1 (values up to 255 belong in uint8)",
        ),
        ({"images": np.where(np.arange(4)[:, None, None] == 2, np.nan, FLOATS), "labels": LABELS}, "DIR/d.npz: images holds NaN or infinity in 1 rows: 2"),
        ({"images": np.where(np.arange(4)[:, None, None] > 1, np.inf, FLOATS), "labels": LABELS}, "DIR/d.npz: images holds NaN or infinity in 2 rows: 2, 3"),
        ({"images": GREY, "labels": LABELS[:3]}, "DIR/d.npz: labels has 3 rows but there are 4 images"),
        ({"images": GREY, "labels": LABELS.astype(float)}, "DIR/d.npz: labels is float64 of shape (4,); allowed are whole numbers or text of shape [n]"),
        ({"images": GREY, "labels": LABELS - 1}, "DIR/d.npz: labels is negative in 2 rows: 0, 2 (first: -1); leave unlabelled rows out"),
        (
            {"images": GREY, "labels": LABELS + 1, "classes": np.array(["a", "b"])},
            "label 2 at row 1 of train is out of range; 'classes' names 2, so 0 to 1 are allowed",
        ),
        (
            {"images": GREY, "labels": np.array(["a", "b", "a", "b"]), "classes": np.array(["a", "b"])},
            "the labels are text; leave 'classes' out or give numbers that index it",
        ),
        ({"images": GREY, "labels": LABELS, "classes": np.array(["a", "a"])}, "DIR/d.npz: classes names a class twice"),
        ({"images": GREY, "labels": np.array(["a", 1, 2, 3], object)}, "object arrays are refused: use text or numbers"),
        (
            {"train_images": GREY, "train_labels": LABELS, "test_images": GREY[:, :3], "test_labels": LABELS},
            "DIR/d.npz: the splits hold images of different shapes: (3, 5, 1), (6, 5, 1)",
        ),
        (
            {"train_images": GREY, "train_labels": LABELS, "test_images": GREY, "test_labels": LABELS.astype(str)},
            "DIR/d.npz: the labels of some splits are numbers, of others text",
        ),
    ],
)
def test_every_other_form_is_refused_by_name(tmp_path, arrays, expected):
    assert expected in message(tmp_path, **arrays)


def test_what_is_no_archive_is_refused(tmp_path):
    def read_bytes(data: bytes) -> str:
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(DataError) as error:
            read_source(DataConfig(source="npz", path=str(tmp_path / "x.npz")))
        return str(error.value)

    np.savez(tmp_path / "whole.npz", images=GREY, labels=LABELS)
    whole = (tmp_path / "whole.npz").read_bytes()
    for data in (whole[: len(whole) // 2], whole[:200] + b"\0" * 20 + whole[220:]):
        assert "x.npz cannot be read as a NumPy archive: is it cut short or damaged? (BadZipFile)" in read_bytes(data)
    assert read_bytes(b"garbage").endswith("x.npz is not a NumPy archive (it begins with b'garbag')")
    assert read_bytes(b"").endswith("x.npz is not a NumPy archive (it begins with b'')")
    np.save(tmp_path / "one.npy", GREY)
    assert "is a single array; save both with np.savez('x', images=..., labels=...)" in read_bytes((tmp_path / "one.npy").read_bytes())
