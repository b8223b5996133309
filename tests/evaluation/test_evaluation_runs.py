"""A whole run that is chosen by a metric of logits, which evaluation otherwise leaves on the device."""

from __future__ import annotations

import jax
import pytest
from tiny_text import texts, write_bert, write_table

import ftjax
from ftjax import Config, DataConfig, ModelConfig, TaskConfig, TextConfig, TrainConfig, distribution
from ftjax.config import EvaluationConfig, ReportConfig


@pytest.mark.slow
def test_the_metric_that_chooses_may_need_logits(tmp_path, monkeypatch):
    make_mesh = distribution.make_mesh
    monkeypatch.setattr(distribution, "make_mesh", lambda config, devices=None: make_mesh(config, devices or jax.devices()[:1]))
    config = Config(
        data=DataConfig(source="table", path=str(write_table(tmp_path / "rows.csv", ("text", "label"), texts(100)))),
        text=TextConfig(buckets=1),
        model=ModelConfig(pretrained=str(write_bert(tmp_path / "bert", num_hidden_layers=1)), dropout=0.1),
        task=TaskConfig(imbalance="sqrt", r_drop=1.0),
        train=TrainConfig(duration="4 steps", batch_size=16),
        report=ReportConfig(progress="none"),
        evaluation=EvaluationConfig(bootstrap=50, metric="macro_auroc", baselines=("majority",)),
    )
    result = ftjax.finetune(config, tmp_path / "run").result
    assert result["status"] == "ok"
    assert result["metric"] == {"name": "macro_auroc", "higher_is_better": True}
    assert 0 <= result["splits"]["validation"]["macro_auroc"] <= 1
    assert list(result["splits"]["test"])[-2:] == ["mcc", "macro_auroc"]
    assert "test macro AUROC" in result["verdict"]
