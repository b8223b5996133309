"""What the ViT formats share: heads, image size and options from shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ftjax.errors import WeightsError
from ftjax.weights.source import Source

HEAD_SIZE = 64
"""Width of an attention head in every published plain ViT from Ti to L; fused tensors do not tell."""


def refuse_unsupported(source: Source, names: list[str], markers: Mapping[str, str], kind: str) -> None:
    """Refuse relatives of the plain ViT by the tensors that only they have.

    Raises:
      WeightsError: a tensor's name contains one of the markers.
    """
    for marker, what in markers.items():
        found = next((name for name in names if marker in name), None)
        if found is not None:
            raise WeightsError(f"{source.location}: {kind} with {what} ({found!r}) is not supported; allowed: a plain ViT with a class token")


def heads_of(source: Source, width: int) -> tuple[int, str]:
    """Number of attention heads and where it comes from: the metadata, else one per 64 of width.

    Raises:
      WeightsError: neither gives a number.
    """
    text = source.metadata.get("heads")
    if text is not None and text.isdigit() and int(text) and width % int(text) == 0:
        return int(text), "heads from the metadata"
    if text is not None or width % HEAD_SIZE:
        raise WeightsError(
            f"{source.location}: cannot tell the number of attention heads: width {width}, metadata heads={text!r}; "
            f"allowed: a width that is a multiple of {HEAD_SIZE}, or metadata 'heads' that divides the width"
        )
    return width // HEAD_SIZE, f"{width // HEAD_SIZE} heads: one per {HEAD_SIZE} of width, as in every timm ViT"


def image_size_of(source: Source, tokens: int, patch: tuple[int, int]) -> tuple[int, int]:
    """Height and width from the number of patches: the metadata `image_size` (`"HxW"`), else a square grid.

    Raises:
      WeightsError: the metadata do not fit, or the number of patches is not a square.
    """
    text = source.metadata.get("image_size", "")
    height, _, width = text.partition("x")
    if height.isdigit() and width.isdigit() and (int(height) // patch[0]) * (int(width) // patch[1]) == tokens:
        return int(height), int(width)
    side = math.isqrt(tokens)
    if text or side * side != tokens:
        raise WeightsError(
            f"{source.location}: cannot tell the image size: {tokens} patches of {patch[0]}x{patch[1]} pixels, metadata image_size={text!r}; "
            "allowed: a square grid, or metadata image_size='HEIGHTxWIDTH' that fits"
        )
    return side * patch[0], side * patch[1]


def ratio(hidden: int, width: int) -> float:
    """Hidden width of the MLP over the model's width."""
    return hidden / width


def square_patch(source: Source, height: int, width: int, channels: int) -> int:
    """Side of a patch.

    Raises:
      WeightsError: patches are not square, or images are not RGB.
    """
    if height != width or channels != 3:
        raise WeightsError(f"{source.location}: patches of {height}x{width} pixels and {channels} channels; allowed: square patches of RGB images")
    return height
