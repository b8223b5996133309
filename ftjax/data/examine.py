"""What is kept of one picture: a pure function of its bytes, so that a thread or another process may work it out."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import UInt8

from ftjax.data.decode import decode
from ftjax.data.image_format import ImageFormat
from ftjax.data.near_images import thumbnail
from ftjax.data.order import pixel_hash


@dataclasses.dataclass(frozen=True, eq=False)
class Examined:
    """One picture that can be decoded.

    Attributes:
      size: height and width as it lies in its file.
      pixel_hash: equal for exact copies.
      conversions: what had to be converted.
      pixels: in the model's format, where that was asked for.
      thumbnail: where it was asked for and the picture is large enough.
    """

    size: tuple[int, int]
    pixel_hash: bytes
    conversions: tuple[str, ...]
    pixels: UInt8[np.ndarray, "h w 3"] | None
    thumbnail: UInt8[np.ndarray, "32 32"] | None


def examine(data: bytes | np.ndarray, image: ImageFormat | None, max_pixels: int, near: bool) -> Examined:
    """Decode a picture and keep what a pass over all rows needs of it.

    Args:
      data: see `decode`.
      image: the format of the pixels that are kept; None: none are.
      max_pixels: see `decode`.
      near: whether near duplicates are looked for.

    Raises:
      DataError, MemoryError: see `decode`.
    """
    decoded = decode(data, max_pixels)
    height, width = decoded.pixels.shape[:2]
    return Examined(
        (height, width),
        pixel_hash(decoded.pixels),
        decoded.conversions,
        None if image is None else image.fit(decoded.pixels),
        thumbnail(decoded.pixels) if near else None,
    )


def fitted(data: bytes | np.ndarray, image: ImageFormat, max_pixels: int) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a picture to the model's format.

    Raises:
      DataError, MemoryError: see `decode`.
    """
    return image.fit(decode(data, max_pixels).pixels)
