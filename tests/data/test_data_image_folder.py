"""Folders of photos: both layouts are read, everything ambiguous is named."""

from __future__ import annotations

import os

import pytest

from ftjax.config import DataConfig
from ftjax.data.sources import read_source
from ftjax.errors import ConfigError, DataError


def read(path):
    return read_source(DataConfig(source="image_folder", path=str(path)))


def message(path) -> str:
    with pytest.raises(DataError) as error:
        read(path)
    return str(error.value).replace(str(path), "ROOT")


def test_class_folders_are_read_and_nothing_disappears(tree):
    root = tree(
        {"cat/b.PNG": 1, "cat/a.Jpeg": 2, "dog/c.webp": 3, "dog/notes.txt": b"x", "readme.md": b"x", "loose.png": 4, ".hidden/x.png": 5, "dog/.x.png": 6}
    )
    rows = read(root)
    assert rows.ids == ("cat/a.Jpeg", "cat/b.PNG", "dog/c.webp")
    assert rows.classes == ("cat", "dog")
    assert rows.labels.tolist() == [0, 0, 1]
    assert rows.splits == ("train",) * 3
    assert rows.read(1) == (root / "cat/b.PNG").read_bytes()
    assert [dict(entry) for entry in rows.ignored] == [
        {"file": "loose.png", "why": "outside of the class folders"},
        {"file": "readme.md", "why": "outside of the class folders"},
        {"file": "dog/notes.txt", "why": "not an image by its suffix (allowed: .jpg, .jpeg, .png, .webp, in any case)"},
    ]


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_split_folders_are_read_under_each_name(tree, validation):
    rows = read(tree({"train/a/1.png": 1, "train/b/2.png": 2, f"{validation}/a/3.png": 3, "test/b/4.png": 4, "classes.json": b"{}"}))
    assert dict(zip(rows.ids, rows.splits)) == {
        "train/a/1.png": "train",
        "train/b/2.png": "train",
        f"{validation}/a/3.png": "validation",
        "test/b/4.png": "test",
    }
    assert [dict(entry) for entry in rows.ignored] == [{"file": "classes.json", "why": "outside of the split folders"}]


def test_a_class_may_be_called_like_a_split(tree):
    assert read(tree({"train/1.png": 1, "bus/2.png": 2})).classes == ("bus", "train")


def test_both_layouts_at_once_are_refused(tree):
    assert message(tree({"train/a/1.png": 1, "cats/1.png": 2})) == (
        "ROOT holds split folders (train) and other folders (cats): either every folder is a class, or every folder is a split that holds classes"
    )


def test_two_names_for_one_split_are_refused(tree):
    assert message(tree({"train/a/1.png": 1, "val/a/1.png": 2, "validation/a/1.png": 3})) == (
        "ROOT holds 'val' and 'validation', which both mean the validation split; keep one"
    )


def test_splits_without_training_are_refused(tree):
    assert message(tree({"val/a/1.png": 1, "test/a/1.png": 2})) == (
        "ROOT has no 'train' split; it holds 'test', 'val'. Allowed: 'train' and optionally 'validation' (or 'val') and 'test'"
    )


def test_empty_classes_are_named(tree):
    assert message(tree({"cat/1.png": 1, "dog/": 0, "emu/notes.txt": b""})) == (
        "ROOT: class folder 'dog', 'emu' holds no image (.jpg, .jpeg, .png, .webp); fill or remove it"
    )


def test_an_empty_split_folder_is_named(tree):
    assert (
        message(tree({"train/a/1.png": 1, "train/b/1.png": 1, "test/a/": 0}))
        == "ROOT: the test folder holds no image (.jpg, .jpeg, .png, .webp); fill or remove it"
    )


def test_a_class_that_training_lacks_is_named(tree):
    assert message(tree({"train/cat/1.png": 1, "train/dog/2.png": 2, "test/catt/3.png": 3})) == (
        "ROOT: class 'catt' is in test but not in train: nothing can learn it (did you mean 'cat'? allowed: 'cat', 'dog')"
    )


def test_images_without_classes_are_refused(tree):
    assert (
        message(tree({"a.png": 1, "b.png": 2}))
        == "ROOT holds 2 images (a.png, ...) but no class folders; sort them into one folder per class: photos/CLASS/a.png"
    )


def test_an_empty_folder_is_named(tree):
    assert message(tree({"./": 0})) == "ROOT is empty; it needs one folder of photos per class"


def test_folders_within_a_class_are_refused(tree):
    assert message(tree({"pets/cat/1.png": 1, "pets/dog/2.png": 2})) == (
        "class folder ROOT/pets holds folders (cat, dog); images must lie directly in it. If the classes are the folders in ROOT/pets, set data.path=ROOT/pets"
    )
    assert message(tree({"pets/cat/1.png": 1, "pets/dog/2.png": 2, "pets/dog/more/3.png": 3}) / "pets").endswith(
        "images must lie directly in it. Move the images up"
    )


def test_a_missing_path_names_its_nearest_sibling(tree):
    root = tree({"eurosat/a/1.png": 1, "digits/a/1.png": 1})
    assert message(root / "eurosta" / "train") == (
        f"data.path=ROOT does not exist; in {root} there is no 'eurosta': did you mean 'eurosat'? allowed: 'digits', 'eurosat'"
    )
    assert message(root / "eurosat/a/1.png") == (
        "data.path=ROOT is a file; data.source='image_folder' needs a folder with one folder of photos per class, "
        "or an archive of one (.zip, .tar, .tar.gz, .tgz)"
    )
    assert message(root / "eurosat/a/1.png/x") == f"data.path=ROOT: {root}/eurosat/a/1.png is a file, not a folder"


def test_no_path_and_no_source_are_named():
    with pytest.raises(ConfigError, match=r"^data\.source='image_folder' needs data\.path: a folder with one folder of photos per class$"):
        read_source(DataConfig(source="image_folder"))
    with pytest.raises(ConfigError, match=r"^data\.source='image_foldr': did you mean 'image_folder'\? allowed: 'array_record', 'digits', "):
        read_source(DataConfig(source="image_foldr"))  # type: ignore[arg-type]


def test_a_name_that_is_no_text_is_refused(tree):
    root = tree({"cat/1.png": 1})
    with open(os.fsencode(root) + b"/cat/\xff.png", "wb"):
        pass
    assert "is not valid UTF-8; rename it" in message(root)
