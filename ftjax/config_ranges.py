"""Numbers that have the right type and no meaning: which keys of the configuration are positive, not negative, or a share."""

from __future__ import annotations

import itertools
import math
from typing import Any

from ftjax.errors import ConfigError

_POSITIVE = [
    "data.labels_per_class",
    *("data.class_floor", "data.max_per_class", "data.mixture_temperature"),
    "data.max_pixels",
    "data.workers",
    "optimizer.learning_rate",
    "optimizer.clip_norm",
    "optimizer.epsilon",
    "coefficient.layer_decay",
    "train.batch_size",
    "train.batch_tokens",
    "train.microbatches",
    "train.patience",
    *("text.max_length", "text.buckets", "task.temperature", "task.max_answer_length", "task.beta", "task.loss_chunk"),
    "train.max_bad_steps",
    "evaluation.batch_size",
    "evaluation.top_k",
    "evaluation.bootstrap",
    *(f"recommendation.{key}" for key in ("negatives", "width", "depth", "heads", "temperature")),
    *(f"recommendation.{key}" for key in ("user_core", "item_core", "max_users", "max_length", "cold_below", "sampled_negatives", "item_chunk")),
    *("adapter.rank", "adapter.alpha", "adapter.block", "adapter.units", "adapter.units_scale", "adapter.tokens"),
    "mesh.fsdp",
    "mesh.tensor",
]
_NOT_NEGATIVE = [
    "seed",
    *("data.cache_megabytes", "data.fold", "data.test_fold"),
    "augment.brightness",
    "augment.contrast",
    *("augment.saturation", "augment.rand_augment", "augment.mixup", "augment.cutmix"),
    "augment.neftune",
    "task.focal_gamma",
    "task.r_drop",
    "task.z_loss",
    "text.stride",
    "optimizer.weight_decay",
    "coefficient.head_factor",
    "report.thumbnails",
]
_FRACTION = [
    "adapter.dropout",
    "augment.token_dropout",
    "data.validation_fraction",
    "data.test_fraction",
    "model.drop_path",
    "model.dropout",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.momentum",
    "task.label_smoothing",
    "recommendation.mask_probability",
    "evaluation.confidence",
]
_SHARE = ["augment.crop_min_area", "data.fraction", "data.near_image_similarity", "data.near_text_similarity"]
_UP_TO = {"augment.hue": 0.5, "augment.rand_magnitude": 10.0, "augment.erasing": 1.0, "recommendation.gbce_t": 1.0, "recommendation.mask_last": 1.0}
"""Keys from 0 up to, and including, this."""


def check_range(key: str, value: Any, where: str) -> Any:
    """The value itself.

    Raises:
      ConfigError: out of range; the message says what is allowed.
    """
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: a finite number")
        if key in _POSITIVE and not value > 0:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: greater than 0")
        if key in _NOT_NEGATIVE and not value >= 0:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: 0 or greater")
        if key in _FRACTION and not 0 <= value < 1:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: from 0 up to, not including, 1")
        if key == "data.folds" and value < 2:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: 2 or more")
        if key in _UP_TO and not 0 <= value <= _UP_TO[key]:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: from 0 to {_UP_TO[key]:g}")
        if key in _SHARE and not 0 < value <= 1:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: greater than 0, at most 1")
        if key == "mesh.data" and not (value == -1 or value > 0):
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: -1 (all that are left) or a number of devices")
    if key == "recommendation.k" and (not value or min(value) < 1 or any(one >= other for one, other in itertools.pairwise(value))):
        raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: positive numbers, ascending, such as (1, 5, 10, 20)")
    if key == "model.image_size" and value is not None and min(value) < 1:
        raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: two positive numbers of pixels")
    return value
