"""Pictures that were cut short, as what is left of them: `data.bad_files="repair"`.

Nothing is made up. A JPEG file without its end keeps the lines that are there, where that is at least half of them; a progressive one is whole, and less sharp.
Every other damage (noise from a wrong code, a broken PNG or WebP) would have to be invented, and its file is left out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ftjax.data.dataset import Rows
from ftjax.data.decode import decode_cut_short
from ftjax.errors import DataError

_BEGIN, _END = b"\xff\xd8\xff", b"\xff\xd9"
_TAIL = 64
"""Bytes at the end of a whole JPEG file among which its end mark lies; some programs write a little behind it."""


def is_cut_short(data: bytes | np.ndarray) -> bool:
    """Whether these are the bytes of a JPEG file without its end."""
    return isinstance(data, bytes) and data.startswith(_BEGIN) and _END not in data.rstrip(b"\0")[-_TAIL:]


def repairing(rows: Rows, max_pixels: int) -> tuple[Rows, dict[str, str]]:
    """The same rows, of which those that were cut short are read as the pixels that are left of them.

    Returns:
      The rows, and by id what was done with each of them, filled in as they are read (from several threads).
    """
    told: dict[str, str] = {}

    def read(row: int) -> bytes | np.ndarray:
        data = rows.read(row)
        if not is_cut_short(data):
            return data
        try:
            found = decode_cut_short(bytes(data), max_pixels)
        except DataError:
            return data  # the strict decoder says what is wrong with it
        told[rows.ids[row]] = ", ".join(found.conversions)
        return found.pixels

    return dataclasses.replace(rows, read=read), told
