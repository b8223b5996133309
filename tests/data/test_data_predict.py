"""Images without labels: files and folders, ids that say where they lie, bad files by policy."""

from __future__ import annotations

import numpy as np
import pytest

from ftjax.config import DataConfig
from ftjax.data import UNLABELLED, ImageFormat, collect, eval_batches, read_images
from ftjax.errors import DataError

SMALL = ImageFormat((8, 8), crop_fraction=0.9)


def test_a_folder_is_read_through_and_sorted(tree):
    root = tree({"b.png": 1, "a/z.JPG": 2, "a/deep/y.png": 3, "notes.txt": b"", ".hidden/x.png": 4, "a/.x.png": 5})
    ids, split = read_images(root, SMALL)
    assert ids == split.ids == ("a/deep/y.png", "a/z.JPG", "b.png")
    assert split.labels.tolist() == [UNLABELLED] * 3
    assert split.rejected == ()
    assert [batch["weight"].tolist() for batch in eval_batches(split, 2)] == [[1, 1], [1, 0]]


def test_a_file_is_read_whatever_its_suffix(tree):
    root = tree({"photo": 1})
    ids, split = read_images(str(root / "photo"), SMALL)
    assert ids == (str(root / "photo"),)
    assert split.fields(np.array([0]))["image"].shape == (1, 8, 8, 3)


def test_several_paths_are_read_together(tree):
    root = tree({"a/1.png": 1, "b/2.png": 2})
    ids, _ = read_images([root / "b", root / "a/1.png"], SMALL)
    assert ids == (str(root / "a/1.png"), "2.png")


def test_pixels_equal_those_of_the_collected_test_images(tree):
    root = tree({f"{name}/{row}.png": 10 * label + row for label, name in enumerate("ab") for row in range(5)})
    test = collect(DataConfig(source="image_folder", path=str(root)), SMALL, 0).splits["test"]
    ids, split = read_images(root, SMALL, cache_megabytes=0)
    found = split.fields(np.array([ids.index(name) for name in test.ids]))["image"]
    np.testing.assert_array_equal(found, test.fields(np.arange(len(test)))["image"])


def test_bad_files_follow_the_policy(tree):
    root = tree({"a.png": 1, "b.png": b"", "c.png": 2})
    with pytest.raises(DataError) as error:
        read_images(root, SMALL)
    assert str(error.value) == (
        f"{root}: 1 of 3 images cannot be read:\n  b.png: empty file (0 bytes)\n"
        "Repair or remove them, or leave them out: data.bad_files='skip' ('repair' keeps what is left of cut JPEGs; predict: --bad-files=skip)."
    )
    ids, split = read_images(root, SMALL, bad_files="skip")
    assert ids == ("a.png", "c.png")
    assert split.rejected == ({"file": "b.png", "why": "empty file (0 bytes)"},)


def test_what_cannot_be_read_is_named(tree):
    root = tree({"a/1.png": 1, "b/1.png": 2, "c/x.txt": b""})
    for paths, expected in (
        (root / "c", f"there is no image (.jpg, .jpeg, .png, .webp) in {root}/c"),
        ([], "there is no image (.jpg, .jpeg, .png, .webp) in an empty list of paths"),
        ([root / "a", root / "b"], "two images have the same id '1.png'; give the folder that holds both, or predict them apart"),
        (root / "aa", f"input={root}/aa does not exist; in {root} there is no 'aa': did you mean 'a'? allowed: 'a', 'b', 'c'"),
    ):
        with pytest.raises(DataError) as error:
            read_images(paths, SMALL)
        assert str(error.value) == expected
