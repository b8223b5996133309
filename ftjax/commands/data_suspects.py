"""What `ftjax data report --pretrained` adds: labels that are probably wrong and rows far from all others, by the features of a pretrained body.

Every row that can be read is judged out of fold, whatever split it is in; nothing is left out, and drop.txt only suggests.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ftjax import distribution
from ftjax.config import Config
from ftjax.counting import counted
from ftjax.data import Dataset, label_errors, suspects
from ftjax.data.dataset import rows_of_split
from ftjax.data.findings import Findings
from ftjax.data.report import suspicion
from ftjax.errors import ConfigError, DataError
from ftjax.training import inspection
from ftjax.training.feature_cache import FeatureCache
from ftjax.training.model import pretrained_body
from ftjax.training.reading import reader
from ftjax.training.select import select

EVERY = "every row"
"""The one part that is judged."""


def suspicious(config: Config, findings: Findings) -> Findings:
    """The findings with both kinds, and their rows as advice.

    Args:
      config: with `model.pretrained`.
      findings: of the inspection without a model.

    Raises:
      ConfigError: the task has no class for each row, cleanlab is missing, or the model does not read these data.
      DataError: there are fewer than two classes.
      WeightsError: the weights cannot be used.
    """
    if config.task.name != "classification":
        raise ConfigError(f"--pretrained judges the class of each row; task.name={config.task.name!r} has none: allowed is 'classification'")
    label_errors.check_cleanlab("--pretrained")
    classes = tuple(findings.report["classes"])
    if len(classes) < 2:
        raise DataError("--pretrained judges labels, and there are fewer than two classes")
    part = _features(config, findings, classes)
    dataset = Dataset({}, classes, findings.report)
    found = inspection.findings({EVERY: part}, dataset, suspects.KINDS, config.seed)
    for one in found.values():
        one["rows"] = [{name: value for name, value in row.items() if name != "split"} for row in one["rows"]]
        one["found"] = len(one["rows"])
    found["label_errors"]["probe"].setdefault("majority", float(np.bincount(part.labels).max() / len(part.ids)))
    report = {**findings.report, **found, "warnings": [*findings.report["warnings"], *_warnings(found, len(part.ids))], "pretrained": config.model.pretrained}
    report["advice"] = [*findings.report["advice"], *_advice(found, {entry["id"] for entry in findings.report["advice"]})]
    return dataclasses.replace(findings, report=report)


def _features(config: Config, findings: Findings, classes: tuple[str, ...]) -> suspects.Part:
    """Every row that the inspection could read, with its features."""
    selection = select(config)
    reading = reader(config, selection)
    split = reading.labelled(config, classes)
    gone = set(findings.report.get("left_out", {}).get("ids", ()))
    split = rows_of_split(split, np.array([row for row, name in enumerate(split.ids) if name not in gone], np.int64))
    mesh = distribution.make_mesh(config.mesh)
    preprocessing = reading.preprocessing(config, Dataset({}, classes, findings.report))
    # An inspection has no fingerprint of the whole content, so nothing that it computes is kept.
    body, params, batch_stats = pretrained_body(config, selection, len(classes), preprocessing, mesh, FeatureCache(None), in_memory=False)
    return suspects.Part(split.ids, split.labels, body.features(params, batch_stats, split, {"fingerprint": ""}))


def _advice(found: dict[str, dict[str, Any]], told: set[str]) -> list[dict[str, Any]]:
    """Suggestions for drop.txt, none of them sure; a row that is advised against already is not named twice."""
    advice = []
    for kind, one in found.items():
        for row in one["rows"]:
            if row["id"] not in told:
                told.add(row["id"])
                advice.append({"id": row["id"], "why": suspicion(kind, row), "sure": False})
    return advice


def _warnings(found: dict[str, dict[str, Any]], rows: int) -> list[str]:
    """What a person should know of the suspicious rows, and how far to believe it."""
    one, told = found["label_errors"], []
    if one["rows"]:
        probe = one["probe"]
        told.append(
            f"{counted(len(one['rows']), 'labels are probably wrong')} (of {rows:,} rows), says a probe that is right for {probe['accuracy']:.1%} of the rows; "
            f"the most frequent class alone is right for {probe['majority']:.1%}. Look at them before you remove a # in drop.txt"
        )
    if one["not_judged"]:
        told.append(f"fewer than {label_errors.LEAST} rows, so their labels were not judged: {', '.join(map(repr, one['not_judged'][:10]))}")
    if far := found["outliers"]["rows"]:
        told.append(f"{counted(len(far), 'rows are far from all others')} (of {rows:,}) in the features. Look at them before you remove a # in drop.txt")
    return told
