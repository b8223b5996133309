"""How a picture becomes the array that a model sees: resize the shorter side, cut out the centre. The same for training, evaluation and prediction."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ftjax.errors import ConfigError, did_you_mean

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """Size `(height, width)` in pixels, filter, and the share of the resized picture that the centre crop keeps per side.

    Raises:
      ConfigError: a size below 1, an unknown filter, or a share outside (0, 1].
    """

    size: tuple[int, int]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ConfigError(f"image size {self.size}: height and width must be 1 or more")
        if self.interpolation not in _FILTERS:
            raise ConfigError(f"interpolation {self.interpolation!r}: {did_you_mean(self.interpolation, _FILTERS)}")
        if not 0.0 < self.crop_fraction <= 1.0:
            raise ConfigError(f"crop_fraction {self.crop_fraction}: allowed is above 0 and at most 1")

    def fit(self, pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Resize and centre-crop one picture, pixel for pixel as timm's evaluation transform does (Pillow filters, antialiased; small pictures grow).

        The target before the crop is `floor(size / crop_fraction)`. A square target sets the shorter side to it and the longer one to
        `int(target * longer / shorter)`; another target scales both sides by `min(height / target height, width / target width)`, rounded.
        """
        height, width = self._resized(*pixels.shape[:2])
        if (height, width) != pixels.shape[:2]:
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height), _FILTERS[self.interpolation]))
        top, left = round((height - self.size[0]) / 2.0), round((width - self.size[1]) / 2.0)
        return pixels[top : top + self.size[0], left : left + self.size[1]]

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize."""
        target_height, target_width = (math.floor(side / self.crop_fraction) for side in self.size)
        if target_height == target_width:
            if height <= width:
                return target_height, int(target_height * width / height)
            return int(target_width * height / width), target_width
        ratio = min(height / target_height, width / target_width)
        return round(height / ratio), round(width / ratio)
