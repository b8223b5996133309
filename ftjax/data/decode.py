"""A file's bytes to RGB pixels: strict, bounded, and the same on every machine.

JPEG goes through simplejpeg (libjpeg-turbo: the same pixels as Pillow's, faster, and damaged data are errors), PNG, WebP and CMYK through Pillow.
What the content says counts, not the suffix. Colour profiles are not applied, as in timm and torchvision; EXIF orientation is.
"""

from __future__ import annotations

import dataclasses
import io
import struct
from importlib.metadata import version

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ftjax.data.exif import UnreadableExif, jpeg_exif, orientation, upright
from ftjax.errors import DataError

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_NAMES = {"1": "black and white", "L": "grey", "LA": "grey", "P": "palette", "CMYK": "CMYK"}
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError, IndexError, KeyError, TypeError)
"""What Pillow and simplejpeg raise on damaged files. MemoryError is none of them: it says nothing about the file."""


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """RGB pixels of one file and what had to be converted to get them ("palette", "16-bit", ...)."""

    pixels: UInt8[np.ndarray, "h w 3"]
    conversions: tuple[str, ...] = ()


def decoders() -> dict[str, str]:
    """The libraries that pixels come from and their versions: with another one, nothing that was kept of decoded pictures may be used."""
    return {name: version(name) for name in ("simplejpeg", "pillow")}


def decode(data: bytes | np.ndarray, max_pixels: int) -> Decoded:
    """Decode one image to RGB.

    Grey becomes three equal channels. 16-bit values keep their high byte. Transparency is laid over white. CMYK is converted without a colour profile.
    Of an animation the first frame counts. Each such conversion is named in the result.

    Args:
      data: an encoded JPEG, PNG or WebP file, or pixels uint8 `[h w]`, `[h w 1]`, `[h w 3]`.
      max_pixels: larger images are refused from their header, before a pixel is decoded.

    Raises:
      DataError: not an image of these formats, damaged, cut short or too large. The message does not know the file's name.
      MemoryError: there is not enough memory now; whether the file is whole is not known.
    """
    if isinstance(data, np.ndarray):
        return _from_array(data, max_pixels)
    if data.startswith(_JPEG):
        return _from_jpeg(data, max_pixels)
    return _by_pillow(data, max_pixels)


