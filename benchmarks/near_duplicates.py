"""How many changed copies of real photos the near-duplicate check finds, and how long it takes.

    FTJAX_SHARED_DATA=... python benchmarks/near_duplicates.py

Every photo of a set gets one copy per change; a copy counts as found when the pair (photo, copy) is among the pairs at the default threshold, and a pair of
two different photos counts as false unless it is there without any copies. Then 10,000 random pictures and texts are timed.
"""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ftjax.config import DataConfig
from ftjax.data.decode import decode
from ftjax.data.near_images import Signatures, find_images
from ftjax.data.near_texts import find_texts
from ftjax.data.sources import read_source

SETS = ("sign_digits", "eurosat", "ants_bees", "cifar10_jpg")
MOST = 800


def _jpeg(pixels, quality=30):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def _scaled(pixels, factor):
    height, width = (max(32, round(side * factor)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _cut(pixels, share):
    top, left = (max(1, round(side * share)) for side in pixels.shape[:2])
    return _scaled(pixels[top:-top, left:-left], 1.0)


CHANGES = {
    "JPEG quality 30": _jpeg,
    "0.7 of the size": lambda pixels: _scaled(pixels, 0.7),
    "twice the size": lambda pixels: _scaled(pixels, 2.0),
    "a fifth brighter": lambda pixels: np.clip(pixels * 1.2 + 10, 0, 255).astype(np.uint8),
    "noise of 8 levels": lambda pixels: np.clip(pixels + np.random.default_rng(0).normal(0, 8, pixels.shape), 0, 255).astype(np.uint8),
    "3% cut off each side": lambda pixels: _cut(pixels, 0.03),
    "6% cut off each side": lambda pixels: _cut(pixels, 0.06),
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
}


def planted(name, root):
    """change -> (share found, false pairs) of at most 800 photos of a set."""
    config = DataConfig(source="image_folder", path=str(root / "images" / name))
    rows = read_source(config)
    some = np.random.default_rng(0).permutation(len(rows))[:MOST]
    photos = [decode(rows.read(int(row)), 10**9).pixels for row in some]
    alone = _pairs(photos, config)
    found = {}
    for change, function in CHANGES.items():
        pairs = _pairs([*photos, *map(function, photos)], config)
        right = sum((row, row + len(photos)) in pairs for row in range(len(photos)))
        different = {(left % len(photos), other % len(photos)) for left, other in pairs if left % len(photos) != other % len(photos)}
        found[change] = (right / len(photos), len({tuple(sorted(pair)) for pair in different} - alone))
    return found


def _pairs(photos, config):
    signatures = Signatures.empty(len(photos))
    for row, pixels in enumerate(photos):
        signatures.put(row, pixels)
    pairs = find_images(signatures, [b"%d" % row for row in range(len(photos))], config.near_image_similarity).pairs
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def timed(rows=10_000):
    """Seconds of three repetitions: greys of 32-pixel pictures in one thread, their comparison, and that of ten-word texts."""
    chance = np.random.default_rng(0)
    pixels, names = chance.integers(0, 256, (rows, 32, 32, 3)).astype(np.uint8), [b"%d" % row for row in range(rows)]
    words = ["".join(map(chr, chance.integers(97, 123, chance.integers(2, 9)))) for _ in range(2000)]
    texts = [" ".join(chance.choice(words, 10)) for _ in range(rows)]
    for _ in range(3):
        began = time.perf_counter()
        signatures = Signatures.empty(rows)
        for row in range(rows):
            signatures.put(row, pixels[row])
        read = time.perf_counter()
        find_images(signatures, names, 0.95)
        compared = time.perf_counter()
        find_texts([texts], names, 0.8)
        yield read - began, compared - read, time.perf_counter() - compared


def main():
    root = Path(os.environ["FTJAX_SHARED_DATA"])
    results = {name: planted(name, root) for name in SETS}
    print("| change | " + " | ".join(SETS) + " |\n|---|" + "---|" * len(SETS))
    for change in CHANGES:
        print(f"| {change} | " + " | ".join(f"{results[name][change][0]:.3f} ({results[name][change][1]})" for name in SETS) + " |")
    for grey, pictures, texts in timed():
        print(f"10,000 pictures: greys {grey:.2f} s, comparison {pictures:.2f} s; 10,000 texts: {texts:.2f} s")


if __name__ == "__main__":
    main()
