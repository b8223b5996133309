"""The one tag of EXIF that changes pixels: which way up the camera was held. Read here because Pillow's reader warns about files instead of deciding."""

from __future__ import annotations

import struct

import numpy as np
from jaxtyping import UInt8

_HEADER = b"Exif\0\0"
_ORIENTATION = 274
_SHORT = 3


class UnreadableExif(ValueError):
    """The block is there but broken."""


def jpeg_exif(data: bytes) -> bytes:
    """The EXIF block of a JPEG file, empty where it has none: the first APP1 segment that says so, before the image data begin."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] not in (0xD9, 0xDA):
        if data[position + 1] == 0xFF:
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = data[position + 4 : position + 2 + length]
        if data[position + 1] == 0xE1 and body.startswith(_HEADER):
            return body
        position += 2 + length
    return b""


def orientation(exif: bytes) -> int:
    """The orientation 1 to 8 of an EXIF block (EXIF 2.3, tag 0x0112 of the first directory); 1 where it names none.

    Raises:
      UnreadableExif: the block is cut short or no TIFF structure.
    """
    body = exif.removeprefix(_HEADER)
    if not body:
        return 1
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    try:
        if order is None:
            raise UnreadableExif("no byte order")
        (start,) = struct.unpack_from(order + "I", body, 4)
        (count,) = struct.unpack_from(order + "H", body, start)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", body, start + 2 + 12 * entry)
            if tag == _ORIENTATION and kind == _SHORT:
                return value if 1 <= value <= 8 else 1
    except struct.error as error:
        raise UnreadableExif(str(error)) from error
    return 1


def upright(pixels: UInt8[np.ndarray, "h w 3"], value: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Turn and mirror pixels that were stored with orientation `value` so that up is up."""
    if value >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
