"""Small photos and folders that the tests make."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A random picture, different for every seed."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, form: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, form, **options)
    return file.getvalue()


def write_tree(root: Path, files: Mapping[str, bytes | int]) -> Path:
    """Write files below `root`; a number stands for the PNG of that random picture, a name that ends in / for an empty folder."""
    for name, content in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(content)) if isinstance(content, int) else content)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Mapping[str, bytes | int]], Path]:
    """`tree({"cats/a.png": 1})` makes that folder and returns it."""
    return lambda files: write_tree(tmp_path / "photos", files)


@pytest.fixture
def helpers() -> tuple[Callable[..., np.ndarray], Callable[..., bytes]]:
    """`(picture, encode)`."""
    return picture, encode
