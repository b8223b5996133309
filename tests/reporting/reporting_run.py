"""A realistic run directory made of arithmetic: what every reporting test reads."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ftjax.config import AnchorConfig, CoefficientConfig, Config, DataConfig, ModelConfig, OptimizerConfig
from ftjax.files import write_json
from ftjax.reporting import MetricsWriter

GROUPS = ["stem", "block_0", "block_1", "block_2", "block_3", "norm", "head"]
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
STEPS = 500
BORDER = 100
"""Step at which the second phase begins: the body trains from here on."""
FILES = (
    "config.json",
    "data.json",
    "load.json",
    "coefficients.json",
    "metrics.jsonl",
    "after.json",
    "result.json",
    "evaluation/test.json",
    "evaluation/test.npz",
)


def thumbnail(number: int) -> str:
    """A small picture that differs for every number."""
    rows, columns = np.mgrid[0:16, 0:16]
    value = np.exp(-((((columns - 8) / 3) ** 2 + ((rows - 8) / 5) ** 2 - 1) ** 2) * (1 + number % 3))
    picture = np.clip(255 * value * (0.5 + 0.5 * np.cos(rows * (number + 1) / 7)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).resize((64, 64), Image.Resampling.NEAREST).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def leaves() -> list[tuple[str, list[int], str]]:
    """(path, shape, group) of a small vision transformer."""
    found = [("stem/patch/kernel", [4, 4, 3, 96], "stem"), ("stem/patch/bias", [96], "stem"), ("stem/position", [1, 17, 96], "stem")]
    for block in range(4):
        for part in ("query", "key", "value", "out"):
            found.append((f"encoder/block_{block}/attention/{part}/kernel", [96, 96], f"block_{block}"))
            found.append((f"encoder/block_{block}/attention/{part}/bias", [96], f"block_{block}"))
        found += [
            (f"encoder/block_{block}/mlp/up/kernel", [96, 384], f"block_{block}"),
            (f"encoder/block_{block}/mlp/down/kernel", [384, 96], f"block_{block}"),
        ]
    return [*found, ("norm/scale", [96], "norm"), ("norm/bias", [96], "norm"), ("head/kernel", [96, 10], "head"), ("head/bias", [10], "head")]


def config_json() -> dict[str, Any]:
    """The resolved configuration of a run whose learning rate came from the command line."""
    config = Config(
        method="layer_decay",
        data=DataConfig(labels_per_class=20),
        model=ModelConfig(name="vit_digits", pretrained="builtin:digits"),
        coefficient=CoefficientConfig(layer_decay=0.75),
        anchor=AnchorConfig(pull=0.01, ball=0.5),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.05),
    )
    origins = {
        "optimizer.learning_rate": {"origin": "flag", "why": ""},
        "data.labels_per_class": {"origin": "file", "why": ""},
        "model.pretrained": {"origin": "file", "why": ""},
        "method": {"origin": "file", "why": ""},
        "model.name": {"origin": "recipe", "why": "what the pretrained file holds"},
        "coefficient.layer_decay": {"origin": "recipe", "why": "layer_decay with 6 groups below the head"},
        "optimizer.weight_decay": {"origin": "recipe", "why": "fine-tuning with few labels"},
    }
    return {"config": dataclasses.asdict(config), "origins": origins}


def data_json(classes: list[str]) -> dict[str, Any]:
    """Three splits, one unreadable file, two sets of copies."""
    sizes = {"train": 20, "validation": 25, "test": 27}
    splits = {
        name: {
            "rows": size * len(classes),
            "origin": "split here, stratified",
            "per_class": {label: size + (index % 3) * (name != "train") for index, label in enumerate(classes)},
        }
        for name, size in sizes.items()
    }
    return {
        "source": "digits",
        "conversions": {"grey to RGB": 720},
        "fingerprint": "9f2c41d07be35a1c6a3f0b7d",
        "classes": classes,
        "splits": splits,
        "rejected": [{"file": "three/broken.jpg", "why": "the file ends in the middle of the image"}],
        "duplicates": {
            "policy": "drop",
            "within": [{"split": "train", "ids": ["train/12", "train/80"]}],
            "across": [{"ids": ["train/4", "test/9"], "splits": ["train", "test"], "labels": ["four", "four"]}],
            "conflicting": [],
            "dropped": ["train/4"],
        },
        "ignored": [{"file": "notes.txt", "why": "no image"}],
        "imbalance_ratio": 1.0,
        "sampling": {"labels_per_class": 20, "rows before": 1257},
        "image_size": [16, 16],
    }


def load_json() -> dict[str, Any]:
    """Everything loaded but the head."""
    rows = [
        {
            "target": path,
            "shape": shape,
            "source": None if group == "head" else path,
            "source_shape": None if group == "head" else shape,
            "action": "initialised" if group == "head" else "loaded",
            "why": "the head is new" if group == "head" else "same name and shape",
        }
        for path, shape, group in leaves()
    ]
    new = sum(row["action"] == "initialised" for row in rows)
    return {
        "source": "builtin:digits",
        "format": "ftjax safetensors",
        "sha256": "4be1" * 16,
        "rows": rows,
        "ignored": [{"source": "head/kernel", "why": "of another task: 26 letters"}, {"source": "head/bias", "why": "of another task: 26 letters"}],
        "summary": {"loaded": len(rows) - new, "initialised": new},
    }


def coefficients_json() -> dict[str, Any]:
    """Layer decay 0.75 with a frozen stem."""
    rows = []
    for path, shape, group in leaves():
        value = 0.0 if group == "stem" else round(0.75 ** (len(GROUPS) - 1 - GROUPS.index(group)), 4)
        vector = len(shape) == 1
        moments = {"0%": value, "50%": value, "100%": value if group != "block_3" else value / 2}
        rows.append(
            {
                "path": path,
                "shape": shape,
                "group": group,
                "live": value > 0,
                "coefficient": moments,
                "weight_decay": 0.0 if vector else 0.05,
                "anchor": 0.0 if vector or group == "head" else 1.0,
                "parameters": math.prod(shape),
            }
        )
    total = sum(row["parameters"] for row in rows)
    live = sum(row["parameters"] for row in rows if row["live"])
    head = sum(row["parameters"] for row in rows if row["group"] == "head")
    phases = [
        {"start": 0, "stop": BORDER, "live_parameters": head, "groups": ["head"]},
        {"start": BORDER, "stop": STEPS, "live_parameters": live, "groups": GROUPS[1:]},
    ]
    return {"rows": rows, "groups": GROUPS, "parameters": {"total": total, "live": live}, "phases": phases}


def write_metrics(folder: Path, ends: Mapping[str, float] | None = None) -> None:
    """A loss that falls, a validation metric with a best step before the last, travel that grows with depth from each group's phase on, source examples that
    are forgotten, and one step that was not finite.

    Args:
      folder: the run directory.
      ends: validation metric -> its value at the end; None: an accuracy, and the source examples of pictures.
    """
    noise = np.random.default_rng(0)
    with MetricsWriter(folder) as log:
        if ends is None:
            log.write(0, "source", source_at(0.0))
        for step in range(10, STEPS + 1, 10):
            done = step / STEPS
            loss = 0.08 + 2.2 * math.exp(-7 * done) + 0.06 * float(noise.random())
            rate = 1e-3 * min(step / 50, 0.5 + 0.5 * math.cos(math.pi * max(0.0, (step - 50) / (STEPS - 50))))
            log.write(
                step,
                "train",
                {
                    "loss": math.nan if step == 130 else loss,
                    "learning_rate": rate,
                    "examples_per_second": 2400 + 50 * float(noise.random()),
                    "input_wait": 0.02,
                },
            )
            travel = {
                group: 0.0 if group == "stem" else 0.6 * 0.6 ** (len(GROUPS) - 1 - place) * (1 - math.exp(-3 * done))
                for place, group in enumerate(GROUPS)
                if step > BORDER or group == "head"
            }
            log.write(
                step,
                "travel",
                {f"travel/{group}": value for group, value in travel.items()}
                | {f"update/{group}": value * (1.02 - done) / 60 for group, value in travel.items()}
                | {f"cosine/{group}": 0.0 if group == "stem" else 0.9 * math.exp(-4 * done) - 0.05 * GROUPS.index(group) * done for group in travel},
            )
            if step % 50 == 0:
                log.write(
                    step,
                    "validation",
                    {
                        **{name: end - 0.5 * math.exp(-8 * done) - (0.008 if step > 400 else 0) for name, end in (ends or {"accuracy": 0.955}).items()},
                        "loss": 0.19 + 1.9 * math.exp(-7 * done) + (0.02 if step > 400 else 0),
                    },
                )
                if ends is None:
                    log.write(step, "source", source_at(max(0.0, done - BORDER / STEPS)))


def source_at(done: float) -> dict[str, float]:
    """What is left of the source examples."""
    lost = 1 - math.exp(-3 * done)
    return {"source_loss": 0.71 + 1.1 * lost, "source_accuracy": 0.82 - 0.24 * lost, "source_divergence": 0.9 * lost}


def after_json() -> dict[str, Any]:
    """A line that peaks inside, and weights between the pretrained ones and the best checkpoint that were chosen."""
    curve = [
        {"alpha": alpha, "distance": 0.15 * alpha, "accuracy": accuracy, "log_loss": 0.2}
        for alpha, accuracy in ((0.0, 0.82), (0.25, 0.91), (0.5, 0.951), (0.75, 0.962), (1.0, 0.954))
    ]
    measured = [("best_checkpoint", 0.954, 0.15, []), *((f"wise_ft({p['alpha']:g})", p["accuracy"], p["distance"], []) for p in curve[:-1])]
    measured += [("ema", 0.956, 0.13, []), ("greedy_soup", 0.955, 0.141, [400, 350])]
    candidates = [
        {"name": name, "value": value, "distance": distance, "metrics": {"accuracy": value, "log_loss": 0.2}, "steps": steps}
        for name, value, distance, steps in measured
    ]
    return {"curve": curve, "candidates": candidates, "chosen": "wise_ft(0.75)"}


def result_json(status: str = "ok") -> dict[str, Any]:
    """The result of a run that beat its baselines."""
    return {
        "status": status,
        "task": "classification",
        "method": "layer_decay",
        "seed": 0,
        "steps": STEPS,
        "examples": STEPS * 64,
        "splits": {
            "validation": {"accuracy": 0.955, "balanced_accuracy": 0.954, "macro_f1": 0.9544, "log_loss": 0.19, "ece": 0.021},
            "test": {
                "accuracy": {"value": 0.9593, "low": 0.937, "high": 0.9778},
                "balanced_accuracy": {"value": 0.9588, "low": 0.9361, "high": 0.977},
                "macro_f1": {"value": 0.959, "low": 0.9359, "high": 0.9772},
                "top_5_accuracy": {"value": 0.9963, "low": 0.9889, "high": 1.0},
                "log_loss": {"value": 0.1532, "low": 0.1021, "high": 0.2115},
                "ece": {"value": 0.0214, "low": 0.0172, "high": 0.0412},
            },
        },
        "baselines": {
            "probe": {
                "accuracy": {"value": 0.8963, "low": 0.8593, "high": 0.9296},
                "why": "logistic regression on the features, its strength picked on validation",
            },
            "scratch": {"accuracy": {"value": 0.7815, "low": 0.7296, "high": 0.8296}, "why": "same steps from random weights"},
            "majority": {"accuracy": {"value": 0.1037, "low": 0.0704, "high": 0.1407}, "why": "always “zero”"},
        },
        "verdict": "Worth it: fine-tuning gains 6.3 points over the linear probe, and the intervals do not overlap.",
        "best_step": 400,
        "seconds": {"setup": 2.1, "compile": 6.4, "train": 19.7, "evaluate": 3.2},
        "examples_per_second": 2431.0,
        "input_wait_fraction": 0.021,
        "parameters": coefficients_json()["parameters"],
        "travel": dict.fromkeys(GROUPS, 0.1),
        "after": {"candidates": after_json()["candidates"], "chosen": "wise_ft(0.75)"},
        "forgetting": {"before": source_at(0.0), "after": source_at(0.6), "reference": "labels", "examples": 200},
        "warnings": ["1 file of the data could not be read and was left out (data.json names it)"],
        "versions": {"ftjax": "0.1.0", "jax": "0.10.2", "flax": "0.12.8", "python": "3.11.9", "device": "cpu × 1"},
    }


def write_evaluation(folder: Path, classes: list[str]) -> None:
    """A confusion matrix with eleven mistakes, their thumbnails, and a record for every test example."""
    total = len(classes)
    confusion = [[0] * total for _ in range(total)]
    for index in range(total):
        confusion[index][index] = 26
        confusion[index][(index * 3 + 1) % total] += 1
    confusion[8][1] += 3
    examples = [
        {"id": f"test/{7 * index}", "label": index, "prediction": (index * 3 + 1) % total, "confidence": 0.99 - 0.05 * index, "image": thumbnail(index)}
        for index in range(12 if total >= 12 else total)
    ]
    uncertain = [
        {**item, "prediction": item["label"] if place % 2 else item["prediction"], "confidence": 0.3 + 0.02 * place} for place, item in enumerate(examples)
    ]
    write_json(
        folder / "evaluation" / "test.json",
        {"confusion": confusion, "errors": [item for item in examples if item["label"] != item["prediction"]], "uncertain": uncertain},
    )
    draw = np.random.default_rng(1)
    label = np.arange(270) % total
    confidence = np.clip(1 - draw.exponential(0.12, 270), 0.25, 1.0)
    prediction = np.where(draw.random(270) < confidence * 0.97 + 0.02, label, (label + 1) % total)
    np.savez(
        folder / "evaluation" / "test.npz",
        label=label,
        prediction=prediction,
        confidence=confidence,
        weight=np.ones(270),
        logits=draw.normal(size=(270, total)),
    )


def write_run(folder: Path, classes: list[str] | None = None) -> Path:
    """Every file of a good run."""
    classes = CLASSES if classes is None else classes
    for name, value in {
        "config": config_json(),
        "data": data_json(classes),
        "load": load_json(),
        "coefficients": coefficients_json(),
        "after": after_json(),
        "result": result_json(),
    }.items():
        write_json(folder / f"{name}.json", value)
    write_metrics(folder)
    write_evaluation(folder, classes)
    return folder
