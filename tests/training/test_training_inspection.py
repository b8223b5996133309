"""Inspection by the pretrained body: it comes before anything is decided, and its features are computed once for everybody."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftjax import Config, DataConfig, EvaluationConfig, ModelConfig, TaskConfig, TrainConfig, config_usage, configuration
from ftjax.data import Dataset
from ftjax.errors import ConfigError
from ftjax.training.inspection import Body, asked
from ftjax.training.prepare import prepare

pytestmark = pytest.mark.usefixtures("one_device")


def settings(**data: Any) -> Config:
    return Config(
        data=DataConfig(**{"source": "digits", "labels_per_class": 30, "validation_fraction": 0.05, "test_fraction": 0.05} | data),
        model=ModelConfig(pretrained="builtin:digits"),
        train=TrainConfig(duration="4 epochs", batch_size=32),
        evaluation=EvaluationConfig(baselines=()),
        method="probe",
    )


def resolved(config: Config) -> configuration.Resolved:
    return configuration.resolve(None, {}, config)


@pytest.fixture(scope="module")
def noisy() -> tuple[Dataset, set[str]]:
    """The digits with one training label in ten changed, and the ids of those."""
    dataset = prepare(resolved(settings()))[0].dataset
    train = dataset.splits["train"]
    changed = np.arange(0, len(train), 10)
    labels = train.labels.copy()
    labels[changed] = (labels[changed] + 3) % 10
    splits = {**dataset.splits, "train": dataclasses.replace(train, labels=labels)}
    return dataclasses.replace(dataset, splits=splits), {train.ids[row] for row in changed}


def test_wrong_labels_leave_before_the_clock_is_set_and_features_are_computed_once(noisy, tmp_path: Path, monkeypatch) -> None:
    dataset, changed = noisy
    computed: list[int] = []
    body = Body._computed
    monkeypatch.setattr(Body, "_computed", lambda self, params, stats, split: computed.append(len(split)) or body(self, params, stats, split))
    plan, state = prepare(resolved(settings(label_errors="drop", outliers="report")), dataset=dataset, cache=tmp_path)
    report, train = plan.dataset.report, plan.dataset.splits["train"]
    gone = set(dataset.splits["train"].ids) - set(train.ids)
    assert len(gone & changed) >= 0.8 * len(changed)
    assert len(gone & changed) >= 0.8 * len(gone)
    assert plan.clock.examples_per_epoch == len(train) == report["splits"]["train"]["rows"] == 300 - len(gone)
    assert sorted(report["label_errors"]["dropped"]) == sorted(gone)
    assert report["outliers"]["dropped"] == []
    assert len(plan.dataset.splits["validation"]) == len(dataset.splits["validation"])
    worst = report["label_errors"]["rows"][0]["id"]
    assert plan.dataset.examples[worst]["image"].shape == (16, 16, 3)
    assert len(computed) == 3
    features = plan.features(state.theta0, state.extra["batch_stats"], "train")
    assert features.shape[0] == len(train)
    plan.feed(plan.stages[0], state)
    plan.features(state.theta0, state.extra["batch_stats"], "test")
    assert len(computed) == 3
    row = train.ids.index(plan.dataset.splits["train"].ids[5])
    np.testing.assert_allclose(np.asarray(features[row]), body(plan._body, state.theta0, state.extra["batch_stats"], train)[row], rtol=1e-5, atol=1e-5)
    again = prepare(resolved(settings(label_errors="drop", outliers="report")), dataset=dataset, cache=tmp_path)[0]
    assert len(computed) == 3
    assert again.dataset.report == report
    assert prepare(resolved(settings(label_errors="drop", outliers="report")), dataset=plan.dataset)[0].dataset is plan.dataset


def test_off_changes_nothing_and_report_leaves_every_row(noisy) -> None:
    dataset, _ = noisy
    assert prepare(resolved(settings()), dataset=dataset)[0].dataset is dataset
    kept = prepare(resolved(settings(label_errors="report")), dataset=dataset)[0].dataset
    assert kept.splits is dataset.splits
    assert kept.report["fingerprint"] == dataset.report["fingerprint"]
    assert "outliers" not in kept.report
    assert any(line.startswith("labels that are probably wrong: ") for line in kept.report["warnings"])


def test_what_cannot_be_inspected_is_refused(monkeypatch) -> None:
    scratch = dataclasses.replace(settings(label_errors="report"), method="scratch")
    with pytest.raises(ConfigError, match=r"data.label_errors='report' judges rows by the features of pretrained weights; set model.pretrained"):
        asked(scratch, None)
    with pytest.raises(ConfigError, match=r"data.outliers='drop' would change the shares of data.mixture; use 'report', and data.drop"):
        asked(settings(outliers="drop", mixture=(("other", 1.0),)), None)
    regression = dataclasses.replace(settings(label_errors="drop"), task=TaskConfig(name="regression"))
    with pytest.raises(ConfigError, match=r"data.label_errors='drop' is set and nothing reads it: task.name is 'regression'; it is read by 'classification'"):
        config_usage.check_used(regression)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package cleanlab: pip install 'ftjax\[clean\]'"):
        asked(settings(label_errors="report"), None)
