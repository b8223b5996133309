"""The methods that are compared, the sets, and a run of each as an ordinary configuration: the recipe's values, but the learning rate.

Every arm tries the same multiples of its recipe's rate, so that no method is tuned more than another.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

from benchmarks.photos import PHOTOS, WEIGHTS
from benchmarks.text import data as texts
from benchmarks.text.settings import minilm
from ftjax import AdapterConfig, AugmentConfig, Config, DataConfig, EvaluationConfig, Method, ModelConfig, ReportConfig, TextConfig, TrainConfig

FACTORS = (1.0, 4.0, 16.0)
"""Of the recipe's learning rate, the same trials for every arm. Upwards alone: a run here is an eighth of what the recipes have in mind."""
STEPS, BATCH, PIXELS, TOKENS = 40, 16, 64, 24
TEXTS = ("trec", "sst2")
SETS = (*TEXTS, *PHOTOS)
ROWS = 1200
"""Training texts."""
VALIDATION = 300
"""Texts that choose the learning rate; the photo sets have a validation split of their own."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One method at one size."""

    name: str
    method: str
    adapter: AdapterConfig = dataclasses.field(default_factory=AdapterConfig)


_ARMS = (
    Arm("full", "full"),
    Arm("LoRA r16", "lora", AdapterConfig(rank=16)),
    Arm("rsLoRA r16", "lora", AdapterConfig(rank=16, scaling="rslora")),
    Arm("bitfit", "bitfit"),
    Arm("IA3", "ia3"),
    Arm("LoRA r4", "lora", AdapterConfig(rank=4)),
    Arm("DoRA r16", "dora", AdapterConfig(rank=16)),
    Arm("PiSSA r16", "pissa", AdapterConfig(rank=16)),
    Arm("prompt", "prompt"),
    Arm("VPT deep", "vpt"),
    Arm("AdaptFormer", "adaptformer"),
    Arm("probe", "probe"),
)
PEFT = "peft LoRA r16"
"""The arm of the other library; it is ftjax's arm `TWIN` in everything."""
TWIN = "LoRA r16"


def kind_of(data_set: str) -> str:
    """ "text" or "photos"."""
    return "text" if data_set in TEXTS else "photos"


def arms() -> tuple[Arm, ...]:
    """The methods that this version of ftjax knows."""
    return tuple(arm for arm in _ARMS if arm.method in typing.get_args(Method))


def named(name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in arms() if arm.name == name)


def write_texts(data_set: str, folder: Path) -> Path:
    """The rows of a text set as files."""
    one = dataclasses.replace(texts.named(data_set), rows=ROWS)
    return texts.write(one, folder, validation=VALIDATION)


def configuration(
    data_set: str, arm: Arm, seed: int, folder: Path, *, steps: int = STEPS, batch: int = BATCH, precision: str = "bfloat16", **sizes: int
) -> Config:
    """One run; `optimizer.learning_rate` stays open, so that the recipe fills it.

    Args:
      data_set: one of `SETS`.
      arm: the method.
      seed: of a new head, the adapters' start, the order of the data and the dropout.
      folder: where the rows of text sets are written.
      steps: optimiser steps.
      batch: examples of a step.
      precision: of the operands.
      **sizes: `pixels` or `tokens`, where they are not the usual ones.
    """
    reading = (
        _texts(data_set, folder, sizes.get("tokens", TOKENS), precision) if data_set in TEXTS else _photos(data_set, sizes.get("pixels", PIXELS), precision)
    )
    return Config(
        method=typing.cast(Method, arm.method),
        seed=seed,
        adapter=arm.adapter,
        train=TrainConfig(duration=f"{steps} steps", batch_size=batch, evaluate_every="100%", checkpoint_every="100%"),
        evaluation=EvaluationConfig(baselines=()),
        report=ReportConfig(progress="none"),
        **reading,
    )


def _texts(data_set: str, folder: Path, tokens: int, precision: Any) -> dict[str, Any]:
    return {
        # The rows are distinct already.
        "data": DataConfig(source="table", path=str(write_texts(data_set, folder)), duplicates="report"),
        "text": TextConfig(text="text", label="label", max_length=tokens, buckets=1),
        # peft's classifier stands on the pooler, too. Dropout as the recipe has it, whatever the method.
        "model": ModelConfig(pretrained=str(minilm()), head="new", pool="pooler", dropout=0.1, precision=precision),
    }


def _photos(data_set: str, pixels: int, precision: Any) -> dict[str, Any]:
    shared = texts.shared_data()
    return {
        "data": DataConfig(source="image_folder", path=str(shared / PHOTOS[data_set])),
        # Alike for all; a mirrored hand is another hand, and both sets share one program.
        "augment": AugmentConfig(horizontal_flip=False, crop_min_area=0.5),
        "model": ModelConfig(pretrained=str(shared / WEIGHTS["vit"]), image_size=(pixels, pixels), precision=precision),
    }
