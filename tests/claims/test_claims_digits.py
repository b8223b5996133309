"""Real digits, divided without overlap and shifted as their names say."""

import numpy as np
import pytest

from benchmarks.claims import digits
from benchmarks.claims.digits import Digits


def test_scrambled_moves_pixels_within_their_patch():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    shuffled = digits.shifted(Digits(image, np.zeros(1, np.int32)), "scrambled").images
    assert not np.array_equal(shuffled, image)
    for row in (0, 4):
        for column in (0, 4):
            corner = np.s_[0, row : row + 4, column : column + 4]
            assert sorted(shuffled[corner].ravel()) == sorted(image[corner].ravel())


@pytest.mark.parametrize("shift", [name for name in digits.SHIFTS if name != "clean"])
def test_a_shift_changes_pictures_and_keeps_their_shape_type_and_labels(shift):
    plain = Digits(np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8), np.arange(5, dtype=np.int32))
    moved = digits.shifted(plain, shift)
    assert moved.images.shape == plain.images.shape
    assert moved.images.dtype == np.uint8
    assert not np.array_equal(moved.images, plain.images)
    assert np.array_equal(digits.shifted(plain, shift).images, moved.images)
    assert moved.labels is plain.labels


@pytest.mark.parametrize("count", [20, 60])
def test_a_few_labels_are_the_same_number_of_every_class(count):
    pool = Digits(np.zeros((600, 8, 8), np.uint8), np.random.default_rng(0).integers(0, 10, 600).astype(np.int32))
    assert np.bincount(digits.few(pool, count, seed=0).labels).tolist() == [count // 10] * 10


def test_more_labels_contain_the_fewer():
    pool = Digits(np.arange(600 * 64, dtype=np.uint32).reshape(600, 8, 8), np.random.default_rng(0).integers(0, 10, 600).astype(np.int32))
    few, more = (digits.few(pool, count, seed=3).images[:, 0, 0] for count in (20, 200))
    assert set(few) < set(more)


def test_no_picture_is_in_two_parts_and_seeds_differ(shared_data, monkeypatch):
    monkeypatch.setenv("FTJAX_SHARED_DATA", str(shared_data))
    parts = digits.divide(0)
    assert len(parts.pretraining.labels) == 8600
    assert sum(len(part.labels) for part in parts.mnist.values()) == len(digits.mnist().labels) - 8600
    seen = [one.tobytes() for part in parts.sklearn.values() for one in part.images]
    assert len(seen) == 1400
    assert not np.array_equal(parts.sklearn["test"].images, digits.divide(1).sklearn["test"].images)
