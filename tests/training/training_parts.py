"""A small vision transformer with everything a step needs, built without files."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import coefficients, models, trees
from ftjax.config import AnchorConfig, CoefficientConfig, Config, OptimizerConfig
from ftjax.data import ImageFormat, Mixing, Normalize, Preprocessing
from ftjax.durations import Clock
from ftjax.models import ModelSpec
from ftjax.tasks import Classification
from ftjax.training.state import TrainState, create_state
from ftjax.training.step import StepParts

CLASSES = ("a", "b", "c")
CLOCK = Clock(batch_size=16, examples_per_epoch=64, total_steps=20)


def config(rules: Any = None, anchor: AnchorConfig | None = None, **optimizer: Any) -> Config:
    values = {"learning_rate": 1e-2, "weight_decay": 0.1} | optimizer
    return Config(optimizer=OptimizerConfig(**values), coefficient=CoefficientConfig(rules=rules), anchor=anchor or AnchorConfig())


def build(
    settings: Config,
    *,
    depth: int = 2,
    microbatches: int = 1,
    dtype: Any = jnp.float32,
    augment: tuple = (),
    mixing: Mixing | None = None,
    averages: tuple = (),
) -> tuple[StepParts, TrainState, Any, Any]:
    """(parts, state, hyper, model) of a ViT with 16 x 16 pixels."""
    spec = ModelSpec("vit", {"patch": 8, "width": 32, "depth": depth, "heads": 4, "mlp_ratio": 2.0}, len(CLASSES), (16, 16))
    model = models.build(spec)
    params, extra = model.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(params).items()}
    table = coefficients.build_table(settings, shapes, model.groups, model.group_of, CLOCK, new=())
    preprocessing = Preprocessing(ImageFormat((16, 16)), Normalize((0.5,) * 3, (0.5,) * 3), augment, mixing)
    rows = {row.path: row for row in table.rows}
    parts = StepParts(
        model,
        Classification(CLASSES),
        preprocessing,
        coefficients.chain(table, settings, CLOCK),
        microbatches,
        sam=functools.partial(coefficients.moving, rows=rows) if settings.optimizer.sam is not None else None,
        mixout=functools.partial(coefficients.mixout, rows=rows) if settings.anchor.mixout is not None else None,
        averages=averages,
        swa_start=2,
        bounded=coefficients.bounded(table, settings, CLOCK),
    )
    state = create_state(params, extra, table.live_paths, parts.optimizer, averages)
    hyper = coefficients.default_hyper(settings) | ({"ema_decay": jnp.array(0.999)} if "ema" in averages else {})
    return parts, state, hyper, model


def batch(step: int = 0, size: int = 16, weight: np.ndarray | None = None) -> dict[str, Any]:
    """Random pixels and labels that depend on the step."""
    draw = np.random.default_rng(step)
    return {
        "image": draw.integers(0, 256, (size, 16, 16, 3)).astype(np.uint8),
        "label": draw.integers(0, len(CLASSES), size).astype(np.int32),
        "weight": np.ones(size, np.float32) if weight is None else weight.astype(np.float32),
        "id": np.arange(size, dtype=np.int32) + size * step,
    }
