"""Resizing: timm's evaluation transform, restated from its definition, and the shapes of every kind of target."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ftjax.data import ImageFormat
from ftjax.errors import ConfigError

PINNED = {
    ((224, 224), "bicubic", 0.9): "0402a9b121b7900b",
    ((96, 96), "bilinear", 0.875): "e65e9eb1fe3d6eb9",
    ((64, 128), "bicubic", 0.95): "5fc6cf79d44f5ac6",
}


def reference(pixels: np.ndarray, size: int, fraction: float, resample: Image.Resampling) -> np.ndarray:
    """torchvision's Resize(floor(size / fraction)) of the shorter side and CenterCrop(size) on Pillow images."""
    image, target = Image.fromarray(pixels), math.floor(size / fraction)
    short, long = min(image.size), max(image.size)
    new_short, new_long = target, int(target * long / short)
    image = image.resize((new_short, new_long) if image.width <= image.height else (new_long, new_short), resample)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 90), st.integers(2, 90), st.sampled_from([8, 15, 32]), st.sampled_from([0.875, 0.9, 1.0]), st.sampled_from(["bicubic", "bilinear"]))
def test_square_targets_equal_the_definition_pixel_for_pixel(height, width, size, fraction, interpolation):
    pixels = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = reference(pixels, size, fraction, Image.Resampling[interpolation.upper()])
    np.testing.assert_array_equal(ImageFormat((size, size), interpolation, fraction).fit(pixels), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.floats(0.3, 1.0))
def test_every_target_has_its_shape(height, width, target_height, target_width, fraction):
    pixels = np.zeros((height, width, 3), np.uint8)
    assert ImageFormat((target_height, target_width), "bilinear", fraction).fit(pixels).shape == (target_height, target_width, 3)


def test_pixels_equal_those_of_timm():
    """Digests of timm 1.0's own transform (create_transform, is_training=False) on these pictures."""
    pixels = np.random.default_rng(7).integers(0, 256, (120, 173, 3)).astype(np.uint8)
    found = {
        arguments: hashlib.sha256(np.ascontiguousarray(ImageFormat(*arguments).fit(pixels)).tobytes()).hexdigest()[:16]
        for arguments in (((224, 224), "bicubic", 0.9), ((96, 96), "bilinear", 0.875), ((64, 128), "bicubic", 0.95))
    }
    assert found == PINNED


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(ImageFormat((16, 16)).fit(pixels), pixels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 4), "bicubic", 1.0), "image size (0, 4): height and width must be 1 or more"),
        (((4, 4), "bicubik", 1.0), "interpolation 'bicubik': did you mean 'bicubic'? allowed: 'bicubic', 'bilinear'"),
        (((4, 4), "bicubic", 1.5), "crop_fraction 1.5: allowed is above 0 and at most 1"),
    ],
)
def test_impossible_formats_are_refused(arguments, message):
    with pytest.raises(ConfigError) as error:
        ImageFormat(*arguments)
    assert str(error.value) == message
