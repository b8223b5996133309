"""Mixing: shares that are what was pasted, padding apart, the same numbers in any precision, and a loss that is cross-entropy to soft targets."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from ftjax.config import AugmentConfig, Config, TaskConfig, TrainConfig
from ftjax.data import HorizontalFlip, ImageFormat, Mixing, Normalize, Preprocessing, RandomErasing
from ftjax.data.augment.mixing import symmetric_beta
from ftjax.errors import ConfigError
from ftjax.tasks import Classification, check_task

KEY = jax.random.key(2)
BOTH = Mixing(0.4, 1.0)


def batch(rows: int, size: tuple[int, int] = (10, 14), weight: np.ndarray | None = None):
    """Row i is a picture of the level i, so that what a mixed pixel came from can be read off."""
    pixels = np.broadcast_to(np.arange(rows, dtype=np.uint8).reshape(-1, 1, 1, 1), (rows, *size, 3))
    ones = np.ones(rows, np.float32) if weight is None else weight.astype(np.float32)
    return {"image": pixels, "label": np.arange(rows, dtype=np.int32) % 3, "weight": ones, "id": np.arange(rows, dtype=np.int32) + 100}


def plain(mixing, *operations):
    return Preprocessing(ImageFormat((10, 14)), Normalize((0.0,) * 3, (1 / 255,) * 3), operations, mixing)


def both_halves(preprocessing, given, key=KEY):
    """The batch with partners, and the levels of the mixed pictures."""
    paired, levels = compiled(preprocessing)(given, key)
    return jax.device_get(paired), np.asarray(levels)


@functools.cache
def compiled(preprocessing):
    def halves(given, key):
        paired = preprocessing.training_batch(given, key)
        return paired, preprocessing.training_inputs(paired, key)

    return jax.jit(halves)


def test_mixup_is_the_share_of_each_picture():
    paired, levels = both_halves(plain(Mixing(mixup=0.4)), batch(200))
    own, other, share = np.arange(200), paired["id_b"] - 100, paired["mix"]
    np.testing.assert_array_equal(paired["label_b"], other % 3)
    assert (other != own).all()
    assert len(set(other.tolist())) == 200
    np.testing.assert_allclose(levels, np.broadcast_to((share * own + (1 - share) * other).reshape(-1, 1, 1, 1), levels.shape), atol=1e-3)
    assert share.min() >= 0
    assert share.max() <= 1
    assert np.ptp(share) > 0.9


@pytest.mark.parametrize("size", [(10, 14), (7, 5)])
def test_the_share_of_cutmix_is_exactly_the_area_that_was_not_pasted(size):
    paired, levels = both_halves(plain(Mixing(cutmix=1.0)), batch(250, size))
    own, other = np.arange(250), paired["id_b"] - 100
    kept = np.abs(levels[..., 0] - own.reshape(-1, 1, 1)) < 1e-3
    assert (kept | (np.abs(levels[..., 0] - other.reshape(-1, 1, 1)) < 1e-3)).all()
    np.testing.assert_allclose(paired["mix"], kept.mean(axis=(1, 2)), atol=1e-6)
    pasted = ~kept
    np.testing.assert_array_equal(pasted.sum(axis=(1, 2)), pasted.any(axis=1).sum(axis=1) * pasted.any(axis=2).sum(axis=1))
    assert np.ptp(paired["mix"]) > 0.6


def test_with_both_on_about_half_of_the_rows_are_pasted():
    paired, levels = both_halves(plain(BOTH), batch(250))
    flat = np.ptp(levels, axis=(1, 2, 3)) < 1e-3
    boxes = (paired["box"][:, 2:] > paired["box"][:, :2]).all(axis=1)
    assert (flat | boxes).all()
    assert 0.35 < boxes.mean() < 0.55


def test_a_row_of_padding_is_nobody_s_partner_and_has_none():
    weight = np.array([1, 1, 0, 1, 1, 0, 1, 1])
    mixed = []
    for seed in range(8):
        paired, levels = both_halves(plain(BOTH), batch(8, weight=weight), jax.random.key(seed))
        other = paired["id_b"] - 100
        alone = (weight == 0) | (weight[other] == 0)
        assert alone.sum() >= 2
        assert (paired["mix"][alone] == 1).all()
        np.testing.assert_array_equal(levels[alone], np.broadcast_to(np.arange(8)[alone].reshape(-1, 1, 1, 1), levels[alone].shape))
        mixed += (paired["mix"][~alone] < 1).tolist()
    assert np.mean(mixed) > 0.8  # a rectangle of CutMix may be empty


def test_a_partner_is_changed_as_it_is_in_its_own_row():
    given = batch(16) | {"image": np.random.default_rng(0).integers(0, 256, (16, 10, 14, 3)).astype(np.uint8)}
    preprocessing = plain(Mixing(mixup=1.0), HorizontalFlip(), RandomErasing(0.5))
    paired, mixed = both_halves(preprocessing, given)
    alone = np.asarray(jax.jit(preprocessing.train)(given["image"], KEY, given["id"]))
    share = paired["mix"].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(mixed, share * alone + (1 - share) * alone[paired["id_b"] - 100], atol=1e-2)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_drawn_from_beta(alpha):
    found = np.asarray(jax.jit(jax.vmap(lambda draw: symmetric_beta(draw, jnp.float32(alpha))))(jax.random.uniform(KEY, (4000, 2))))
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.01, 0.2, 4.0])
def test_the_ends_of_the_draws_are_shares_too(alpha):
    ends = [float(symmetric_beta(jnp.array([u, v], jnp.float32), jnp.float32(alpha))) for u in (0.0, 1 - 2**-24) for v in (0.1, 0.4)]
    assert ends[:2] == [1.0, 0.0]
    assert all(0 <= share <= 1 for share in ends)


def test_float64_mixes_the_same():
    narrow = both_halves(plain(BOTH), batch(32))[0]
    with jax.enable_x64(True):
        wide = both_halves(plain(BOTH), batch(32))[0]
    for name in ("id_b", "label_b", "mix", "box"):
        assert wide[name].dtype == narrow[name].dtype
        np.testing.assert_array_equal(wide[name], narrow[name])


def test_the_loss_is_cross_entropy_to_mixed_targets_and_the_larger_share_counts_as_the_answer():
    draw = np.random.default_rng(3)
    logits, label, other = draw.normal(size=(9, 3)).astype(np.float32), draw.integers(0, 3, 9), draw.integers(0, 3, 9)
    share, weight = draw.random(9).astype(np.float32), np.array([1, 1, 0, 1, 2, 1, 0, 1, 1], np.float32)
    soft = share[:, None] * np.eye(3)[label] + (1 - share[:, None]) * np.eye(3)[other]
    np.testing.assert_allclose(soft.sum(axis=1), 1.0, rtol=1e-6)
    given = {"label": jnp.asarray(label), "label_b": jnp.asarray(other), "mix": jnp.asarray(share), "weight": jnp.asarray(weight)}
    spoiled = given | {"label_b": given["label_b"].at[2].set(99), "mix": given["mix"].at[6].set(jnp.nan)}
    expected = (weight * optax.softmax_cross_entropy(jnp.asarray(logits), optax.smooth_labels(jnp.asarray(soft), 0.1))).sum()
    hits = (weight * (logits.argmax(axis=1) == np.where(share >= 0.5, label, other))).sum()
    for rows in (given, spoiled):
        loss, total, sums = Classification(("a", "b", "c")).loss(jnp.asarray(logits), rows, {"label_smoothing": 0.1})
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert float(total) == weight.sum()
        assert float(sums["accuracy"][0]) == pytest.approx(hits)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            Config(augment=AugmentConfig(mixup=0.2), task=TaskConfig(name="multi_label")),
            "augment.mixup=0.2 mixes the labels of two pictures, which multi_label does not know; only classification does: leave it 0",
        ),
        (
            Config(augment=AugmentConfig(cutmix=1.0), train=TrainConfig(batch_size=1)),
            "augment.cutmix=1 mixes a picture with another one of its batch, and train.batch_size=1 has no other; allowed: 2 or more",
        ),
    ],
)
def test_mixing_without_labels_or_partners_is_refused(config, message):
    with pytest.raises(ConfigError) as error:
        check_task(config)
    assert str(error.value) == message


def test_a_batch_of_one_row_is_refused_in_the_step_too():
    with pytest.raises(ConfigError, match=r"^augment\.mixup and augment\.cutmix mix a row with another one of its batch, and there is none"):
        BOTH.paired(batch(1), KEY)
