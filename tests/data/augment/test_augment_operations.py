"""RandAugment and erasing: pure in (key, example), the identity where nothing is asked for, areas and frequencies as promised."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import AugmentConfig
from ftjax.data import Hue, ImageFormat, Mixing, Normalize, Preprocessing, RandAugment, RandomErasing, RandomResizedCrop, Saturation, augmentations, mixing
from ftjax.data.augment.rand_augment import OPERATIONS
from ftjax.errors import ConfigError

KEY = jax.random.key(5)
PICTURES = np.random.default_rng(1).integers(0, 256, (16, 12, 14, 3)).astype(np.uint8)
IMAGES = jnp.asarray(PICTURES, jnp.float32) / 255
EVERYTHING = Preprocessing(
    ImageFormat((12, 14)),
    Normalize((0.5,) * 3, (0.25,) * 3),
    (Saturation(0.4), Hue(0.1), RandAugment(1, 9.0), RandomErasing(0.5)),
    Mixing(0.2, 1.0),
    "crops_flip",
)
train = jax.jit(EVERYTHING.train, static_argnames="dtype")


def keys(count: int):
    return jax.random.split(KEY, count)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(16)))
def test_a_picture_is_the_same_whatever_the_batch_it_is_in(order):
    order = np.array(order, np.int32)
    together = np.asarray(train(PICTURES, KEY, jnp.arange(16)))
    np.testing.assert_allclose(np.asarray(train(PICTURES[order], KEY, order)), together[order], atol=1e-4)
    others = np.where(np.arange(16).reshape(-1, 1, 1, 1) == 2, PICTURES, 255 - PICTURES)
    np.testing.assert_allclose(np.asarray(train(others, KEY, jnp.arange(16)))[2], together[2], atol=1e-4)


def test_float64_sees_the_same_changes():
    with jax.enable_x64(True):
        wide = train(jnp.asarray(PICTURES), KEY, jnp.arange(16, dtype=jnp.int32), dtype=jnp.float64)
        assert wide.dtype == jnp.float64
    # A level that lies on the edge of two may be rounded to either.
    assert (np.abs(np.asarray(wide) - train(PICTURES, KEY, jnp.arange(16, dtype=jnp.int32))) > 1e-3).mean() < 0.02


@pytest.mark.parametrize("nothing", [RandAugment(0, 9.0), RandAugment(3, 0.0), RandomErasing(0.0)])
def test_nothing_asked_for_changes_nothing(nothing):
    np.testing.assert_array_equal(nothing(IMAGES, keys(16)), IMAGES)


def test_rand_augment_draws_every_operation_and_two_are_more_than_one():
    pictures = jnp.broadcast_to(IMAGES[:1], (400, *IMAGES.shape[1:]))
    once, twice = (np.asarray(jax.jit(RandAugment(count, 9.0))(pictures, keys(400))) for count in (1, 2))
    assert once.min() >= 0
    assert once.max() <= 1
    kinds = len(np.unique(once.round(3).reshape(400, -1), axis=0))
    # Identity, autocontrast (none here: the range is full), equalize, solarize and posterize once, nine with two signs.
    assert len(OPERATIONS) + 5 <= kinds <= len(OPERATIONS) + 9
    same = [(np.abs(found - np.asarray(pictures)).max(axis=(1, 2, 3)) < 1e-6).mean() for found in (once, twice)]
    assert 1 / 14 - 0.05 < same[0] < 2 / 14 + 0.05
    assert same[1] < same[0] / 2


@pytest.mark.parametrize("size", [(30, 30), (20, 60), (50, 16)])
def test_an_erased_rectangle_has_an_area_and_sides_within_bounds(size):
    """Noise never equals 2, so what is left shows the rectangle."""
    erased = np.asarray(jax.jit(RandomErasing(1.0))(jnp.full((300, *size, 3), 2.0, jnp.float32), keys(300))) != 2
    assert (erased == erased[..., :1]).all()
    heights, widths = erased[..., 0].any(axis=2).sum(axis=1), erased[..., 0].any(axis=1).sum(axis=1)
    areas = erased[..., 0].sum(axis=(1, 2))
    np.testing.assert_array_equal(areas, heights * widths)
    slack = (heights + widths) / 2 + 1  # a half pixel of rounding at each side
    assert (areas >= 0.02 * size[0] * size[1] - slack).all()
    assert (areas <= 0.4 * size[0] * size[1] + slack).all()
    assert np.ptp(areas) > 0.3 * size[0] * size[1]
    ratios = heights / widths
    assert (ratios <= (heights + 0.5) / (widths - 0.5).clip(0.5)).all()
    assert ((heights + 0.5) / (widths - 0.5).clip(0.5) >= 0.3).all()
    assert ((heights - 0.5) / (widths + 0.5) <= 1 / 0.3).all()
    assert ratios.min() < 0.6
    assert ratios.max() > 1.7


def test_erasing_hits_the_share_of_pictures_that_is_asked_for_with_noise():
    found = np.asarray(jax.jit(RandomErasing(0.25))(jnp.full((800, 8, 8, 3), 2.0, jnp.float32), keys(800)))
    hit = (found != 2).any(axis=(1, 2, 3))
    assert 0.2 < hit.mean() < 0.3
    noise = found[found != 2]
    assert 0.45 < noise.mean() < 0.55
    assert noise.min() >= 0
    assert noise.max() < 1


def test_what_is_saved_comes_back_equal_and_older_descriptions_are_read():
    saved = json.loads(json.dumps(EVERYTHING.to_json()))
    assert Preprocessing.from_json(saved) == EVERYTHING
    older = {key: value for key, value in saved.items() if key not in ("mixing", "views")}
    found = Preprocessing.from_json(older)
    assert (found.mixing, found.views, found.augment) == (None, "one", EVERYTHING.augment)


def test_the_configuration_turns_operations_on():
    config = AugmentConfig(crop_min_area=0.5, saturation=0.4, hue=0.1, rand_augment=2, rand_magnitude=7.0, erasing=0.25, mixup=0.2, cutmix=1.0)
    assert augmentations(config) == (RandomResizedCrop(0.5), Saturation(0.4), Hue(0.1), RandAugment(2, 7.0), RandomErasing(0.25))
    assert mixing(config) == Mixing(0.2, 1.0)
    assert mixing(AugmentConfig()) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandAugment(2, 11.0), "RandAugment(operations=2, magnitude=11.0): operations must be 0 or more and magnitude lie in 0..10"),
        (lambda: RandAugment(-1, 9.0), "RandAugment(operations=-1, magnitude=9.0): operations must be 0 or more and magnitude lie in 0..10"),
        (lambda: RandomErasing(1.2), "probability must lie in 0..1"),
        (lambda: RandomErasing(0.5, 0.5, 0.4), "areas must satisfy 0 < min_area <= max_area <= 1, and min_ratio lie above 0 and be at most 1"),
        (lambda: Mixing(), "both alphas must be 0 or more, and one of them above 0"),
        (lambda: Mixing(-0.1, 1.0), "both alphas must be 0 or more, and one of them above 0"),
        (
            lambda: Preprocessing(ImageFormat((2, 2)), EVERYTHING.normalize, views="flips"),
            "evaluation.views='flips': did you mean 'flip'? allowed: 'crops', 'crops_flip', 'flip', 'one'",
        ),
    ],
)
def test_impossible_operations_are_refused(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)
