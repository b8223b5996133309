"""What every test stands on: eight fake devices, strict promotion, warnings as errors, and the shared real data."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import tempfile
from collections.abc import Iterator
from pathlib import Path

# The same small models are compiled by many tests, in several processes; each program is compiled once for all of them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "ftjax-tests-compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest
from parity_timm import timm

from ftjax import distribution

__all__ = ["one_device", "shared_data", "timm"]

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights and data sets, or a skip that says how to name it."""
    folder = Path(os.environ.get("FTJAX_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
    if not (folder / "README.md").exists():
        pytest.skip(f"real weights and data are not at {folder}; set FTJAX_SHARED_DATA")
    return folder


@pytest.fixture(scope="module")
def one_device() -> Iterator[None]:
    """Whole runs on the first device alone: what they prove does not depend on the mesh, and a program for eight takes several times as long."""
    make_mesh = distribution.make_mesh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distribution, "make_mesh", lambda config, devices=None: make_mesh(config, devices or jax.devices()[:1]))
        yield
