"""Operations on values and places against Pillow, which defines them, and hue against Python's colorsys."""

from __future__ import annotations

import colorsys
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from ftjax.data import Hue, Saturation
from ftjax.data.augment import colour, pixels, warp
from ftjax.data.augment.rand_augment import OPERATIONS, applied
from ftjax.errors import ConfigError

DRAW = np.random.default_rng(0)
RAMP = np.add.outer(np.arange(20) * 5, np.arange(24) * 3)[..., None] + np.array([0, 20, 40])
PICTURES = np.stack([DRAW.integers(0, 256, (20, 24, 3)), RAMP, DRAW.integers(100, 140, (20, 24, 3)), np.full((20, 24, 3), 77)]).astype(np.uint8)
IMAGES = jnp.asarray(PICTURES, jnp.float32) / 255


def levels(images):
    return np.asarray(images) * 255


def pillow(change):
    return np.stack([np.asarray(change(Image.fromarray(picture)), np.float32) for picture in PICTURES])


def everywhere(value: float):
    return jnp.full(len(PICTURES), value, jnp.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pixels.autocontrast, ImageOps.autocontrast),
        (pixels.equalize, ImageOps.equalize),
        (lambda images: pixels.posterize(images, 4), lambda image: ImageOps.posterize(image, 4)),
        (lambda images: pixels.posterize(images, 1), lambda image: ImageOps.posterize(image, 1)),
        (lambda images: pixels.solarize(images, 100 / 255), lambda image: ImageOps.solarize(image, 100)),
    ],
)
def test_operations_on_levels_are_pillow_s(ours, theirs):
    expected = pillow(theirs)
    assert np.abs(expected - PICTURES).max() > 10
    np.testing.assert_allclose(levels(ours(IMAGES)), expected, atol=1.001 if theirs is ImageOps.autocontrast else 0.001)


@pytest.mark.parametrize("factor", [0.1, 0.7, 1.6])
@pytest.mark.parametrize(
    ("base", "theirs"),
    [
        (pixels.saturation_base, ImageEnhance.Color),
        (pixels.contrast_base, ImageEnhance.Contrast),
        (jnp.zeros_like, ImageEnhance.Brightness),
        (pixels.sharpness_base, ImageEnhance.Sharpness),
    ],
)
def test_factors_are_pillow_s_enhancements(base, theirs, factor):
    expected = pillow(lambda image: theirs(image).enhance(factor))
    found = levels(pixels.enhanced(IMAGES, base(IMAGES), everywhere(factor).reshape(-1, 1, 1, 1)))
    np.testing.assert_allclose(found, expected, atol=1.6)


@pytest.mark.parametrize("degrees", [30.0, -12.5])
def test_a_rotation_is_pillow_s(degrees):
    expected = pillow(lambda image: image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=(128,) * 3))
    found = levels(warp.warp(IMAGES, warp.rotation(everywhere(math.radians(degrees)), (20, 24)), 128 / 255))
    differs = np.abs(found - expected) > 1.1
    # Pillow rounds the matrix to 15 digits, so a pixel on the very border may fall on its other side.
    assert differs.mean() < 0.002
    assert np.abs(expected - PICTURES).max() > 100


@pytest.mark.parametrize(
    ("make", "amount", "matrix"),
    [
        (warp.shear_x, 0.2, (1, 0.2, 0, 0, 1, 0)),
        (warp.shear_y, -0.3, (1, 0, 0, -0.3, 1, 0)),
        (warp.translation_x, 3.25, (1, 0, 3.25, 0, 1, 0)),
        (warp.translation_y, -4.0, (1, 0, 0, 0, 1, -4)),
    ],
)
def test_shears_and_translations_are_pillow_s(make, amount, matrix):
    expected = pillow(lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(128,) * 3))
    np.testing.assert_allclose(levels(warp.warp(IMAGES, make(everywhere(amount)), 128 / 255)), expected, atol=1.1)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("rotate", lambda image: image.rotate(15, Image.Resampling.BILINEAR, fillcolor=(128,) * 3)),
        ("solarize", lambda image: ImageOps.solarize(image, 128)),
        ("saturation", lambda image: ImageEnhance.Color(image).enhance(1.45)),
        ("posterize", lambda image: ImageOps.posterize(image, 6)),
        ("sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(1.45)),
        ("brightness", lambda image: ImageEnhance.Brightness(image).enhance(1.45)),
        ("contrast", lambda image: ImageEnhance.Contrast(image).enhance(1.45)),
        ("autocontrast", ImageOps.autocontrast),
        ("equalize", ImageOps.equalize),
        ("identity", lambda image: image),
    ],
)
def test_half_strength_has_the_ranges_of_the_paper(name, theirs):
    found = applied(IMAGES, jnp.full(len(PICTURES), OPERATIONS.index(name)), jnp.ones(len(PICTURES), jnp.int32), 0.5)
    assert (np.abs(levels(found) - pillow(theirs)) > 1.6).mean() < 0.002


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 2), ("translate_y", 1)])
def test_a_translation_is_a_share_of_the_side(name, axis):
    """At strength 331/1500 the shift is a tenth of the side: whole pixels, so the picture itself comes back."""
    side = IMAGES.shape[axis]
    found = np.asarray(applied(IMAGES, jnp.full(4, OPERATIONS.index(name)), jnp.ones(4, jnp.int32), 331 / 150 * 4 / side))
    inner = np.moveaxis(found, axis, 1)[:, : side - 4]
    np.testing.assert_allclose(inner, np.moveaxis(np.asarray(IMAGES), axis, 1)[:, 4:], atol=2e-4)


@pytest.mark.parametrize("share", [0.0, 0.25, -0.4])
def test_hue_is_colorsys_s(share):
    expected = np.empty(IMAGES.shape)
    for place in np.ndindex(IMAGES.shape[:3]):
        hue, saturation, value = colorsys.rgb_to_hsv(*np.asarray(IMAGES[0:4])[place].tolist())
        expected[place] = colorsys.hsv_to_rgb((hue + share) % 1.0, saturation, value)
    np.testing.assert_allclose(colour.turned(IMAGES, everywhere(share).reshape(-1, 1, 1)), expected, atol=2e-6)


def test_colour_jitter_stays_in_range_and_differs_by_example():
    keys = jax.random.split(jax.random.key(0), 64)
    colours = jnp.broadcast_to(jnp.array([0.6, 0.5, 0.4]), (64, 2, 2, 3)).astype(jnp.float32)
    paler = np.asarray(Saturation(0.5)(colours, keys))
    grey = 0.299 * 0.6 + 0.587 * 0.5 + 0.114 * 0.4
    factors = (paler[..., 0] - grey) / (0.6 - grey)
    assert 0.5 - 1e-4 <= factors.min() < 0.6
    assert 1.4 < factors.max() <= 1.5 + 1e-4
    hues = [colorsys.rgb_to_hsv(*picture[0, 0].tolist())[0] for picture in np.asarray(Hue(0.1)(colours, keys))]
    turns = np.array(hues) - colorsys.rgb_to_hsv(0.6, 0.5, 0.4)[0]
    turns -= np.round(turns)
    assert np.abs(turns).max() <= 0.1 + 1e-4
    assert np.ptp(turns) > 0.15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Saturation(1.5), "Saturation(amount=1.5): amount must lie in 0..1"),
        (lambda: Hue(0.6), "Hue(amount=0.6): amount must lie in 0..0.5"),
    ],
)
def test_impossible_colours_are_refused(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value) == message
