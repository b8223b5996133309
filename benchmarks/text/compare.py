"""Both libraries on one set, interleaved by seed, and what their runs say together.

A run that has been made with the same settings is not made again: its numbers lie as JSON in the work directory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.text import data, ours, peer
from benchmarks.text.data import TextSet
from benchmarks.text.peer import Run
from benchmarks.text.settings import Settings, minilm
from ftjax import files

CONFIDENCE = 0.95


def compare(text_set: TextSet, settings: Settings, seeds: Sequence[int], workdir: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All runs of one set, as the row of the results' JSON.

    Args:
      text_set: what is learned.
      settings: alike for both libraries.
      seeds: of every run; for each of them first the one library, then the other.
      workdir: data, run directories and finished numbers.
      say: takes a line of progress.
    """
    folder = data.write(text_set, workdir / "data")
    made: dict[str, list[Run]] = {"ftjax": [], "trainer": []}
    for seed in seeds:
        for library in ("ftjax", "trainer") if seed % 2 == 0 else ("trainer", "ftjax"):
            found = _run(library, text_set, settings, seed, folder, workdir)
            made[library].append(found)
            clock = f"{found.train_seconds:.1f} s, {found.compile_seconds:.1f} s compiling"
            say(f"{text_set.name} seed {seed} {library}: {text_set.metric} {found.metric:.3f}, {clock}")
    return summary(text_set, settings, made)


def _run(library: str, text_set: TextSet, settings: Settings, seed: int, folder: Path, workdir: Path) -> Run:
    said = {"set": {key: value for key, value in dataclasses.asdict(text_set).items() if key != "read"}, "settings": dataclasses.asdict(settings)}
    name = f"{text_set.name}_{library}_{settings.precision}_{text_set.steps}_{seed}"
    kept = workdir / "found" / f"{name}.json"
    if kept.exists() and (stored := files.read_json(kept))["said"] == said:
        return Run(**stored["run"])
    more = (workdir / name,) if library == "ftjax" else ()
    found = {"ftjax": ours.run, "trainer": peer.run}[library](text_set, folder, minilm(), settings, seed, *more)
    kept.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(kept, {"said": said, "run": dataclasses.asdict(found)})
    return found


def summary(text_set: TextSet, settings: Settings, made: dict[str, list[Run]]) -> dict[str, Any]:
    """Means with their intervals, whether they agree, the baselines of the first seed, and the clock."""
    metrics = {library: [run.metric for run in runs] for library, runs in made.items()}
    gap = difference(metrics["ftjax"], metrics["trainer"])
    first = made["ftjax"][0].more
    seconds = {library: [run.train_seconds for run in runs] for library, runs in made.items()}
    return {
        "name": text_set.name,
        "metric": text_set.metric,
        "max_length": text_set.max_length,
        "rate": text_set.rate,
        "steps": text_set.steps,
        "rows": {"train": text_set.rows, "test": text_set.test},
        "precision": settings.precision,
        "runs": metrics,
        "ftjax": mean(metrics["ftjax"]),
        "trainer": mean(metrics["trainer"]),
        "difference": gap,
        "agree": gap["low"] <= 0 <= gap["high"] if len(metrics["ftjax"]) > 1 else None,
        "test_interval": first["test"],
        "baselines": {name: found[text_set.metric]["value"] for name, found in first["baselines"].items() if text_set.metric in found},
        "train_seconds": seconds,
        "ratio": float(np.median(np.divide(seconds["trainer"], seconds["ftjax"]))),
        "compile_seconds": [run.compile_seconds for run in made["ftjax"]],
        "warnings": first["warnings"],
    }


def mean(values: Sequence[float]) -> dict[str, float]:
    """Mean over seeds with Student's interval; one seed has none, so its own value is both ends."""
    x = np.asarray(values, float)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else 0.0
    return {"value": float(x.mean()), "low": float(x.mean()) - half, "high": float(x.mean()) + half}


def difference(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Mean of `one` minus mean of `other` with Welch's interval (unequal variances); 0 inside it: the means agree as far as the seeds can tell."""
    x, y = np.asarray(one, float), np.asarray(other, float)
    gap = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return {"value": gap, "low": gap, "high": gap}
    parts = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    error = float(np.sqrt(parts.sum()))
    if error == 0:
        return {"value": gap, "low": gap, "high": gap}
    freedom = parts.sum() ** 2 / (parts**2 / (np.array([len(x), len(y)]) - 1)).sum()
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return {"value": gap, "low": gap - half, "high": gap + half}
