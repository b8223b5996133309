"""Forgetting over a whole run: measured from step 0 on, told at the end, and no matter of the scratch baseline."""

from __future__ import annotations

import numpy as np
from conftest_commands import small_config

import ftjax
from ftjax import EvaluationConfig, ForgettingConfig, ModelConfig, TrainConfig
from ftjax.files import read_json
from ftjax.reporting import read_metrics


def test_a_run_tells_what_it_forgot(pretrained, tmp_path):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "source.npz", images=draw.integers(0, 255, (12, 16, 16), dtype=np.uint8), labels=np.arange(12) % 10)
    config = small_config(
        method="full",
        model=ModelConfig(pretrained=str(pretrained)),
        train=TrainConfig(duration="4 steps", batch_size=16, evaluate_every="2 steps", log_every="2 steps", checkpoint_every="4 steps"),
        evaluation=EvaluationConfig(baselines=("majority", "scratch"), bootstrap=100),
        forgetting=ForgettingConfig(path=str(tmp_path / "source.npz"), examples=8),
    )
    run = ftjax.finetune(config, tmp_path / "run")
    source = [record for record in read_metrics(run.workdir) if record["split"] == "source"]
    assert [record["step"] for record in source] == [0, 2, 4]
    assert source[0]["source_divergence"] == 0
    assert source[-1]["source_divergence"] > 0
    measured = run.result["forgetting"]
    assert measured["before"] == {name: value for name, value in source[0].items() if name not in ("step", "split")}
    assert measured["after"] in [{name: value for name, value in record.items() if name not in ("step", "split")} for record in source[1:]]
    assert (measured["reference"], measured["examples"]) == ("labels", 8)
    assert "scratch" in run.result["baselines"]
    assert read_json(run.workdir / "baselines" / "scratch" / "request.json")["forgetting"]["path"] is None
    assert "Forgetting: source loss" in (run.workdir / "report.html").read_text()
    assert "Forgetting: accuracy on 8 source examples" in (run.workdir / "model" / "README.md").read_text()
