"""benchmarks/results/adapters.md and .json from the cells that are finished: one table for each set, every method a row."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.adapters import clock
from benchmarks.adapters.arms import BATCH, FACTORS, PEFT, PIXELS, STEPS, TOKENS, VALIDATION, kind_of

RESAMPLES = 2000
CONFIDENCE = 0.95
REFERENCE = "full"
MODELS = {"text": "MiniLM", "photos": "ViT-Ti/16"}


def versions() -> dict[str, str]:
    """Of what takes part here; peft's process has its own, which speed's page lists."""
    import ftjax

    found = {"ftjax": ftjax.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")} | {"cores": str(os.cpu_count())}


def right(found: Mapping[str, Any]) -> np.ndarray:
    """Share of the seeds that answer each test example right, float `[rows]`."""
    return np.mean([np.array(list(one["correct"]), dtype=float) for one in found["tested"]], axis=0)


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean over examples with its bootstrap interval."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def row(name: str, found: Mapping[str, Any], full: Mapping[str, Any] | None) -> dict[str, Any]:
    """A finished cell as the results keep it: without single answers."""
    accuracies = [one["accuracy"] for one in found["tested"]]
    return {
        "method": name,
        "accuracy": accuracies,
        "interval": interval(right(found)),
        "above_full": None if full is None or name == REFERENCE else interval(right(found) - right(full)),
        "rate": found["recipe_rate"] * found["factor"],
        "factor": found["factor"],
        "recipe_rate": found["recipe_rate"],
        "trials": found["trials"],
        "travel": float(np.mean([one["travel"] for one in found["tested"]])),
        "parameters": found["parameters"],
        "memory": found.get("memory"),
    }


def results(cells: Mapping[str, Mapping[str, Any]], clocks: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON: for every set its finished methods, and step times where they were measured.

    Args:
      cells: `{set: {method: cell}}`.
      clocks: `{kind of model: clock.measure}`.
    """
    sets = {name: [row(method, found, rows.get(REFERENCE)) for method, found in rows.items()] for name, rows in cells.items() if rows}
    settings = {"steps": STEPS, "batch": BATCH, "pixels": PIXELS, "tokens": TOKENS, "factors": list(FACTORS), "validation": VALIDATION}
    return {"settings": settings, "sets": sets, "clocks": dict(clocks), "versions": versions()}


def render(found: Mapping[str, Any]) -> str:
    """The page."""
    tried = ", ".join(f"{factor:g}" for factor in FACTORS)
    lines = [
        "# Adapters, biases and prompts against full fine-tuning",
        "",
        f"`python -m benchmarks.adapters`: {STEPS} steps of {BATCH} examples in bfloat16, MiniLM on texts of at most {TOKENS} tokens, ViT-Ti/16 on",
        f"pictures of {PIXELS} pixels with random crops; a new head (on the pooler for texts), every other value the recipe's. Every method tries {tried}",
        "times its recipe's learning rate with seed 0 and keeps what is best on validation; then three seeds (head, adapters, order, dropout) at that rate.",
        "The last weights are tested, once for each seed.",
        "",
        "**The budget is small**: the runs are an eighth as long as a recipe's, so high rates win, slow methods look worse than they end, and with three",
        "trials a best rate at the edge of the grid (marked *) may not be the best there is. All methods are tuned alike.",
        "",
        "Accuracy: mean (smallest to largest) over seeds. Interval: of the mean, over test examples (bootstrap, 95 %); *above full* is the paired difference",
        "to full fine-tuning, likewise. Live: parameters that train, with the head. Travel: mean over the body's groups of |theta - theta0| / |theta0|, of",
        "what may move. Memory: what XLA plans for a step of this size, arguments and temporaries. Step: against full's in the same round, median (smallest",
        f"to largest). *{PEFT}* is the library peft on the same weights, adapters and heads before step 0, batches, rates and schedule, in bfloat16 autocast.",
        "",
    ]
    for name, rows in found["sets"].items():
        lines += _section(name, rows, found["clocks"].get(kind_of(name)))
    for kind, times in found["clocks"].items():
        load = f"{min(times['load']):.1f} to {max(times['load']):.1f}"
        lines += [
            f"Steps of {MODELS[kind]} were timed on {times['set']}, {times['rounds']} rounds of {times['steps']}; the machine's load was {load} meanwhile.",
            "",
        ]
    return "\n".join([*lines, "Versions: " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".", ""])


def _section(name: str, rows: Sequence[Mapping[str, Any]], times: Mapping[str, Any] | None) -> list[str]:
    columns = "| method | rate (times the recipe's) | accuracy | interval | above full | live | travel | memory, MB | step |"
    return [f"## {name} ({MODELS[kind_of(name)]})", "", columns, "|---|--:|---|---|---|--:|--:|--:|---|", *(_line(one, times) for one in rows), ""]


def _line(found: Mapping[str, Any], times: Mapping[str, Any] | None) -> str:
    accuracy, gap, memory, name = found["accuracy"], found["above_full"], found["memory"], found["method"]
    edge = "*" if found["factor"] in (FACTORS[0], FACTORS[-1]) else ""
    timed = times is not None and name in times["seconds"] and REFERENCE in times["seconds"]
    cells = [
        name,
        f"{found['rate']:.3g} ({found['factor']:g}{edge})",
        f"{np.mean(accuracy):.3f} ({min(accuracy):.3f} to {max(accuracy):.3f})",
        f"{found['interval']['low']:.3f} to {found['interval']['high']:.3f}",
        "" if gap is None else f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})",
        f"{found['parameters']['live']:,}",
        f"{found['travel']:.3g}",
        "" if memory is None else f"{(memory['arguments'] + memory['temporaries']) / 1e6:.0f}",
        "{:.2f} ({:.2f} to {:.2f})".format(*clock.ratio(times["seconds"], name, REFERENCE)) if timed and times is not None else "",
    ]
    return "| " + " | ".join(cells) + " |"
