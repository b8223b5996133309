"""A 64-bit fingerprint of an array's contents: what a checkpoint is checked against when it is opened.

Every 32-bit word `w` at position `p` of the array adds `mix_a(w + key(p))` to one wrapping uint32 sum and `mix_b(w ^ key(p))`
to another; the fingerprint is both sums. A sum has no order, so the value is the same on any mesh and sharding, on the host and on the device.
The mixes are bijections: changing one word *always* changes both sums, and other damage goes unnoticed with a chance of about 2**-64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ftjax.errors import CheckpointError

_POSITION = (16, 0x7FEB352D, 15, 0x846CA68B, 16)
_FIRST = (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16)
_SECOND = (16, 0x21F0AAAD, 15, 0xD35A2D97, 15)
"""Shifts and multipliers of three 32-bit finalisers: lowbias32 (C. Wellons, Hash Prospector), fmix32 of murmur3 (A. Appleby), and the search's later winner."""

_WORD_SEEDS = (0x9E3779B9, 0x3C6EF372)
"""Tell the low and the high word of a 64-bit element apart."""

_CHUNK = 1 << 16
"""Elements that the host works on at a time, so that the temporaries stay in cache."""


def fingerprint(array: jax.Array | np.ndarray) -> str:
    """The fingerprint as 16 hexadecimal digits, computed where the array lives.

    Args:
      array: of any shape and sharding; bool, integers and floats of 8 to 64 bits.

    Raises:
      CheckpointError: complex numbers, sub-byte integers, typed PRNG keys.
    """
    _check_dtype(array.dtype)
    if isinstance(array, np.ndarray):
        first, second = _host_sums(array)
    else:
        first, second = np.asarray(_device_sums(_mesh_of(array))(array)).tolist()
    return f"{first:08x}{second:08x}"


def _check_dtype(dtype: Any) -> None:
    """Refuse what has no plain words of 8, 16, 32 or 64 bits."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise CheckpointError(f"a typed PRNG key ({dtype}) cannot be checkpointed; store its bits, jax.random.key_data(key)")
    known = dtype == np.bool_ or jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    if not known or (dtype != np.bool_ and _bits(dtype) % 8):
        raise CheckpointError(f"arrays of {dtype} cannot be checkpointed; allowed: bool, integers and floats of 8 to 64 bits")


def _bits(dtype: Any) -> int:
    """Bits of one element."""
    return (jnp.finfo(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype)).bits


def _mix(value: Any, constants: tuple[int, ...]) -> Any:
    """A bijection of uint32 in which every input bit reaches every output bit; for NumPy and JAX arrays alike."""
    first, multiplier, second, other, third = constants
    value = (value ^ (value >> np.uint32(first))) * np.uint32(multiplier)
    value = (value ^ (value >> np.uint32(second))) * np.uint32(other)
    return value ^ (value >> np.uint32(third))


def _terms(word: Any, position: Any, seed: int) -> tuple[Any, Any]:
    """What the words at these positions add to both sums."""
    key = _mix(position + np.uint32(seed), _POSITION)
    return _mix(word + key, _FIRST), _mix(word ^ key, _SECOND)


def _mesh_of(array: jax.Array) -> Mesh | None:
    """The mesh that the array is spread over, if it is."""
    mesh = array.sharding.mesh if isinstance(array.sharding, NamedSharding) else None
    return mesh if isinstance(mesh, Mesh) else None


@functools.cache
def _device_sums(mesh: Mesh | None) -> Callable[[jax.Array], jax.Array]:
    """The jitted sums; on a mesh their result lies whole on every device, so that every process can read it."""
    if mesh is None:
        return jax.jit(_sums)
    return jax.jit(_sums, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _sums(array: jax.Array) -> jax.Array:
    """Both sums of an array on the device, as uint32 `[2]`; nothing is reshaped, so a sharded array stays where it is."""
    strides = [math.prod(array.shape[axis + 1 :]) % 2**32 for axis in range(array.ndim)]
    iotas = (jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis) * np.uint32(stride) for axis, stride in enumerate(strides))
    position = sum(iotas, start=jnp.zeros(array.shape, jnp.uint32))
    terms = [_terms(word, position, seed) for word, seed in zip(_device_words(array), _WORD_SEEDS, strict=False)]
    return jnp.stack([sum(jnp.sum(term[which], dtype=jnp.uint32) for term in terms) for which in range(2)])


def _device_words(array: jax.Array) -> list[jax.Array]:
    """The bits as one uint32 array of the same shape, or two (low, high) for 64-bit elements."""
    if array.dtype == jnp.bool_:
        return [array.astype(jnp.uint32)]
    bits = _bits(array.dtype)
    if bits == 64:
        pair = jax.lax.bitcast_convert_type(array, jnp.uint32)
        return [pair[..., 0], pair[..., 1]]
    return [jax.lax.bitcast_convert_type(array, f"uint{bits}").astype(jnp.uint32)]


def _host_sums(array: np.ndarray) -> tuple[int, int]:
    """Both sums of an array on the host, a chunk at a time."""
    flat = np.ascontiguousarray(array).reshape(-1)
    first = second = 0
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK]
        position = np.arange(start, start + chunk.size, dtype=np.uint64).astype(np.uint32)
        for word, seed in zip(_host_words(chunk), _WORD_SEEDS, strict=False):
            terms = _terms(word, position, seed)
            first += int(np.sum(terms[0], dtype=np.uint64))
            second += int(np.sum(terms[1], dtype=np.uint64))
    return first % 2**32, second % 2**32


def _host_words(chunk: np.ndarray) -> list[np.ndarray]:
    """`_device_words` for a flat NumPy array."""
    unsigned = chunk.view(f"uint{8 * chunk.dtype.itemsize}")
    if chunk.dtype.itemsize == 8:
        return [unsigned.astype(np.uint32), (unsigned >> np.uint64(32)).astype(np.uint32)]
    return [unsigned.astype(np.uint32)]
