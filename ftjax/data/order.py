"""Deterministic order from names: every random choice about an example is a hash of its id and the seed.

So a choice depends on neither the order of files nor on which other examples there are, and it is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8


def rank(purpose: str, seed: int, name: str) -> tuple[bytes, str]:
    """A sort key that orders names at random: BLAKE2b of `purpose`, `seed` and `name`, then the name itself.

    Different purposes ("test", "validation", "sample") give independent orders of the same names.
    """
    text = f"{purpose}\0{seed}\0{name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest(), name


def uniform(purpose: str, seed: int, name: str) -> float:
    """A number in [0, 1) from the first 53 bits of `rank`, as if drawn at random for this name."""
    return (int.from_bytes(rank(purpose, seed, name)[0][:8], "big") >> 11) * 2.0**-53


def pixel_hash(pixels: UInt8[np.ndarray, "h w c"]) -> bytes:
    """BLAKE2b (128 bits) of the shape and the decoded pixels: equal for exact copies, whatever file they came in."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def fingerprint(rows: Iterable[tuple[str, str, bytes]]) -> str:
    """SHA-256 (hex) of all (id, label, pixel hash), whatever order they come in."""
    digest = hashlib.sha256()
    for name, label, pixels in sorted(rows):
        digest.update(f"{name}\0{label}\0{pixels.hex()}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
