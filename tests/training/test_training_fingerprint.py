"""The fingerprint sees every flipped bit and every exchange, and is the same number on the host, the device and any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ftjax.errors import CheckpointError
from ftjax.training.fingerprint import fingerprint

DTYPES = ["float32", "bfloat16", "float16", "int8", "uint8", "int16", "int32", "uint32", "bool", "float8_e4m3fn"]


def random_bits(seed: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of arbitrary bits (NaNs and all) of a type; booleans are 0 or 1."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    target = jnp.dtype(dtype)
    return rng.integers(0, 256, (*shape, target.itemsize), dtype=np.uint8).view(target)[..., 0].copy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5, 2), (0, 4), (130, 513)])
def test_host_and_device_agree(dtype: str, shape: tuple[int, ...]):
    array = random_bits(0, shape, dtype)
    assert fingerprint(array) == fingerprint(jnp.asarray(array))


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64"])
def test_host_and_device_agree_on_64_bits(dtype: str):
    array = random_bits(1, (13, 9), dtype)
    with jax.enable_x64(True):
        assert fingerprint(array) == fingerprint(jnp.asarray(array))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "uint8"])
def test_every_single_bit_flip_changes_it(dtype: str):
    array = random_bits(2, (17, 33), dtype)
    good, rng = fingerprint(array), np.random.default_rng(3)
    for _ in range(500):
        damaged = array.copy()
        damaged.reshape(-1).view(np.uint8)[rng.integers(array.nbytes)] ^= np.uint8(1 << rng.integers(8))
        assert fingerprint(damaged) != good


def test_a_flipped_bit_changes_both_halves():
    array = random_bits(4, (64,), "float32")
    damaged = array.copy()
    damaged.view(np.uint32)[5] ^= np.uint32(1 << 31)
    assert fingerprint(array)[:8] != fingerprint(damaged)[:8]
    assert fingerprint(array)[8:] != fingerprint(damaged)[8:]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 199), st.integers(0, 199), st.integers(0, 2**32 - 1))
def test_exchanged_elements_change_it(i: int, j: int, seed: int):
    array = np.random.default_rng(seed).permutation(200).astype(np.int32)
    swapped = array.copy()
    swapped[[i, j]] = swapped[[j, i]]
    assert (fingerprint(swapped) == fingerprint(array)) == (i == j)


def test_exchanged_halves_of_a_64_bit_element_change_it():
    array = np.array([0x0000000100000002], np.uint64)
    assert fingerprint(array) != fingerprint(np.array([0x0000000200000001], np.uint64))


def test_position_counts_even_among_equal_zeros():
    a, b = np.zeros(100, np.float32), np.zeros(100, np.float32)
    a[3], b[4] = 1, 1
    assert fingerprint(a) != fingerprint(b)


@pytest.mark.parametrize("sizes", [(8, 1), (2, 4), (1, 8)])
@pytest.mark.parametrize("spec", [PartitionSpec(), PartitionSpec("x"), PartitionSpec("y", "x"), PartitionSpec(None, ("x", "y"))])
def test_it_is_the_same_on_any_mesh(sizes: tuple[int, int], spec: PartitionSpec):
    mesh = jax.make_mesh(sizes, ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    array = random_bits(5, (16, 24), "float32")
    assert fingerprint(jax.device_put(array, NamedSharding(mesh, spec))) == fingerprint(array)


def test_the_value_is_pinned():
    assert fingerprint(np.arange(10, dtype=np.float32)) == fingerprint(jnp.arange(10, dtype=jnp.float32)) == "04467134ecb4f6dc"


def test_what_has_no_plain_words_is_refused():
    with pytest.raises(CheckpointError, match=r"typed PRNG key \(key<fry>\) cannot be checkpointed; store its bits, jax.random.key_data\(key\)"):
        fingerprint(jax.random.key(0))
    with pytest.raises(CheckpointError, match="arrays of complex64 cannot be checkpointed; allowed: bool, integers and floats of 8 to 64 bits"):
        fingerprint(jnp.zeros(3, jnp.complex64))
    with pytest.raises(CheckpointError, match="arrays of int4 cannot"):
        fingerprint(jnp.zeros(4, jnp.int4))
