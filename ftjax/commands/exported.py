"""What every format of `ftjax export` begins with: the description of a finished run, and what its model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ftjax import files, models, weights
from ftjax.errors import DataError, WeightsError


def described(workdir: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished run's model, and what its model.json says.

    Raises:
      DataError: there is no finished run.
    """
    folder = workdir / "model" if (workdir / "model").is_dir() else workdir
    if not (folder / "model.json").is_file():
        raise DataError(f"{workdir} holds no finished run: {folder / 'model.json'} is missing; train with --workdir {workdir} first")
    return folder, files.read_json(folder / "model.json")


def refuse_apart(folder: Path, description: dict[str, Any]) -> None:
    """A model with units or inputs that its architecture elsewhere does not have.

    Raises:
      WeightsError: naming them.
    """
    rows = description.get("kept_apart", [])
    if rows:
        kinds = ", ".join(sorted({str(row["kind"]) for row in rows}))
        prompts = "; the prompts of a model that writes also with --format peft" if kinds == "Prompt" and rows[0]["path"].startswith("stem") else ""
        raise WeightsError(
            f"{folder}: the model has {len(rows)} x {kinds} (first {rows[0]['path']}), which no weight of transformers' model stands for, so it cannot "
            f"be merged; allowed: {folder} as it is (ftjax.load, predict, evaluate){prompts}"
        )


def in_units(flat: dict[str, np.ndarray], description: dict[str, Any]) -> dict[str, np.ndarray]:
    """A regression's head answers in deviations from the mean; transformers has no place for these two, so they go into the head."""
    if description["task"] != "regression":
        return flat
    mean, deviation = (float(description["task_settings"][name]) for name in ("mean", "deviation"))
    scaled = {"head/kernel": flat["head/kernel"] * np.float32(deviation), "head/bias": flat["head/bias"] * np.float32(deviation) + np.float32(mean)}
    return flat | scaled


def held_by(spec: models.ModelSpec, description: dict[str, Any]) -> weights.Recognised:
    """What the run's weights are."""
    classes = tuple(description["classes"]) or None
    read = description.get("input")
    return weights.Recognised(spec.family, dict(spec.options), spec.num_classes, spec.image_size, "ftjax", read, classes=classes)
