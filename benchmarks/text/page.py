"""benchmarks/results/text.md from text.json: the table, how to read it, and what ftjax said of the data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

from benchmarks.text.settings import Settings

_VERSIONS = ("jax", "flax", "optax", "torch", "transformers", "accelerate", "tokenizers", "seqeval", "numpy")


def versions() -> dict[str, str]:
    """Of everything that takes part."""
    import ftjax

    found = {"ftjax": ftjax.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _VERSIONS} | {"cores": str(os.cpu_count())}


def render(found: Mapping[str, Any]) -> str:
    """The whole page."""
    settings = Settings(**found["settings"])
    seeds = max(len(row["runs"]["ftjax"]) for row in found["rows"])
    lines = [
        "# MiniLM fine-tuned by ftjax and by Hugging Face's Trainer",
        "",
        f"`python -m benchmarks.text`: all-MiniLM-L6-v2 (6 layers, 384 wide) from the same file, the same rows, steps of {settings.batch_size}, AdamW with",
        f"betas {settings.beta1:g} and {settings.beta2:g}, epsilon {settings.epsilon:g}, weight decay {settings.weight_decay:g} on everything but biases and",
        f"norms, linear decay without warmup, gradient norm clipped at {settings.clip_norm:g}, dropout {settings.dropout:g}",
        f"({settings.attention_dropout:g} on attention's probabilities, where ftjax has none), {settings.precision}, a new head on the pooler (on every",
        "token for tags). ftjax pads batches to one of four lengths; the Trainer groups by length (`group_by_length`) and pads",
        f"to the longest text of a batch. Seeds 0 to {seeds - 1}, each library in turn, in one process; the last weights are tested, nothing is chosen.",
        "",
        "Mean over seeds with Student's 95 % interval; difference of the means with Welch's. *Agree*: 0 lies in that interval. Probe: a linear model",
        "on the pretrained features. Scratch: the same model, data and steps from random weights at the scratch recipe's rate. Both are of seed 0.",
        "",
        "| data | metric | ftjax | Trainer | difference | agree | probe | scratch |",
        "|---|---|---|---|---|---|--:|--:|",
        *(_quality(row) for row in found["rows"]),
        "",
        "Wall-clock of training alone: reading, tokenizing, compiling and testing are outside. The ratio is the Trainer's time over ours, median over seeds",
        "(above 1: ftjax is faster). Compiling is once for each length of batch.",
        "",
        "| data | rows | steps | rate | length at most | ftjax, s | Trainer, s | ratio | ftjax compiles, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(_clock(row) for row in found["rows"]),
        "",
        "What ftjax said of the data:",
        "",
        *(f"- {row['name']}: {warning}" for row in found["rows"] for warning in row["warnings"]),
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".",
        "",
    ]
    return "\n".join(lines)


def _span(value: Mapping[str, float], sign: str = "") -> str:
    return f"{value['value']:{sign}.3f} ({value['low']:{sign}.3f} to {value['high']:{sign}.3f})"


def _quality(row: Mapping[str, Any]) -> str:
    baselines = " | ".join(f"{row['baselines'][name]:.3f}" if name in row["baselines"] else "-" for name in ("probe", "scratch"))
    agree = {True: "yes", False: "no", None: "one seed"}[row["agree"]]
    return f"| {row['name']} | {row['metric']} | {_span(row['ftjax'])} | {_span(row['trainer'])} | {_span(row['difference'], '+')} | {agree} | {baselines} |"


def _clock(row: Mapping[str, Any]) -> str:
    def middle(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    ours, theirs, compiling = (middle(values) for values in (row["train_seconds"]["ftjax"], row["train_seconds"]["trainer"], row["compile_seconds"]))
    numbers = f"{row['rows']['train']} | {row['steps']} | {row['rate']:g} | {row['max_length']}"
    return f"| {row['name']} | {numbers} | {ours:.1f} | {theirs:.1f} | {row['ratio']:.2f} | {compiling:.1f} |"
