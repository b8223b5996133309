"""scikit-learn's handwritten digits: 1,797 grey pictures of 8 x 8 pixels that come with a dependency (UCI optical recognition of handwritten digits)."""

from __future__ import annotations

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows


def read_digits(config: DataConfig) -> Rows:
    """All digits, ids `digits/0000` to `digits/1796`; grey values 0..16 become 0..255. The data bring no splits."""
    import sklearn.datasets  # here because it takes a second that other sources need not pay

    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    pixels = np.round(np.reshape(images, (-1, 8, 8)) * (255.0 / 16.0)).astype(np.uint8)
    return Rows(
        where="digits",
        ids=tuple(f"digits/{row:04d}" for row in range(len(pixels))),
        labels=np.asarray(labels, np.int32),
        splits=("train",) * len(pixels),
        classes=tuple(str(digit) for digit in range(10)),
        read=lambda row: pixels[row],
        details={"layout": "no splits"},
    )
