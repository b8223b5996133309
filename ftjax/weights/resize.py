"""Position embeddings for another grid of patches, as the library that made them would bring them there.

timm: antialiased Keys bicubic (a = -0.5, its `resample_abs_pos_embed`); transformers: torch's plain bicubic (a = -0.75), not antialiased.
`tests/weights` holds each to its original.
"""

from __future__ import annotations

import jax
import numpy as np

Grid = tuple[int, int]


def resize_positions(table: np.ndarray, old: Grid, new: Grid, tokens: int = 1) -> np.ndarray:
    """Interpolate the patches' rows of a table as timm does; the rows of the class token (and others) before them are kept.

    Args:
      table: `[1, tokens + old_height * old_width, width]`.
      old: rows and columns of patches in the table.
      new: rows and columns wanted.
      tokens: how many rows are not of patches.

    Returns:
      float32 `[1, tokens + new_height * new_width, width]`.
    """
    grid = _grid(table, old, tokens)
    return _joined(table, np.asarray(jax.image.resize(grid, (*new, grid.shape[-1]), method="cubic", antialias=True)), tokens)


def interpolate_positions(table: np.ndarray, old: Grid, new: Grid, tokens: int = 1) -> np.ndarray:
    """The same as transformers does (`interpolate_pos_encoding`): torch's bicubic, without antialiasing."""
    rows, columns = _bicubic(old[0], new[0]), _bicubic(old[1], new[1])
    return _joined(table, np.einsum("rh,cw,hwd->rcd", rows, columns, _grid(table, old, tokens)), tokens)


def _grid(table: np.ndarray, grid: Grid, tokens: int) -> np.ndarray:
    return np.asarray(table[0, tokens:], np.float32).reshape(*grid, table.shape[-1])


def _joined(table: np.ndarray, grid: np.ndarray, tokens: int) -> np.ndarray:
    return np.concatenate([np.asarray(table[:, :tokens], np.float32), grid.reshape(1, -1, grid.shape[-1]).astype(np.float32)], axis=1)


def _bicubic(old: int, new: int) -> np.ndarray:
    """Weights `[new old]` of Keys' kernel with a = -0.75 over the four nearest, edges repeated, pixel centres aligned (`align_corners=False`)."""
    a = -0.75
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centres).astype(int) - 1
    weights = np.zeros((new, old))
    for offset in range(4):
        distance = np.abs(centres - (first + offset))
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        np.add.at(weights, (np.arange(new), np.clip(first + offset, 0, old - 1)), np.where(distance <= 1, near, far))
    return weights
