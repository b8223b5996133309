"""The whole story through the library and through the command line, on a run small enough for every pull request."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest_commands import small_config

import ftjax
from ftjax import DataConfig, ModelConfig, TrainConfig, data, files
from ftjax.commands import artefact
from ftjax.errors import CheckpointError, ConfigError, DataError
from ftjax.main import main

FILES = (
    "config.json data.json coefficients.json metrics.jsonl result.json report.html request.json "
    "model/weights.safetensors model/model.json model/README.md evaluation/test.npz evaluation/test.json"
)


def test_a_finished_run_leaves_the_whole_run_directory(finished):
    assert finished.result["status"] == "ok"
    for name in FILES.split():
        assert (finished.workdir / name).stat().st_size > 0, name
    assert (finished.workdir / "rejected.jsonl").read_text() == ""
    test = finished.result["splits"]["test"]
    assert {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece", "top_k_accuracy"} <= set(test)
    assert all(v["low"] <= v["value"] <= v["high"] for v in test.values())
    assert finished.result["steps"] == 8
    assert finished.result["examples"] == 8 * 16
    assert set(finished.result["travel"]) == {"stem", *(f"block_{i}" for i in range(4)), "norm", "head"}


def test_predict_gives_the_logits_of_the_evaluation(finished):
    predictor = ftjax.load(finished.workdir)
    dataset = data.collect(small_config().data, predictor.preprocessing.image, small_config().seed)
    logits = predictor.logits(dataset.splits["test"])
    # The run was trained on eight devices, which sum in another order; on one the test below is exact.
    assert np.allclose(logits, finished.records().logits, atol=1e-5)
    assert np.array_equal(logits, ftjax.load(finished.workdir).logits(dataset.splits["test"]))


def test_on_one_device_predict_gives_bit_for_bit_the_logits_of_the_evaluation(tmp_path):
    script = """
