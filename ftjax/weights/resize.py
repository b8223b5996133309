"""Position embeddings for another grid of patches.

Antialiased Keys bicubic (a = -0.5), which is what timm's `resample_abs_pos_embed` asks of torch; `tests/weights` holds the two to 1e-4.
"""

from __future__ import annotations

import jax
import numpy as np

Grid = tuple[int, int]


def resize_positions(table: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """Interpolate the patches' rows of a table; the class token's row, which comes first, is kept.

    Args:
      table: `[1, 1 + old_height * old_width, width]`.
      old: rows and columns of patches in the table.
      new: rows and columns wanted.

    Returns:
      float32 `[1, 1 + new_height * new_width, width]`.
    """
    width = table.shape[-1]
    grid = np.asarray(table[0, 1:], np.float32).reshape(*old, width)
    resized = np.asarray(jax.image.resize(grid, (*new, width), method="cubic", antialias=True))
    return np.concatenate([np.asarray(table[:, :1], np.float32), resized.reshape(1, -1, width)], axis=1)
