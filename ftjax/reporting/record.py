"""A run directory as one value: whatever files are there, and a sentence about each that is not.

A failed, killed or half-copied run is read like a good one; only a directory without any file of a run is refused.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.config import TEXT_SOURCES
from ftjax.errors import CheckpointError
from ftjax.files import read_json
from ftjax.reporting.metrics_log import FILE as METRICS
from ftjax.reporting.metrics_log import parse_metrics
from ftjax.reporting.wording import is_finite, lower_is_better

JSON_FILES = {
    "config": "config.json",
    "data": "data.json",
    "load": "load.json",
    "coefficients": "coefficients.json",
    "after": "after.json",
    "result": "result.json",
    "test": "evaluation/test.json",
}
RECORDS = "evaluation/test.npz"
CARTOGRAPHY = ("cartography.json", "cartography.jsonl")
"""What only a run that followed its training examples has: those to look at, and a line for each."""
ABSENT = "is not there: the run ended before it was written."


Dot = tuple[float, float, float]
"""Variability, confidence and correctness of a training example."""

UNFINISHED = "unfinished"
"""The status of a run that has written no result yet."""


@dataclasses.dataclass(frozen=True)
class MainMetric:
    """The metric that a run is about: it picked the checkpoint, and the baselines have it too."""

    name: str
    higher_is_better: bool


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run directory holds; a file that is missing or unreadable is an empty mapping here and a sentence in `notes`."""

    name: str
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    load: Mapping[str, Any]
    coefficients: Mapping[str, Any]
    result: Mapping[str, Any]
    test: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    records: Mapping[str, np.ndarray]
    notes: Mapping[str, str]
    """File name -> why it is not in this report."""
    after: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cartography: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Training examples that a person should look at; empty where the run followed none."""
    dots: tuple[Dot, ...] = ()
    """Every training example that was followed and seen."""

    @property
    def status(self) -> str:
        """Of result.json; a run without one has not finished."""
        return str(self.result["status"]) if "status" in self.result else UNFINISHED

    @property
    def task(self) -> str:
        """What is predicted, as the result or the configuration names it; a run that says neither is read as a classification."""
        return str(self.result.get("task") or mapping(self.settings.get("task")).get("name") or "classification")

    @property
    def metric(self) -> MainMetric:
        """The metric that the page is about."""
        return main_metric(self.result, self.settings)

    @property
    def of_text(self) -> bool:
        """Whether the examples are texts; otherwise they are pictures."""
        if self.data.get("interactions"):
            return False
        return mapping(self.settings.get("data")).get("source") in TEXT_SOURCES or bool(mapping(self.data.get("tokens")) or mapping(self.data.get("columns")))

    @property
    def phases(self) -> list[Mapping[str, Any]]:
        """The stretches of the run in which the same parameters train; one or none: always."""
        return [found for phase in listing(self.coefficients.get("phases")) if (found := mapping(phase))]

    @property
    def borders(self) -> list[float]:
        """Steps at which a phase begins, the first one's left out."""
        return [phase["start"] for phase in self.phases[1:] if isinstance(phase.get("start"), int)]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The resolved configuration, nested."""
        return mapping(self.config.get("config"))


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def listing(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def main_metric(result: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> MainMetric:
    """The metric that result.json names; where it names none (a failed run), the configuration's, else the first that was tested.

    Args:
      result: content of result.json.
      settings: the resolved configuration, nested.
    """
    found = mapping(result.get("metric"))
    tested = mapping(mapping(result.get("splits")).get("test"))
    name = found.get("name") or mapping(mapping(settings).get("evaluation")).get("metric") or next(iter(tested), None) or "accuracy"
    stated = found.get("higher_is_better")
    return MainMetric(str(name), stated if isinstance(stated, bool) else not lower_is_better(str(name)))


def _read_object(path: Path, name: str) -> tuple[Mapping[str, Any], str | None]:
    """A JSON object, or why there is none."""
    try:
        value = read_json(path)
    except FileNotFoundError:
        return {}, f"{name} {ABSENT}"
    except (OSError, ValueError) as error:
        return {}, f"{name} cannot be read: {error}"
    return (value, None) if isinstance(value, Mapping) else ({}, f"{name} cannot be read: it holds a {type(value).__name__}, not an object")


def _read_log(path: Path) -> tuple[tuple[Mapping[str, Any], ...], str | None]:
    try:
        records, damaged = parse_metrics(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return (), f"{METRICS} {ABSENT}"
    except OSError as error:
        return (), f"{METRICS} cannot be read: {error}"
    return tuple(records), f"{METRICS}: {len(damaged)} damaged lines are left out, the first is line {damaged[0]}." if damaged else None


def _read_records(path: Path) -> tuple[Mapping[str, np.ndarray], str | None]:
    """The one-dimensional arrays of the evaluation (not its logits), without ever opening a pickle."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: array for name in file.files if (array := file[name]).ndim == 1}, None
    except FileNotFoundError:
        return {}, f"{RECORDS} {ABSENT}"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return {}, f"{RECORDS} cannot be read: {error}"


def _read_dots(path: Path) -> tuple[Dot, ...]:
    """The examples that were seen; lines that are something else are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ()
    return tuple(dot for line in lines if (dot := _dot(line)) is not None)


def _dot(line: str) -> Dot | None:
    try:
        found = mapping(json.loads(line))
    except (ValueError, RecursionError):
        return None
    given: list[Any] = [found.get(name) for name in ("variability", "confidence", "correctness")]
    values = [float(value) for value in given if is_finite(value) and 0 <= value <= 1]
    return (values[0], values[1], values[2]) if len(values) == 3 else None


def read_run(workdir: str | Path) -> Run:
    """Read everything a report needs.

    Raises:
      CheckpointError: `workdir` is no directory, or holds no file of a run.
    """
    folder = Path(workdir)
    if not folder.is_dir():
        raise CheckpointError(f"work directory {str(folder)!r} does not exist; --workdir names the directory of a run")
    expected = [*JSON_FILES.values(), METRICS]
    if not any((folder / name).exists() for name in expected):
        raise CheckpointError(f"work directory {str(folder)!r} holds no run: none of {', '.join(expected)} is in it")
    values, notes = {}, {}
    for key, name in JSON_FILES.items():
        values[key], notes[name] = _read_object(folder / name, name)
    metrics, notes[METRICS] = _read_log(folder / METRICS)
    records, notes[RECORDS] = _read_records(folder / RECORDS)
    shown, complaint = _read_object(folder / CARTOGRAPHY[0], CARTOGRAPHY[0]) if (folder / CARTOGRAPHY[0]).exists() else ({}, None)
    notes[CARTOGRAPHY[0]], dots = complaint, _read_dots(folder / CARTOGRAPHY[1])
    known = {name: note for name, note in notes.items() if note}
    return Run(name=folder.resolve().name, metrics=metrics, records=records, notes=known, cartography=shown, dots=dots, **values)