import sys
import numpy as np
import ftjax
from conftest_commands import small_config
from ftjax import MeshConfig, data
config = small_config(mesh=MeshConfig())
run = ftjax.finetune(config, sys.argv[1])
predictor = ftjax.load(sys.argv[1])
dataset = data.collect(config.data, predictor.preprocessing.image, config.seed)
assert np.array_equal(predictor.logits(dataset.splits["test"]), run.records().logits)
"""
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parent}"}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr


def test_the_same_call_again_changes_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.workdir.rglob("*") if path.is_file() and path.name != ".lock"}
    again = ftjax.finetune(small_config(), finished.workdir)
    assert again.result == finished.result
    assert before == {path: path.stat().st_mtime_ns for path in finished.workdir.rglob("*") if path.is_file() and path.name != ".lock"}


def test_papers_that_a_kill_kept_from_being_written_are_written_by_the_same_call(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.workdir, copy)
    (copy / "report.html").unlink()
    ftjax.finetune(small_config(), copy)
    assert (copy / "report.html").stat().st_size > 10_000


def test_a_work_directory_of_another_config_is_refused(finished):
    with pytest.raises(ConfigError, match=r"is the run of another configuration \(seed: 0 -> 1\); use another --workdir"):
        ftjax.finetune(small_config(seed=1), finished.workdir)


def test_a_run_is_not_continued_on_other_data(arrays, tmp_path):
    data_file = tmp_path / "two.npz"
    shutil.copyfile(arrays, data_file)
    config = small_config(data=DataConfig(source="npz", path=str(data_file)))
    run = ftjax.finetune(config, tmp_path / "run")
    files.write_json(tmp_path / "run" / "result.json", run.result | {"status": "interrupted"})
    with np.load(arrays) as stored:
        np.savez(data_file, images=255 - stored["images"], labels=stored["labels"])
    with pytest.raises(DataError, match=r"was begun on other data: npz: .* has changed since"):
        ftjax.finetune(config, tmp_path / "run")


def test_before_the_first_checkpoint_a_mistake_can_be_corrected(tmp_path):
    wrong = small_config(evaluation=ftjax.EvaluationConfig(metric="acuracy", baselines=()))
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        ftjax.finetune(wrong, tmp_path / "run")
    assert ftjax.finetune(small_config(), tmp_path / "run").result["status"] == "ok"


def test_a_work_directory_in_use_is_refused(tmp_path):
    with artefact_lock(tmp_path), pytest.raises(CheckpointError, match="another process is training into"):
        ftjax.finetune(small_config(), tmp_path)


def artefact_lock(folder):
    from ftjax.commands.workdir import Workdir

    return Workdir(folder).lock()


def test_stepping_by_hand_is_the_run(finished):
    plan, state = ftjax.prepare(small_config())
    losses = []
    for step in range(plan.steps):
        state, metrics = plan.step(state, plan.batch(step))
        losses.append(float(metrics["loss"]))
    logged = [line for line in map(json.loads, (finished.workdir / "metrics.jsonl").read_text().splitlines()) if line["split"] == "train"]
    assert [line["step"] for line in logged] == [2, 4, 6, 8]
    assert [line["loss"] for line in logged] == pytest.approx(np.mean(np.reshape(losses, (4, 2)), axis=1), abs=1e-4)


def test_the_step_is_pure_and_takes_other_hyperparameters():
    plan, state = ftjax.prepare(small_config())
    batch = plan.batch(0)
    first, _ = plan.step(state, batch)
    again, _ = plan.step(state, batch)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first.live), jax.tree.leaves(again.live), strict=True))
    still, _ = plan.step(state, batch, plan.hyper | {"learning_rate": plan.hyper["learning_rate"] * 0})
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(still.live), jax.tree.leaves(state.live), strict=True))
    axes = {name: 0 if name == "learning_rate" else None for name in plan.hyper}
    rates = plan.hyper["learning_rate"] * np.array([1.0, 2.0], np.float32)
    population, _ = jax.vmap(plan.step, in_axes=(None, None, axes))(state, batch, plan.hyper | {"learning_rate": rates})
    assert population.live["head"]["bias"].shape == (2, 10)


def test_predict_and_evaluate_and_report_need_the_run_directory_alone(finished, tmp_path, capsys):
    from PIL import Image

    dataset = data.collect(small_config().data, ftjax.load(finished.workdir).preprocessing.image, 0)
    (tmp_path / "in").mkdir()
    for i, image in enumerate(dataset.splits["test"].fields(np.arange(3))["image"]):
        Image.fromarray(image).save(tmp_path / "in" / f"{i}.png")
    assert main(["predict", "--workdir", str(finished.workdir), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["0.png", "1.png", "2.png"]
    records = finished.records()
    assert [row["label"] for row in rows] == [str(label) for label in records.prediction[:3]]
    (tmp_path / "in" / "broken.png").write_bytes(b"")
    again = ["predict", "--workdir", str(finished.workdir), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "again.jsonl"), "--bad-files=skip"]
    assert main(again) == 0
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "out.jsonl").read_text()
    assert "left out: broken.png: empty file" in capsys.readouterr().err
    assert main(["evaluate", "--workdir", str(finished.workdir), "--output", str(tmp_path / "metrics.json")]) == 0
    measured = files.read_json(tmp_path / "metrics.json")
    assert measured["metrics"]["accuracy"] == finished.result["splits"]["test"]["accuracy"]
    assert main(["report", "--workdir", str(finished.workdir)]) == 0
    assert str(finished.workdir / "report.html") in capsys.readouterr().out


def test_fine_tuning_a_run_keeps_the_head_where_the_classes_are_the_same(pretrained, arrays):
    same = small_config(method="full", model=ModelConfig(pretrained=str(pretrained)))
    plan, _ = ftjax.prepare(same)
    assert {row.action for row in plan.load.rows} == {"loaded"}
    other = dataclasses.replace(same, data=DataConfig(source="npz", path=str(arrays)))
    plan, _ = ftjax.prepare(other)
    assert {row.target for row in plan.load.rows if row.action == "initialised"} == {"head/kernel", "head/bias"}


def test_fine_tuning_beats_nothing_but_says_so(pretrained, arrays, tmp_path):
    config = small_config(
        method="probe",
        data=DataConfig(source="npz", path=str(arrays)),
        model=ModelConfig(pretrained=str(pretrained)),
        evaluation=ftjax.EvaluationConfig(baselines=("majority", "probe", "scratch"), bootstrap=100),
        train=TrainConfig(duration="6 steps", batch_size=16),
    )
    run = ftjax.finetune(config, tmp_path / "run")
    assert set(run.result["baselines"]) == {"majority", "probe", "scratch"}
    assert run.result["verdict"].startswith("Fine-tuning reached")
    assert run.result["parameters"]["live"] == 2 * 96 + 2
    assert set(run.result["travel"]) == {"head"}
    origins = files.read_json(run.workdir / "baselines" / "scratch" / "config.json")["origins"]
    assert origins["optimizer.learning_rate"]["origin"] == "recipe"
    assert files.read_json(run.workdir / "baselines" / "scratch" / "result.json")["steps"] == 6


def test_check_tells_the_plan_and_trains_nothing(finished, pretrained, tmp_path, capsys, monkeypatch):
    config = tmp_path / "c.py"
    config.write_text("from ftjax import *\ndef get_config():\n    return Config(data=DataConfig(source='digits', labels_per_class=4))\n")
    monkeypatch.chdir(tmp_path)
    flags = [f"--config.model.pretrained={pretrained}", "--config.mesh.tensor=8", "--config.mesh.data=1"]
    assert main(["check", "--config", str(config), *flags, "--leaves"]) == 0
    said = capsys.readouterr().out
    for what in ("454,954 live", "FLOPs per step", "memory of the step", "ok: this run can start", "head/kernel", "loaded"):
        assert what in said, what
    assert [path.name for path in tmp_path.iterdir()] == ["c.py"]


def test_the_artefact_refuses_weights_of_another_description(finished, tmp_path):
    shutil.copytree(finished.workdir / "model", tmp_path / "model")
    described = files.read_json(tmp_path / "model" / "model.json")
    described["spec"]["options"]["width"] = 192
    files.write_json(tmp_path / "model" / "model.json", described)
    with pytest.raises(ftjax.FtjaxError, match=r"has shape .* model\.json asks for"):
        ftjax.load(tmp_path)


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(ftjax.FtjaxError, match=r"holds no finished run: .*model.json is missing"):
        artefact.load(tmp_path)


def test_jax_sees_eight_devices():
    assert len(jax.devices()) == 8