def decode_cut_short(data: bytes, max_pixels: int) -> Decoded:
    """What is left of a JPEG file whose end is missing, as RGB.

    The decoder goes on below the place where a file ends with blocks of one colour. A row of blocks is at most 16 lines high, so the lines from the last one
    that has more than one colour are gone, rounded up to whole rows, and one row more, for the last one that is there may be there in part; and one line, whose
    colours are interpolated with those below.
    A progressive file has all its lines early, and gains sharpness until its end.

    Raises:
      DataError: less than half of the lines is left, or the file is damaged otherwise.
    """
    image, pixels, notes = _ended(data, max_pixels)
    if image.info.get("progressive"):
        return _upright(pixels, jpeg_exif(data), [*notes, "cut short: less sharp than it was"])
    plain = (pixels == pixels[-1:, :1]).all(axis=(1, 2))
    lines = len(pixels) if not plain[-1] else len(pixels) - int(np.argmin(plain[::-1])) if not plain.all() else 0
    kept = max(0, 16 * ((lines - 1) // 16 - 1) - 1)
    if 2 * kept < len(pixels):
        raise DataError(f"cut short: {kept} of {len(pixels)} lines are left")
    return _upright(pixels[:kept], jpeg_exif(data), [*notes, f"cut short: {kept} of {len(pixels)} lines are left"])


def _ended(data: bytes, max_pixels: int) -> tuple[Image.Image, UInt8[np.ndarray, "h w 3"], list[str]]:
    """A JPEG file with an end put to it; its last bytes are given up where they begin something that is not there."""
    reason: Exception | None = None
    for spare in (0, 16, 256):
        image = _open(data[: len(data) - spare] + b"\xff\xd9")
        _check_size(image.width, image.height, max_pixels)
        try:
            return image, *_to_rgb(image)
        except _DAMAGE as error:
            reason = error
    raise DataError(f"damaged JPEG file: {reason}") from reason


def _from_array(pixels: np.ndarray, max_pixels: int) -> Decoded:
    _check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    if pixels.ndim == 3 and pixels.shape[-1] == 3:
        return Decoded(pixels)
    grey = pixels.reshape(*pixels.shape[:2], 1)
    return Decoded(np.repeat(grey, 3, axis=-1), ("grey",))


def _from_jpeg(data: bytes, max_pixels: int) -> Decoded:
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    except _DAMAGE as error:
        if "subsampling" in str(error):  # legal but rare; turbojpeg's own interface has no name for it, libjpeg reads it
            return _by_pillow(data, max_pixels)
        raise DataError(f"damaged header of a JPEG file: {error}") from error
    _check_size(int(width), int(height), max_pixels)
    if space in ("CMYK", "YCCK"):
        return _by_pillow(data, max_pixels)
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except _DAMAGE as error:
        raise DataError(f"damaged JPEG file: {error}") from error
    return _upright(pixels, jpeg_exif(data), ["grey"] if space == "Gray" else [])


def _by_pillow(data: bytes, max_pixels: int) -> Decoded:
    image = _open(data)
    _check_size(image.width, image.height, max_pixels)
    try:
        pixels, notes = _to_rgb(image)
    except _DAMAGE as error:
        raise DataError(f"damaged {image.format} file: {error}") from error
    exif = jpeg_exif(data) if image.format == "JPEG" else image.info.get("exif", b"")
    return _upright(pixels, exif, notes)


def _open(data: bytes) -> Image.Image:
    """Read the header only. `Image.open` is left aside because its size limit is a global warning; ours follows."""
    if not data:
        raise DataError("empty file (0 bytes)")
    try:
        if data.startswith(_JPEG):
            return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        if data.startswith(_PNG):
            return PngImagePlugin.PngImageFile(io.BytesIO(data))
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    except Image.DecompressionBombError as error:  # WebP's reader asks for itself
        raise DataError(f"more pixels than Pillow reads of such a file: {error}") from error
    except _DAMAGE as error:
        raise DataError(f"damaged header: {error}") from error
    raise DataError(f"not a JPEG, PNG or WebP file (it begins with {data[:8]!r})")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DataError(f"{width} x {height} = {width * height} pixels, more than data.max_pixels={max_pixels} allows")
    if width * height == 0:
        raise DataError(f"{width} x {height} pixels: nothing to see")


def _upright(pixels: UInt8[np.ndarray, "h w 3"], exif: bytes, notes: list[str]) -> Decoded:
    """Apply the orientation; a block that cannot be read does not make the pixels unusable, so it is only noted."""
    try:
        turned = orientation(exif)
    except UnreadableExif:
        return Decoded(pixels, (*notes, "unreadable EXIF (ignored)"))
    if turned == 1:
        return Decoded(pixels, tuple(notes))
    return Decoded(upright(pixels, turned), (*notes, "EXIF orientation"))


def _to_rgb(image: Image.Image) -> tuple[UInt8[np.ndarray, "h w 3"], list[str]]:
    """Pixels of any mode as RGB, and what was converted."""
    notes = ["animation (first frame)"] if getattr(image, "n_frames", 1) > 1 else []
    if ";16" in str(getattr(image, "tile", "")):
        notes.append("16-bit")
    image.load()
    if image.mode.startswith("I"):
        grey = (np.clip(np.asarray(image), 0, 65535).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1), notes
    if image.mode in _NAMES:
        notes.append(_NAMES[image.mode])
    if image.has_transparency_data:
        notes.append("transparency (over white)")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB")), notes
