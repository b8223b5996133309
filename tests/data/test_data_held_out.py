"""A few pictures of another data set: the same ones every time, of every class its share, with what their source calls them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ftjax.data import ImageFormat, read_held_out
from ftjax.errors import DataError

FORMAT = ImageFormat((4, 4))


def photos(folder, *names):
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), place, np.uint8)).save(path)
    return str(folder)


def read(path, examples=100, **settings):
    return read_held_out(str(path), FORMAT, examples, name="forgetting.path", **settings)


def test_class_folders_name_the_classes(tmp_path):
    split, names = read(photos(tmp_path, "cat/a.png", "cat/b.png", "dog/c.png", ".hidden/d.png"))
    assert split.ids == ("cat/a.png", "cat/b.png", "dog/c.png")
    assert names == ("cat", "cat", "dog")
    assert split.fields(np.array([2]))["image"][0, 0, 0, 0] == 2


def test_files_of_a_flat_folder_may_begin_with_the_number_of_their_class(tmp_path):
    assert read(photos(tmp_path, "0281_tabby.png", "7_x.png", "photo.png"))[1] == ("0281", "7", None)


def test_the_examples_are_evenly_spaced_and_always_the_same(tmp_path):
    path = photos(tmp_path, *(f"{name}/{index}.png" for name in "abc" for index in range(10)))
    split, names = read(path, 6)
    assert split.ids == ("a/2.png", "a/7.png", "b/2.png", "b/7.png", "c/2.png", "c/7.png")
    assert split.ids == read(path, 6)[0].ids
    assert names == ("a", "a", "b", "b", "c", "c")


def test_only_the_examples_asked_for_are_decoded(tmp_path):
    path = photos(tmp_path, "a/0.png", "a/1.png", "a/2.png")
    (tmp_path / "a" / "1.png").write_bytes(b"damaged")
    assert read(path, 2)[0].ids == ("a/0.png", "a/2.png")
    with pytest.raises(DataError, match=r"1 of 3 images cannot be read:\n  a/1\.png: "):
        read(path, 3)
    assert read(path, 3, bad_files="skip")[0].ids == ("a/0.png", "a/2.png")


def test_an_archive_names_classes_by_its_labels(tmp_path):
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(["cat", "dog"])[np.arange(10) % 2])
    split, names = read(tmp_path / "a.npz", 4)
    assert names == ("dog", "dog", "cat", "cat")
    assert split.fields(np.arange(4))["image"][:, 0, 0, 0].tolist() == [1, 3, 6, 8]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fotos", r"forgetting\.path=.*fotos does not exist; in .* there is no 'fotos': did you mean 'photos'\?"),
        ("photos", r"forgetting\.path=.*photos holds no image \(\.jpg, \.jpeg, \.png, \.webp\)"),
        ("notes.txt", r"forgetting\.path=.*notes\.txt is a file that is no \.npz archive; allowed are a folder of photos and an \.npz file"),
    ],
)
def test_what_cannot_be_followed_is_named(tmp_path, name, message):
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)
