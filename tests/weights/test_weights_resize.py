"""Position embeddings on another grid: the class token stays, the same grid is the same table, and timm agrees."""

import numpy as np
import pytest

from ftjax.weights.resize import resize_positions

GRIDS = [((14, 14), (7, 7)), ((14, 14), (20, 20)), ((14, 14), (10, 17)), ((4, 6), (6, 4)), ((14, 14), (28, 7)), ((3, 3), (1, 5)), ((1, 1), (3, 2))]


def table(grid, width=8, seed=0):
    return np.random.default_rng(seed).normal(size=(1, 1 + grid[0] * grid[1], width)).astype(np.float32)


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_the_class_token_is_kept_and_the_shape_is_the_new_grids(old, new):
    before = table(old)
    after = resize_positions(before, old, new)
    assert after.shape == (1, 1 + new[0] * new[1], 8)
    assert after.dtype == np.float32
    np.testing.assert_array_equal(after[:, 0], before[:, 0])


def test_a_constant_table_stays_constant_and_a_ramp_keeps_its_direction():
    np.testing.assert_allclose(resize_positions(np.full((1, 17, 3), 2.5, np.float32), (4, 4), (7, 5)), 2.5, rtol=1e-6)
    rows = np.repeat(np.arange(6.0), 4)
    ramp = np.concatenate([[0.0], rows]).astype(np.float32).reshape(1, 25, 1)
    after = resize_positions(ramp, (6, 4), (12, 4))[0, 1:, 0].reshape(12, 4)
    assert (np.diff(after, axis=0) > 0).all()
    np.testing.assert_allclose(np.diff(after, axis=1), 0, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_resized_positions_equal_timms(old, new, timm):
    torch = pytest.importorskip("torch")
    before = table(old)
    theirs = timm.layers.pos_embed.resample_abs_pos_embed(torch.from_numpy(before), list(new), list(old)).numpy()
    np.testing.assert_allclose(resize_positions(before, old, new), theirs, atol=1e-4)
