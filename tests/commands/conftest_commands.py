"""One small finished run that many tests read; it is trained once per test process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ftjax
from ftjax import Config, DataConfig, EvaluationConfig, MeshConfig, ModelConfig, ReportConfig, TrainConfig


def small_config(**changes) -> Config:
    """A few steps on the digits that come with scikit-learn, from random weights."""
    values = {
        "method": "scratch",
        "data": DataConfig(source="digits", labels_per_class=6),
        "model": ModelConfig(name="vit_digits"),
        "train": TrainConfig(duration="8 steps", batch_size=16, evaluate_every="4 steps", log_every="2 steps", checkpoint_every="4 steps"),
        "mesh": MeshConfig(data=1, fsdp=1, tensor=8),
        "evaluation": EvaluationConfig(baselines=("majority",), bootstrap=100),
        "report": ReportConfig(progress="none", thumbnails=4),
    }
    return Config(**(values | changes))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> ftjax.commands.workdir.Run:
    return ftjax.finetune(small_config(), tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="session")
def pretrained(finished) -> Path:
    """Weights for tests that fine-tune: those of the finished run."""
    return finished.workdir / "model" / "weights.safetensors"


@pytest.fixture(scope="session")
def arrays(tmp_path_factory) -> Path:
    """A small .npz of two classes that are easy to tell apart."""
    draw = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = (draw.integers(0, 80, (80, 8, 8, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    path = tmp_path_factory.mktemp("arrays") / "two.npz"
    np.savez(path, images=images, labels=np.array(["dark", "bright"])[labels])
    return path
