"""Other labelled data as one split: every row, in the model's order of classes, however few there are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, labelled_images
from ftjax.errors import DataError

CLASSES = ("cat", "dog", "owl")


def photos(folder, *names):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(folder / name / f"{number}.png")
    return DataConfig(source="image_folder", path=str(folder))


def test_pictures_of_one_class_are_a_split(tmp_path):
    split = labelled_images(photos(tmp_path / "in", "owl", "owl"), ImageFormat((8, 8)), CLASSES)
    assert (split.ids, split.labels.tolist()) == (("owl/0.png", "owl/1.png"), [2, 2])
    assert split.fields(np.array([1]))["image"].shape == (1, 8, 8, 3)


def test_a_class_that_the_model_does_not_know_is_named(tmp_path):
    with pytest.raises(DataError, match=r"has class 'own', which the model does not know; did you mean 'owl'"):
        labelled_images(photos(tmp_path / "in", "own", "cat"), ImageFormat((8, 8)), CLASSES)


def test_unreadable_pictures_are_refused_or_told(tmp_path):
    config = photos(tmp_path / "in", "cat", "dog")
    (tmp_path / "in" / "cat" / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 3 images cannot be read"):
        labelled_images(config, ImageFormat((8, 8)), CLASSES)
    skipping = DataConfig(source="image_folder", path=config.path, bad_files="skip")
    assert [entry["file"] for entry in labelled_images(skipping, ImageFormat((8, 8)), CLASSES).rejected] == ["cat/bad.png"]
