"""What came out: cells (an arm with a trial, over seeds), the trial that each arm chose on validation, and what a comparison is made of.

Pure functions of the members' results and their records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.ablation import statistics
from ftjax.ablation.statistics import Measured
from ftjax.evaluation import Metric

Result = Mapping[str, Any]
"""A line of members.json."""

ReadRecords = Callable[[int, str], Any]
"""`read(member, split)`: the records of a member's best weights on "test" or on a shift."""


@dataclasses.dataclass(frozen=True)
class Question:
    """How the results are judged."""

    metric: Metric
    reference: str | None
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


def cells(results: Sequence[Result], question: Question, read: ReadRecords, shifts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A line for every arm and trial: mean over seeds, intervals, how many diverged. Diverged members are counted and in no mean."""
    made = []
    for (arm, trial), members in _by_cell(results).items():
        good = [one for one in members if one["status"] == "ok"]
        line = {
            "arm": arm,
            "trial": trial,
            "settings": members[0]["settings"],
            "tuned": members[0]["tuned"],
            "learning_rate": members[0]["learning_rate"],
            "members": [one["member"] for one in members],
            "seeds": [one["seed"] for one in members],
            "diverged": sum(one["status"] == "diverged" for one in members),
            "status": _status([one["status"] for one in members]),
        }
        made.append(line | (_numbers(good, question, read, shifts) if good else {}))
    return made


def _status(each: Sequence[str]) -> str:
    """Of a cell: that of its members, or how many diverged."""
    lost = each.count("diverged")
    return each[0] if len(set(each)) == 1 else f"{lost} of {len(each)} diverged" if lost else "stopped"


def _numbers(good: Sequence[Result], question: Question, read: ReadRecords, shifts: Sequence[str]) -> dict[str, Any]:
    name = question.metric.name
    measured = _measured(good, question, read, "test")
    found: dict[str, Any] = {
        "validation": statistics.over_seeds([one["splits"]["validation"][name] for one in good], question.confidence),
        "test": statistics.over_seeds([one["splits"]["test"][name] for one in good], question.confidence),
        "test_over_examples": statistics.over_examples(measured, question.confidence),
        "test_over_both": statistics.over_both(measured, confidence=question.confidence, seed=question.seed),
        "values": [one["splits"]["test"][name] for one in good],
        "distance": _mean([one["distance"] for one in good]),
        "best_step": _mean([float(one["best_step"]) for one in good]),
        "seconds": _mean([sum(one["seconds"].values()) for one in good]),
        "live_parameters": good[0]["live_parameters"],
        "examples": good[0]["examples"],
        "train_examples": good[0]["train_examples"],
    }
    for shift in shifts:
        found[f"test {shift}"] = statistics.over_seeds([one["splits"][f"test {shift}"][name] for one in good], question.confidence)
    if shifts:
        # One number for a seed: the mean over shifts, so that its interval is over seeds.
        means = [float(np.mean([one["splits"][f"test {shift}"][name] for shift in shifts])) for one in good]
        found["test shifted"] = statistics.over_seeds(means, question.confidence)
    return found


def chosen(table: Sequence[Mapping[str, Any]], metric: Metric) -> dict[str, Mapping[str, Any]]:
    """For each arm the cell that is best on validation, the earlier trial on a tie; a cell with a diverged member is not chosen where another has none."""
    best: dict[str, Mapping[str, Any]] = {}
    for cell in table:
        if "validation" not in cell:
            continue
        before = best.get(cell["arm"])
        if before is None or _rank(cell, metric) > _rank(before, metric):
            best[cell["arm"]] = cell
    return best


def _rank(cell: Mapping[str, Any], metric: Metric) -> tuple[bool, float]:
    value = cell["validation"]["value"]
    return cell["diverged"] == 0, value if metric.higher_is_better else -value


def arms(results: Sequence[Result], best: Mapping[str, Mapping[str, Any]], question: Question, read: ReadRecords, split: str = "test") -> dict[str, Measured]:
    """Every arm with its chosen trial, measured for the comparisons."""
    by_number = {one["member"]: one for one in results}
    return {
        name: _measured([by_number[number] for number in cell["members"] if by_number[number]["status"] == "ok"], question, read, split)
        for name, cell in best.items()
    }


def insensitivity(table: Sequence[Mapping[str, Any]], metric: Metric) -> dict[str, dict[str, float]]:
    """For each arm the mean and the worst test metric over its trials: what tuning is worth, or what a bad guess costs. Diverged cells have no number."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(cell["arm"] for cell in table):
        values = [cell["test"]["value"] for cell in table if cell["arm"] == name and "test" in cell]
        if len(values) > 1:
            found[name] = {"mean": float(np.mean(values)), "worst": min(values) if metric.higher_is_better else max(values), "trials": len(values)}
    return found


def _measured(good: Sequence[Result], question: Question, read: ReadRecords, split: str) -> Measured:
    records = {one["seed"]: read(one["member"], split) for one in good}
    return statistics.measure(records, question.metric, resamples=question.resamples, seed=question.seed)


def _by_cell(results: Sequence[Result]) -> dict[tuple[str, int], list[Result]]:
    found: dict[tuple[str, int], list[Result]] = {}
    for one in sorted(results, key=lambda one: one["member"]):
        found.setdefault((one["arm"], one["trial"]), []).append(one)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
