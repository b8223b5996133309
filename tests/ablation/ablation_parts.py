"""A tiny pretrained vision transformer and pictures that it can learn, so that whole ablations take seconds."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ftjax import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ReportConfig,
    TrainConfig,
    configuration,
    models,
    trees,
)
from ftjax.ablation import grid, grouping
from ftjax.ablation.grouping import Group
from ftjax.ablation.parts import run_group
from ftjax.ablation.running import Edges, Options
from ftjax.ablation.spec import Ablation, Search
from ftjax.models import ModelSpec
from ftjax.weights import save_safetensors

SPEC = ModelSpec("vit", {"patch": 4, "width": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0}, 5, (8, 8))


def write_files(folder: Path) -> None:
    """`weights.safetensors` and `pictures.npz`."""
    params, _ = models.build(SPEC).init(jax.random.key(7))
    metadata = {"format": "ftjax", "spec": json.dumps(SPEC.to_json())}
    save_safetensors(folder / "weights.safetensors", {path: np.asarray(leaf) for path, leaf in trees.flatten(params).items()}, metadata)
    draw = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = (draw.integers(0, 120, (120, 8, 8, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(folder / "pictures.npz", images=images, labels=np.array(["dark", "grey", "bright"])[labels])


def config(folder: Path, **changes: Any) -> Config:
    """Twelve steps of plain descent, so that rounding stays rounding."""
    made = Config(
        data=DataConfig(source="npz", path=str(folder / "pictures.npz"), near_duplicates="off"),
        model=ModelConfig(pretrained=str(folder / "weights.safetensors")),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
        train=TrainConfig(duration="12 steps", batch_size=16, evaluate_every="4 steps", checkpoint_every="4 steps", log_every="4 steps"),
        evaluation=EvaluationConfig(baselines=(), bootstrap=50),
        report=ReportConfig(progress="none"),
    )
    return configuration.replace(made, changes)


def groups_of(ablation: Ablation) -> list[Group]:
    """Its groups, prepared."""
    assert ablation.base is not None
    return grouping.groups(configuration.resolve(None, {}, ablation.base), grid.members(ablation))


def run(group: Group, folder: Path, stop: threading.Event | None = None, search: Search | None = None, **options: Any) -> list[dict[str, Any]]:
    """Train a group on the first device."""
    chosen = Options(**({"devices": (jax.devices()[0],)} | options))
    return run_group(group, chosen, Edges(folder, lambda text: None, stop or threading.Event(), search=search or Search()))
