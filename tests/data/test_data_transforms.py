"""Transforms: each example's change is its own, the equations hold, and what is saved comes back equal."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import AugmentConfig
from ftjax.data import Brightness, Contrast, HorizontalFlip, ImageFormat, Normalize, Preprocessing, RandomResizedCrop, augmentations
from ftjax.errors import ConfigError, DataError

KEY = jax.random.key(3)
NORMALIZE = Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
EVERYTHING = Preprocessing(ImageFormat((10, 12), "bicubic", 0.9), NORMALIZE, (RandomResizedCrop(0.3), HorizontalFlip(), Brightness(0.4), Contrast(0.4)))
PICTURES = np.random.default_rng(0).integers(0, 256, (8, 10, 12, 3)).astype(np.uint8)
train = jax.jit(EVERYTHING.train, static_argnames="dtype")


def keys(count: int):
    return jax.vmap(lambda row: jax.random.fold_in(KEY, row))(jnp.arange(count))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(8)))
def test_an_examples_change_depends_on_its_id_and_not_on_place_or_neighbours(order):
    order = np.array(order, np.int32)
    together = np.asarray(train(PICTURES, KEY, jnp.arange(8)))
    shuffled = np.asarray(train(PICTURES[order], KEY, order))
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    others = np.where(np.arange(8).reshape(-1, 1, 1, 1) == 2, PICTURES, 255 - PICTURES)
    np.testing.assert_allclose(np.asarray(train(others, KEY, jnp.arange(8)))[2], together[2], atol=1e-5)


def test_the_same_key_gives_the_same_bits_and_another_key_other_ones():
    first, again = (np.asarray(train(PICTURES, KEY, jnp.arange(8))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = np.asarray(train(PICTURES, jax.random.key(4), jnp.arange(8)))
    assert (np.abs(first - other).max(axis=(1, 2, 3)) > 1e-3).all()


def test_evaluation_only_normalises():
    expected = (PICTURES / 255.0 - np.array(NORMALIZE.mean)) / np.array(NORMALIZE.std)
    found = EVERYTHING.evaluate(PICTURES)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    plain = Preprocessing(EVERYTHING.image, NORMALIZE)
    np.testing.assert_array_equal(plain.train(PICTURES, KEY, jnp.arange(8)), found)


def test_float64_sees_the_same_changes():
    with jax.enable_x64(True):
        wide = train(jnp.asarray(PICTURES), KEY, jnp.arange(8, dtype=jnp.int32), dtype=jnp.float64)
        assert wide.dtype == jnp.float64
    np.testing.assert_allclose(np.asarray(wide), train(PICTURES, KEY, jnp.arange(8, dtype=jnp.int32)), atol=1e-4)


def test_a_flip_mirrors_about_half_of_the_images():
    images = jnp.asarray(np.random.default_rng(0).random((400, 2, 3, 3)), jnp.float32)
    flipped = HorizontalFlip()(images, keys(400))
    mirrored = np.asarray((flipped == images[:, :, ::-1]).all(axis=(1, 2, 3)))
    assert np.asarray((flipped == images).all(axis=(1, 2, 3)) | mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_a_crop_of_a_ramp_is_the_ramp_between_its_edges():
    """Linear interpolation of a linear picture is exact inside, so slope and place of the cut can be read off."""
    height, width = 40, 60
    ramp = jnp.broadcast_to((jnp.arange(width) / width).reshape(1, 1, width, 1), (64, height, width, 3))
    cut = np.asarray(jax.jit(RandomResizedCrop(0.2))(ramp, keys(64)))
    assert cut.shape == ramp.shape
    inner = cut[:, 20, 5:-5, 0]
    slopes = (inner[:, -1] - inner[:, 0]) / (inner.shape[1] - 1) * width
    assert (slopes <= 1.0 + 1e-4).all()
    assert (slopes >= np.sqrt(0.2 * 3 / 4) - 1e-4).all()
    assert slopes.std() > 0.05
    np.testing.assert_allclose(np.diff(inner, axis=1), np.broadcast_to(slopes[:, None] / width, (64, inner.shape[1] - 1)), atol=1e-4)
    assert cut.min() >= 0
    assert cut.max() <= 1


def test_a_crop_that_must_keep_everything_keeps_everything():
    whole = jax.jit(RandomResizedCrop(1.0, 1.0, 1.0))
    images = jnp.asarray(PICTURES, jnp.float32) / 255
    np.testing.assert_allclose(whole(images, keys(8)), images, atol=1e-5)


def test_brightness_scales_each_image_by_one_factor_within_bounds():
    images = jnp.full((200, 2, 2, 3), 0.5, jnp.float32)
    factors = np.asarray(Brightness(0.3)(images, keys(200))) / 0.5
    assert np.ptp(factors, axis=(1, 2, 3)).max() < 1e-6
    assert factors.min() >= 0.7 - 1e-6
    assert factors.max() <= 1.3 + 1e-6
    assert np.ptp(factors) > 0.5


def test_contrast_keeps_the_mean_luminance_and_scales_the_rest():
    grey = jnp.broadcast_to(jnp.linspace(0.4, 0.6, 12).reshape(1, 1, 12, 1), (50, 10, 12, 3)).astype(jnp.float32)
    changed = np.asarray(Contrast(0.5)(grey, keys(50)))
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), 0.5, atol=1e-5)
    factors = np.ptp(changed, axis=(1, 2, 3)) / 0.2
    assert factors.min() >= 0.5 - 1e-4
    assert factors.max() <= 1.5 + 1e-4
    assert np.ptp(factors) > 0.7


amounts = st.floats(0.0, 1.0)
operations = st.one_of(
    st.builds(RandomResizedCrop, st.floats(0.01, 1.0)), st.builds(HorizontalFlip, amounts), st.builds(Brightness, amounts), st.builds(Contrast, amounts)
)
channels = st.tuples(*[st.floats(0.01, 1.0)] * 3)


formats = st.builds(ImageFormat, st.tuples(st.integers(1, 999), st.integers(1, 999)), st.sampled_from(["bicubic", "bilinear"]), st.floats(0.1, 1.0))


@given(formats, channels, channels, st.lists(operations))
def test_what_is_saved_comes_back_equal(image, mean, std, augment):
    value = Preprocessing(image, Normalize(mean, std), tuple(augment))
    assert Preprocessing.from_json(json.loads(json.dumps(value.to_json()))) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["augment"][0].update(name="Brightnes"), "preprocessing: operation 'Brightnes' is unknown: did you mean 'Brightness'?"),
        (lambda value: value["normalize"].update(means=1), "preprocessing: Normalize: unknown field 'means': did you mean 'mean'? allowed: 'mean', 'std'"),
        (lambda value: value.pop("image"), "preprocessing: the field 'image' is missing"),
        (lambda value: value["image"].pop("size"), "preprocessing: ImageFormat: the field 'size' is missing"),
    ],
)
def test_a_damaged_description_is_refused_by_field(change, message):
    value = EVERYTHING.to_json()
    change(value)
    with pytest.raises(DataError) as error:
        Preprocessing.from_json(value)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop(0.0), "min_area must be above 0 and at most 1"),
        (lambda: HorizontalFlip(1.5), "probability must lie in 0..1"),
        (lambda: Brightness(-0.1), "Brightness(amount=-0.1): amount must lie in 0..1"),
        (lambda: Contrast(2.0), "Contrast(amount=2.0): amount must lie in 0..1"),
        (lambda: Normalize((0.5, 0.5, 0.5), (0.5, 0.0, 0.5)), "three of each are needed, and std above 0"),
    ],
)
def test_impossible_operations_are_refused(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_the_configuration_turns_operations_on():
    assert augmentations(AugmentConfig()) == ()
    assert augmentations(AugmentConfig(crop_min_area=1.0, horizontal_flip=False)) == ()
    everything = augmentations(AugmentConfig(crop_min_area=0.5, horizontal_flip=True, brightness=0.1, contrast=0.2))
    assert everything == (RandomResizedCrop(0.5), HorizontalFlip(), Brightness(0.1), Contrast(0.2))
