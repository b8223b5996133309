"""Rows that a body's features make suspicious: labels that are probably wrong, and rows far from all others; what is said of them and which are left out.

Pure on arrays: `training/inspection.py` computes the features. The training rows are judged by each other, validation and test by the training rows alone,
each split by itself, so that no label of a test changes what is trained on or named elsewhere; only training rows are ever dropped.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components

from ftjax.config import DataConfig
from ftjax.data import label_errors, outliers
from ftjax.data.dataset import Dataset, Split
from ftjax.data.order import fingerprint
from ftjax.data.sample import draw_by_class
from ftjax.errors import DataError

SHOWN = 24
"""The most suspicious rows of each kind that a person is shown."""
KINDS = ("label_errors", "outliers")
MOST = 1 / 3
"""Share of the training rows above which wrong labels are not dropped: where a probe of the pretrained features disagrees with so many, it is the probe that is
wrong. On sign digits with 20 % wrong labels half of the rows were named, and fine-tuning lost by leaving them out (benchmarks/results/label_noise.md)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Rows of one split with their features."""

    ids: Sequence[str]
    labels: Int[np.ndarray, " rows"]
    features: Float[np.ndarray, "rows width"]


Parts = Mapping[str, Part]
"""By split; the first one holds the rows that judge all others."""


def find_label_errors(parts: Parts, classes: Sequence[str], together: Iterable[Sequence[str]], seed: int) -> dict[str, Any]:
    """What data.json says of labels that are probably wrong.

    Args:
      parts: the rows; those of the first part are judged out of fold.
      classes: names by label.
      together: ids of rows that are copies of each other and share a fold.
      seed: of the folds.

    Raises:
      DataError: features are not finite.
    """
    name, first = next(iter(parts.items()))
    probe, judged, judgeable = judge_labels(first, len(classes), together, seed)
    rows = _wrong(name, first, judged, classes)
    thresholds = label_errors.thresholds_of(first.labels, probe.values, judgeable)
    for split, part in parts.items():
        if split != name and len(part.ids):
            values = label_errors.of_others(first.features, first.labels, part.features, len(classes), probe.penalty)
            rows += _wrong(split, part, label_errors.judge_by(thresholds, part.labels, values, judgeable), classes)
    majority = float(np.bincount(first.labels).max() / len(first.labels))
    measured = {"accuracy": probe.accuracy, "majority": majority, "log_loss": probe.log_loss, "penalty": probe.penalty}
    return {
        "probe": {"folds": label_errors.FOLDS, **measured},
        "filter": label_errors.FILTER,
        "found": {split: sum(row["split"] == split for row in rows) for split in parts},
        "per_class": {label: sum(row["split"] == name and row["label"] == label for row in rows) for label in classes},
        "noise": label_errors.noise_rows(judged.noise, classes),
        "not_judged": [label for label, known in zip(classes, judgeable) if not known],
        "rows": rows,
    }


def judge_labels(
    part: Part, classes: int, together: Iterable[Sequence[str]], seed: int
) -> tuple[label_errors.Probabilities, label_errors.Judged, Bool[np.ndarray, " classes"]]:
    """The probabilities of every row by a probe that has not seen it, what confident learning makes of them, and which classes can be judged.

    A class with fewer than `label_errors.LEAST` rows cannot be, copies of one another counted once: all copies lie in one fold, whose probe never saw them.
    """
    groups = groups_of(part.ids, together)
    first_of_group = np.unique(np.stack([groups, part.labels]), axis=1)[1]
    judgeable = np.bincount(first_of_group, minlength=classes) >= label_errors.LEAST
    probe = label_errors.out_of_fold(part.features, part.labels, label_errors.folds_of(part.ids, part.labels, groups, seed), classes)
    return probe, label_errors.judge(part.labels, probe.values, judgeable), judgeable


def _wrong(split: str, part: Part, judged: label_errors.Judged, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that are probably wrong, the worst first."""
    found = sorted(np.flatnonzero(judged.wrong).tolist(), key=lambda row: (judged.score[row], part.ids[row]))
    return [
        {
            "id": part.ids[row],
            "split": split,
            "label": classes[int(part.labels[row])],
            "suggested": classes[int(judged.suggested[row])],
            "score": float(judged.score[row]),
        }
        for row in found
    ]


def find_outliers(parts: Parts, classes: Sequence[str], together: Iterable[Sequence[str]] = ()) -> dict[str, Any]:
    """What data.json says of rows that lie far from all others. Copies of one another count as one training row, and what is said of it holds for all of them.

    Raises:
      DataError: features are not finite.
    """
    name, first = next(iter(parts.items()))
    for part in parts.values():
        label_errors.check_finite(part.features)
    _, rows_of, groups = np.unique(groups_of(first.ids, together), return_index=True, return_inverse=True)
    judges = Part([first.ids[row] for row in rows_of], first.labels[rows_of], first.features[rows_of])
    others = [part.features for split, part in parts.items() if split != name]
    own, other = outliers.find_outliers(judges.features, np.concatenate(others) if others else None)
    rows = _far(name, first, judges, own.of(groups), classes)
    start = 0
    for split, part in parts.items():
        if split != name and other is not None:
            rows += _far(split, part, judges, other.of(np.arange(start, start + len(part.ids))), classes)
            start += len(part.ids)
    about = {"neighbours": own.neighbours, "median": own.median, "threshold": own.threshold if np.isfinite(own.threshold) else None, "deviations": outliers.FAR}
    return {**about, "found": {split: sum(row["split"] == split for row in rows) for split in parts}, "rows": rows}


def _far(split: str, part: Part, first: Part, found: outliers.Distances, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that are far from all others, the farthest first."""
    far = sorted(np.flatnonzero(found.far).tolist(), key=lambda row: (-found.values[row], part.ids[row]))
    return [
        {
            "id": part.ids[row],
            "split": split,
            "label": classes[int(part.labels[row])],
            "distance": float(found.values[row]),
            "nearest": first.ids[int(found.nearest[row])],
        }
        for row in far
    ]


def copies(report: Mapping[str, Any]) -> list[list[str]]:
    """Ids of exact copies and near duplicates that `collect` found."""
    exact, near = report.get("duplicates", {}), report.get("near_duplicates", {})
    return [list(entry["ids"]) for entry in (*exact.get("within", ()), *exact.get("across", ()), *exact.get("conflicting", ()), *near.get("groups", ()))]


def groups_of(ids: Sequence[str], together: Iterable[Sequence[str]]) -> Int[np.ndarray, " rows"]:
    """A number for each row, the same for rows that belong together, also through others."""
    row_of = {name: row for row, name in enumerate(ids)}
    pairs = [pair for names in together for pair in itertools.pairwise(row_of[name] for name in names if name in row_of)]
    ends = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = scipy.sparse.coo_array((np.ones(len(pairs), bool), (ends[0], ends[1])), shape=(len(ids), len(ids)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


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


def rows_of_split(split: Split, kept: Int[np.ndarray, " rows"]) -> Split:
    """Only these rows of a split, in this order."""
    fields, show = split.fields, split.show
    return dataclasses.replace(
        split,
        ids=tuple(split.ids[row] for row in kept),
        labels=split.labels[kept],
        fields=lambda rows: fields(kept[rows]),
        show=lambda row: show(int(kept[row])),
        lengths=None if split.lengths is None else split.lengths[kept],
        sampling=None if split.sampling is None else split.sampling[kept],
    )


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
