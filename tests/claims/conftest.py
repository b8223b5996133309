"""Makes `benchmarks` importable however pytest was started, and gives the claims' tests a model and data small enough to compile in seconds."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import jax
import numpy as np
import pytest
from claims_parts import BATCH, ROWS, SEEDS, STEPS, every_arm

from benchmarks.claims import arms, digits, population
from ftjax import models
from ftjax.models import ModelSpec


@pytest.fixture(scope="session")
def network() -> models.Model:
    """The claims' architecture with one head and one thin block."""
    return models.build(ModelSpec("vit", {"patch": 4, "width": 8, "depth": 1, "heads": 1, "mlp_ratio": 1.0}, digits.CLASSES, (digits.SIDE, digits.SIDE)))


@pytest.fixture(scope="session")
def seeds(network) -> population.Seeds:
    """Random pictures and labels."""
    random = np.random.default_rng(0)
    starts = {name: population.initial(SEEDS, salt, network) for salt, name in enumerate(("pretrained", "scratch"))}
    images = random.integers(0, 256, (SEEDS, ROWS, digits.SIDE, digits.SIDE)).astype(np.uint8)
    return population.Seeds(starts, images, random.integers(0, 10, (SEEDS, ROWS)).astype(np.int32), population.orders(SEEDS, ROWS, STEPS, BATCH))


@pytest.fixture(scope="session")
def people(network) -> population.Population:
    return population.Population(STEPS, network=network)


@pytest.fixture(scope="session")
def trained(people, seeds):
    """Every arm at two learning rates, in calls of one shape: `{arm: Trained}`."""
    every = (*every_arm(), arms.TENTH_BY_RATE)
    return {arm.name: jax.device_get(people.train([(arm, 1e-3), (arm, 1e-2)], seeds)) for arm in every}
