"""Several run directories side by side: what came out, and only the keys of their configurations that differ. `ftjax report A B C`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftjax.errors import CheckpointError
from ftjax.files import read_json

_UNTOLD = ("report.progress", "report.tensorboard", "report.thumbnails", "data.workers", "data.cache", "data.cache_megabytes")
"""Keys that change nothing that is compared."""


def compare(folders: Sequence[Path]) -> str:
    """Markdown: a line for each run with its main metrics, and a line for each key that is not the same in all of them.

    Args:
      folders: run directories.

    Raises:
      CheckpointError: one of them holds no configuration.
    """
    runs = [_read(folder) for folder in folders]
    names = _names(folders)
    return "\n".join([*_results(runs, names), *_differences(runs, names), ""])


def _read(folder: Path) -> dict[str, Any]:
    """The configuration, flat, and the result of a run."""
    source = folder / "config.json"
    if not source.exists():
        raise CheckpointError(f"{folder} is no run directory: it holds no config.json")
    config = read_json(source)["config"]
    result = read_json(folder / "result.json") if (folder / "result.json").exists() else {"status": "not finished"}
    return {"config": _flat(config), "result": result}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    for depth in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = [str(Path(*folder.parts[-depth:])) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _results(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """A line for each run: its main metric with its interval, and what it cost."""
    lines = ["## Results", "", "| run | status | metric | validation | test | best step | live parameters | training, s |", "|---|---|---|--:|---|--:|--:|--:|"]
    for name, run in zip(names, runs):
        result = run["result"]
        metric = result.get("metric", {}).get("name")
        splits = result.get("splits", {})
        validation, test = (splits.get(split, {}).get(metric) for split in ("validation", "test"))
        live, seconds = result.get("parameters", {}).get("live"), result.get("seconds", {}).get("train")
        cells = [name, result.get("status", ""), metric, _number(validation), _span(test), result.get("best_step"), live, _number(seconds)]
        lines.append(_row(cells))
    return lines


def _differences(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """A line for each key that is not the same everywhere."""
    keys = dict.fromkeys(key for run in runs for key in run["config"])
    differing = [key for key in keys if key not in _UNTOLD and len({json.dumps(run["config"].get(key), sort_keys=True) for run in runs}) > 1]
    lines = ["", "## What differs between their configurations", ""]
    if not differing:
        return [*lines, "Nothing."]
    table = [_row(["key", *names]), "|---" * (len(names) + 1) + "|"]
    return [*lines, *table, *(_row([key, *(_shown(run["config"].get(key)) for run in runs)]) for key in differing)]


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join("" if cell is None else str(cell).replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> str:
    text = "open" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _span(value: Mapping[str, float] | None) -> str:
    return "" if value is None else f"{value['value']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
