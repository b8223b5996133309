"""What every test stands on: eight fake devices, strict promotion, warnings as errors, and the shared real data."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights and data sets, or a skip that says how to name it."""
    folder = Path(os.environ.get("FTJAX_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
    if not (folder / "README.md").exists():
        pytest.skip(f"real weights and data are not at {folder}; set FTJAX_SHARED_DATA")
    return folder
