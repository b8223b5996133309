"""A file's bytes to RGB pixels: strict, bounded, and the same on every machine.

JPEG goes through simplejpeg (libjpeg-turbo, the same pixels as Pillow's and three times as fast, and damaged data are errors), PNG and WebP through
Pillow. What the content says counts, not the suffix. Colour profiles are not applied, as in timm and torchvision; EXIF orientation is.
"""

from __future__ import annotations

import dataclasses
import io
import struct

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ftjax.errors import DataError

_ORIENTATION = 274
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError, IndexError, KeyError, TypeError, MemoryError)
"""What Pillow and simplejpeg raise on damaged files."""


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """RGB pixels of one file and what had to be converted to get them ("palette", "16-bit", ...)."""

    pixels: UInt8[np.ndarray, "h w 3"]
    conversions: tuple[str, ...] = ()


def decode(data: bytes | np.ndarray, max_pixels: int) -> Decoded:
    """Decode one image to RGB.

    Grey becomes three equal channels. 16-bit values keep their high byte. Transparency is laid over white. CMYK is converted without a colour profile.
    Of an animation the first frame counts. Each such conversion is named in the result.

    Args:
      data: an encoded JPEG, PNG or WebP file, or pixels uint8 `[h w]`, `[h w 1]`, `[h w 3]`.
      max_pixels: larger images are refused from their header, before a pixel is decoded.

    Raises:
      DataError: not an image of these formats, damaged, cut short or too large. The message does not know the file's name.
    """
    if isinstance(data, np.ndarray):
        return _from_array(data, max_pixels)
    image = _open(data)
    _check_size(image.width, image.height, max_pixels)
    try:
        return _decode_opened(image, data)
    except _DAMAGE as error:
        raise DataError(f"damaged {image.format} file: {error}") from error


def _from_array(pixels: np.ndarray, max_pixels: int) -> Decoded:
    _check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    if pixels.ndim == 3 and pixels.shape[-1] == 3:
        return Decoded(pixels)
    grey = pixels.reshape(*pixels.shape[:2], 1)
    return Decoded(np.repeat(grey, 3, axis=-1), ("grey",))


def _open(data: bytes) -> Image.Image:
    """Read the header only. `Image.open` is left aside because its size limit is a global warning; ours follows in `decode`."""
    if not data:
        raise DataError("empty file (0 bytes)")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return PngImagePlugin.PngImageFile(io.BytesIO(data))
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    except _DAMAGE as error:
        raise DataError(f"damaged header: {error}") from error
    raise DataError(f"not a JPEG, PNG or WebP file (it begins with {data[:8]!r})")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DataError(f"{width} x {height} = {width * height} pixels, more than data.max_pixels={max_pixels} allows")
    if width * height == 0:
        raise DataError(f"{width} x {height} pixels: nothing to see")


def _decode_opened(image: Image.Image, data: bytes) -> Decoded:
    orientation, notes = _orientation(image)
    if getattr(image, "n_frames", 1) > 1 and image.format != "JPEG":
        notes.append("animation (first frame)")
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        notes += ["grey"] if image.mode == "L" else []
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    else:
        pixels = _by_pillow(image, notes)
    if orientation in _TURNS:
        notes.append("EXIF orientation")
        pixels = np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation]))
    return Decoded(pixels, tuple(notes))


def _orientation(image: Image.Image) -> tuple[int, list[str]]:
    """The EXIF orientation 1 to 8; a tag block that cannot be read does not make the pixels unusable, so it is only noted."""
    if "exif" not in image.info:
        return 1, []
    try:
        return int(image.getexif().get(_ORIENTATION, 1)), []
    except _DAMAGE:
        return 1, ["unreadable EXIF (ignored)"]


def _by_pillow(image: Image.Image, notes: list[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels of any mode as RGB; appends to `notes` what was converted."""
    if ";16" in str(image.tile):
        notes.append("16-bit")
    image.load()
    if image.mode.startswith("I"):
        grey = (np.clip(np.asarray(image), 0, 65535).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    named = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "CMYK": "CMYK"}
    if image.mode in named:
        notes.append(named[image.mode])
    if image.has_transparency_data:
        notes.append("transparency (over white)")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))
