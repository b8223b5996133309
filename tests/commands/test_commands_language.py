"""The whole story of a model that writes: rows in, a ledger before step 1, a checked artefact, answers and a page out; and preferences."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import jax
import pytest
import tiny_language as tiny

import ftjax
from ftjax import distribution, files
from ftjax.commands.artefact import load
from ftjax.data.language.template import NAMED
from ftjax.errors import ConfigError
from ftjax.main import main


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    """There is one small program to compile, and answers are bit for bit those of the artefact."""
    make_mesh = distribution.make_mesh
    monkeypatch.setattr(distribution, "make_mesh", lambda config, devices=None: make_mesh(config, jax.devices()[:1]))


def config_of(folder: Path, task: str, rows: list[dict[str, str]]) -> ftjax.Config:
    return ftjax.Config(
        data=ftjax.DataConfig(source="table", path=str(tiny.write_rows(folder / "rows.jsonl", rows)), near_duplicates="off"),
        text=ftjax.TextConfig(buckets=1, max_length=40),
        model=ftjax.ModelConfig(pretrained=str(tiny.write_llama(folder / "llama", num_hidden_layers=1))),
        task=ftjax.TaskConfig(name=task),  # type: ignore[arg-type]
        optimizer=ftjax.OptimizerConfig(learning_rate=0.02, schedule="constant", warmup="0 steps"),
        train=ftjax.TrainConfig(duration="12 steps", batch_size=4, evaluate_every="6 steps"),
        evaluation=ftjax.EvaluationConfig(batch_size=16, bootstrap=50),
        report=ftjax.ReportConfig(progress="none"),
    )


def test_language_modeling_from_rows_to_answers(tmp_path, capsys):
    run = ftjax.finetune(config_of(tmp_path, "language_modeling", tiny.sums(60)), tmp_path / "run")
    test, before = run.result["splits"]["test"], run.result["baselines"]["pretrained"]
    assert set(test) == {"perplexity", "log_loss", "token_accuracy", "bits_per_byte"}
    assert test["perplexity"]["value"] < 0.7 * before["perplexity"]["value"]
    assert test["perplexity"]["value"] == pytest.approx(math.exp(test["log_loss"]["value"]))
    ledger = files.read_json(tmp_path / "run" / "data.json")["ledger"]
    assert ledger["train"]["sequences"] < ledger["train"]["documents"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Learnt tokens" in page
    assert f"{ledger['train']['supervised_tokens']:,}" in page

    assert main(["evaluate", "--workdir", str(tmp_path / "run"), "--output", str(tmp_path / "again.json")]) == 0
    again = files.read_json(tmp_path / "again.json")["metrics"]
    assert again["perplexity"]["value"] == pytest.approx(test["perplexity"]["value"], rel=1e-5)
    other = tiny.write_rows(tmp_path / "other.jsonl", tiny.sums(5))
    assert main(["evaluate", "--workdir", str(tmp_path / "run"), "--config.data.path", str(other)]) == 0
    assert "all: 5 examples" in capsys.readouterr().out

    asked = tiny.write_rows(tmp_path / "asked.jsonl", [{"prompt": "1 and 1"}, {"prompt": "2 and 2"}])
    output = tmp_path / "answers.jsonl"
    assert main(["predict", "--workdir", str(tmp_path / "run"), "--input", str(asked), "--output", str(output), "--max-tokens", "4"]) == 0
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["prompt"] for row in answers] == ["1 and 1", "2 and 2"]
    predictor = load(tmp_path / "run")
    assert predictor.write(["1 and 1"])[0].startswith(answers[0]["prediction"])  # as long as the model's 64 places allow
    assert predictor.write(["1 and 1"], max_tokens=4) == [answers[0]["prediction"]]
    assert predictor.preprocessing.encoder.stops == (257,)

    assert main(["export", "--workdir", str(tmp_path / "run"), "--output", str(tmp_path / "out")]) == 0
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"} <= set(os.listdir(tmp_path / "out"))
    assert NAMED["prompt_response"] in (tmp_path / "out" / "chat_template.jinja").read_text()
    carried = (tmp_path / "out" / "tokenizer_config.json").read_text()
    assert carried == (tmp_path / "llama" / "tokenizer_config.json").read_text()


def test_preferences_are_learnt_against_the_model_as_it_came(tmp_path, capsys):
    rows = [{"prompt": row["prompt"], "chosen": row["response"], "rejected": row["prompt"] + "?"} for row in tiny.sums(60)]
    config = config_of(tmp_path, "preference", rows)
    plan, state = ftjax.prepare(config)
    _, metrics = plan.step(state, plan.batch(0))
    assert float(metrics["loss"]) == pytest.approx(math.log(2), abs=1e-5)
    run = ftjax.finetune(config, tmp_path / "run")
    assert run.result["baselines"]["pretrained"]["log_loss"]["value"] == pytest.approx(math.log(2), abs=1e-5)
    assert run.result["baselines"]["pretrained"]["reward_accuracy"]["value"] == 0
    assert run.result["splits"]["test"]["reward_accuracy"]["value"] > 0.9
    assert run.result["splits"]["test"]["reward_margin"]["value"] > 0
    assert main(["evaluate", "--workdir", str(tmp_path / "run")]) == 2
    assert "preferences are measured against the model as it came" in capsys.readouterr().err


def test_a_model_that_does_not_write_is_refused(tmp_path):
    config = config_of(tmp_path, "language_modeling", tiny.sums(30))
    from tiny_text import write_bert

    bert = ftjax.configuration.replace(config, {"model.pretrained": str(write_bert(tmp_path / "bert"))})
    with pytest.raises(ConfigError, match="output 'language'"):
        ftjax.prepare(bert)
    with pytest.raises(ConfigError, match=r"model.head='new': language_modeling needs the pretrained head"):
        ftjax.prepare(ftjax.configuration.replace(config, {"model.head": "new"}))
