"""Fills what the user left open, from the method and the data, and says why.

Every value can be overridden and shows its origin in config.json. Sources: the peers' defaults (transformers, timm, big_vision, MAE),
collected in `docs/recipes.md`, and runs of our own where the reason says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from ftjax import configuration
from ftjax.config import Config
from ftjax.configuration import Resolved


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a recipe may look at: the data, and the depth order of the model."""

    examples: int
    """Training examples after sampling."""
    groups: tuple[str, ...]
    """`("stem", "block_0", ..., "norm", "head")`."""
    photos: bool
    """Whether the images are photos (folders, tfds) rather than arrays such as digits."""
    keeps_head: bool
    """Whether the pretrained head stays."""
    batch_devices: int
    """Devices that share a batch."""


Suggestion = tuple[Any, str]

_LEARNING_RATE = {
    "full": (1e-4, "AdamW on a pretrained image model; transformers' examples use 2e-5 to 5e-5 for ViT-B, smaller models take more"),
    "layer_decay": (5e-4, "with layer decay the body is slowed down, so the peak is higher (BEiT and MAE fine-tuning)"),
    "partial": (2e-4, "fewer parameters move, each may move further"),
    "probe": (1e-2, "only the head trains: 10 to 100 times the rate of full fine-tuning"),
    "scratch": (1e-3, "AdamW from random weights (timm and DeiT scale)"),
}


def fill(resolved: Resolved, facts: Facts) -> Resolved:
    """The configuration with every open value filled, and the reason for each as its origin.

    Only values that are None are filled; what the file or a flag says stays.
    """
    config, origins = resolved.config, dict(resolved.origins)
    # In this order, because a later suggestion may look at an earlier value (the duration at the batch size).
    for key, suggest in _SUGGESTIONS.items():
        if dict(configuration.keys(config))[key] is None:
            value, why = suggest(config, facts)
            if value is not None:
                config = configuration.replace(config, {key: value})
                origins[key] = ("recipe", why)
    return Resolved(config, origins)


def _batch_size(config: Config, facts: Facts) -> Suggestion:
    size = min(64, max(8, 2 ** int(math.log2(max(facts.examples // 4, 1)))))
    parts = facts.batch_devices * config.train.microbatches
    shared = "" if size % parts == 0 else f", rounded up to share it among {facts.batch_devices} devices and {config.train.microbatches} micro-batches"
    return -(-size // parts) * parts, f"{facts.examples} training examples: at least four steps an epoch, at most 64{shared}"


def _duration(config: Config, facts: Facts) -> Suggestion:
    batch_size = config.train.batch_size
    per_epoch = 1 if batch_size == "all" else max(facts.examples / int(batch_size or 1), 1)
    wanted = {"probe": 300, "scratch": 500}.get(config.method, 300)
    epochs = min(100, max(5, math.ceil(wanted / per_epoch)))
    return f"{epochs} epochs", f"about {wanted} optimiser steps, but 5 epochs at least and 100 at most (after big_transfer's rule by data size)"


def _learning_rate(config: Config, facts: Facts) -> Suggestion:
    rate, why = _LEARNING_RATE[config.method]
    factor, note = {"adamw": (1.0, ""), "sgd": (100.0, "; times 100 for SGD with momentum"), "lion": (0.2, "; a fifth for Lion")}[config.optimizer.name]
    return rate * factor, why + note


def _weight_decay(config: Config, facts: Facts) -> Suggestion:
    if config.method == "probe":
        return 0.0, "a linear probe is not decayed (MAE)"
    return (0.05, "BEiT and MAE fine-tuning, DeiT from scratch") if config.method in ("layer_decay", "scratch") else (0.01, "AdamW's usual value")


def _rules(config: Config, facts: Facts) -> Suggestion:
    if config.method == "probe":
        return (("group:head", 1.0), (".*", 0.0)), "probe: only the head trains"
    if config.method == "partial":
        blocks = [group for group in facts.groups if group.startswith("block_")]
        frozen = ["stem", *blocks[: len(blocks) // 2]]
        return ((f"group:{'|'.join(frozen)}", 0.0), (".*", 1.0)), "partial: the stem and the lower half of the blocks stay as they were pretrained"
    return ((".*", 1.0),), f"{config.method}: every parameter trains"


def _layer_decay(config: Config, facts: Facts) -> Suggestion:
    if config.method == "layer_decay":
        return 0.75, "BEiT and MAE: 0.65 to 0.75, less decay for smaller models"
    return None, ""


def _head_factor(config: Config, facts: Facts) -> Suggestion:
    if facts.keeps_head:
        return 1.0, "the head is pretrained too"
    if config.method in ("full", "partial"):
        return 10.0, "the head is new and the body is not: 10 to 100 times the body's rate"
    return 1.0, "one rate for all that trains"


def _crop(config: Config, facts: Facts) -> Suggestion:
    if not facts.photos or config.method == "probe":
        return 1.0, "no crop: arrays and digits fill their frame" if not facts.photos else "no crop: a probe sees each image as it will be tested"
    return 0.5, "photos: random resized crop of half the area or more (timm trains from scratch with 0.08)"


def _flip(config: Config, facts: Facts) -> Suggestion:
    return facts.photos and config.method != "probe", "photos are mirrored, digits and text must not be; set it to false where left and right matter"


def _label_smoothing(config: Config, facts: Facts) -> Suggestion:
    return 0.0, "off: smoothing makes probabilities less honest"


def _batch_statistics(config: Config, facts: Facts) -> Suggestion:
    if config.method == "scratch":
        return "updated", "from random weights there are no statistics to keep"
    return "frozen", "kept from pretraining: statistics of a small batch are noise"


def _evaluate_every(config: Config, facts: Facts) -> Suggestion:
    return "5%", "twenty looks at the validation split"


_SUGGESTIONS: dict[str, Callable[[Config, Facts], Suggestion]] = {
    "train.batch_size": _batch_size,
    "train.duration": _duration,
    "train.evaluate_every": _evaluate_every,
    "model.batch_statistics": _batch_statistics,
    "optimizer.learning_rate": _learning_rate,
    "optimizer.weight_decay": _weight_decay,
    "coefficient.rules": _rules,
    "coefficient.layer_decay": _layer_decay,
    "coefficient.head_factor": _head_factor,
    "augment.crop_min_area": _crop,
    "augment.horizontal_flip": _flip,
    "task.label_smoothing": _label_smoothing,
}
