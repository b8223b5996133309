"""What becomes of suspicious rows: findings go into the report, and `data.label_errors="drop"` and `data.outliers="drop"` leave training rows out.

Counts, balance, sampling and the fingerprint are then those of what is left. Validation and test rows are never dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data import label_errors
from ftjax.data.dataset import Dataset, rows_of_split
from ftjax.data.order import fingerprint
from ftjax.data.sample import draw_by_class
from ftjax.errors import DataError

MOST = 1 / 3
"""Share of the training rows above which wrong labels are not dropped: where a probe of the pretrained features disagrees with so many, it is the probe that is
wrong. On sign digits with 20 % wrong labels half of the rows were named, and fine-tuning lost by leaving them out (benchmarks/results/label_noise.md)."""


def applied(dataset: Dataset, config: DataConfig, found: Mapping[str, Mapping[str, Any]], shown: Mapping[str, Mapping[str, Any]]) -> Dataset:
    """The data set with the findings in its report, and without the training rows that the policies drop.

    Args:
      dataset: as it was collected.
      config: `label_errors` and `outliers` say what becomes of the rows.
      found: by kind ("label_errors", "outliers"), those that were looked for.
      shown: what a person sees of suspicious rows, by id.

    Raises:
      DataError: a class would be left without a training row, or more labels would be called wrong than can be believed.
    """
    train = dataset.splits["train"]
    here = set(train.ids)
    gone: dict[str, list[str]] = {}
    for kind, one in found.items():
        drops = getattr(config, kind) == "drop"
        gone[kind] = [row["id"] for row in one["rows"] if drops and row["id"] in here and row["split"] == "train"]
    _check_believable(found.get("label_errors", {}), len(gone.get("label_errors", ())), len(train))
    told = {kind: {"policy": getattr(config, kind), **one, "dropped": gone[kind]} for kind, one in found.items()}
    report = {**dataset.report, **told, "warnings": [*dataset.report.get("warnings", ()), *_warnings(told, len(train))]}
    names = {name for some in gone.values() for name in some}
    dataset = dataclasses.replace(dataset, report=report, examples={**dataset.examples, **shown})
    return _without(dataset, config, names) if names else dataset


def _check_believable(found: Mapping[str, Any], gone: int, rows: int) -> None:
    """Refuse to drop more rows than `MOST` of them."""
    if gone > MOST * rows:
        raise DataError(
            f"data.label_errors='drop' would leave out {gone:,} of {rows:,} training rows ({gone / rows:.0%}); {_probe(found)}, so the pretrained features "
            "hardly tell these classes apart and most of those labels are probably right; use 'report', and data.drop for the rows that you find wrong"
        )


def _probe(found: Mapping[str, Any]) -> str:
    """How good the judge is."""
    probe = found["probe"]
    return f"the probe is right for {probe['accuracy']:.0%} of them (always the largest class: {probe['majority']:.0%})"


def _without(dataset: Dataset, config: DataConfig, names: set[str]) -> Dataset:
    """Leave training rows out; counts, balance, sampling and fingerprint are those of what is left."""
    train, classes, report = dataset.splits["train"], dataset.classes, dataset.report
    kept = np.array([row for row, name in enumerate(train.ids) if name not in names], np.int64)
    before, after = (np.bincount(labels, minlength=len(classes)) for labels in (train.labels, train.labels[kept]))
    if lost := [name for name, old, new in zip(classes, before, after) if old and not new]:
        raise DataError(f"data.label_errors and data.outliers would drop every training row of class {lost[0]!r}; use 'report', and data.drop for single rows")
    largest = int(after.argmax())
    changed = {
        "fingerprint": fingerprint([(report["fingerprint"], "", b""), *((name, "dropped", b"") for name in names)]),
        "collected": report["fingerprint"],
        "splits": {**report["splits"], "train": {**report["splits"]["train"], "rows": len(kept), "per_class": dict(zip(classes, after.tolist()))}},
        "majority": {"class": classes[largest], "share": float(after[largest] / after.sum())},
        "imbalance_ratio": float(after[largest] / after.min()),
        "cleaned": {"rows_before": len(train), "rows_after": len(kept), "shares": {"before": _shares(classes, before), "after": _shares(classes, after)}},
    }
    changed["warnings"] = [*report["warnings"], *_shifted(changed["cleaned"]["shares"])]
    return _redrawn(dataclasses.replace(dataset, splits={**dataset.splits, "train": rows_of_split(train, kept)}, report={**report, **changed}), config)


def _redrawn(dataset: Dataset, config: DataConfig) -> Dataset:
    """What `data.sampling` draws, by the classes' sizes as they are now."""
    sampling = dataset.report.get("sampling", {})
    if sampling.get("drawn_by") != "data.sampling":
        return dataset
    fresh = {name: value for name, value in sampling.items() if name not in ("drawn", "drawn_by")}
    warnings = [line for line in dataset.report["warnings"] if not line.startswith("data.sampling=")]
    train = dataclasses.replace(dataset.splits["train"], sampling=None)
    report = {**dataset.report, "sampling": fresh, "warnings": warnings}
    return draw_by_class(dataclasses.replace(dataset, splits={**dataset.splits, "train": train}, report=report), config.sampling)


def _shares(classes: Sequence[str], counts: np.ndarray) -> dict[str, float]:
    return {name: float(count / counts.sum()) for name, count in zip(classes, counts)}


def _shifted(shares: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The class whose share changed most, where that is more than a tenth of it."""
    ratio = {name: shares["after"][name] / share for name, share in shares["before"].items() if share}
    name = max(ratio, key=lambda one: (abs(np.log(ratio[one])), one))
    if abs(np.log(ratio[name])) <= np.log(1.1):
        return []
    return [f"cleaning changed how frequent classes are: {name!r} was {shares['before'][name]:.1%} of the training rows and is {shares['after'][name]:.1%} now"]


def _warnings(told: Mapping[str, Mapping[str, Any]], rows: int) -> list[str]:
    found = []
    for kind, what in (("label_errors", "labels that are probably wrong"), ("outliers", "rows far from all others")):
        one = told.get(kind)
        if one is None:
            continue
        here = one["found"].get("train", 0)
        elsewhere = ", ".join(f"{count} in {split}" for split, count in one["found"].items() if count and split != "train")
        if here or elsewhere:
            done = "those in train were dropped, rejected.jsonl names them" if one["dropped"] else f"they were left in; {kind} in data.json names them"
            judge = f" {_probe(one)};" if kind == "label_errors" else ""
            found.append(f"{what}: {here} of {rows:,} in train{', ' + elsewhere if elsewhere else ''};{judge} {done}")
        if one.get("not_judged"):
            few = f"fewer than {label_errors.LEAST} training rows that are no copies of each other"
            found.append(f"{few}, so their labels were not judged: {', '.join(map(repr, one['not_judged'][:10]))}")
    return found
