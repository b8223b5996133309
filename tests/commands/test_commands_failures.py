"""What a user meets when something is wrong: one line that names it and what would do, exit code 2; a run that failed says so and ends with 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest_commands import small_config
from PIL import Image

import ftjax
from ftjax import DataConfig, ModelConfig, OptimizerConfig, TrainConfig, files
from ftjax.main import main

CONFIG = """
from ftjax import *
def get_config():
    return Config(
        method="scratch", data=DataConfig(source="digits", labels_per_class=4), model=ModelConfig(name="vit_digits"),
        train=TrainConfig(duration="6 steps", batch_size=8), mesh=MeshConfig(data=1, tensor=8),
        evaluation=EvaluationConfig(baselines=(), bootstrap=50), report=ReportConfig(progress="none"),
    )
"""


@pytest.fixture
def config(tmp_path) -> str:
    (tmp_path / "c.py").write_text(CONFIG)
    return str(tmp_path / "c.py")


def said(arguments: list[str], capsys: pytest.CaptureFixture, code: int = 2, lines: int = 1) -> str:
    """Standard error of a command that must fail, which is one line (and one for each thing in a list)."""
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.count("\n") == lines, error
    assert error.startswith("ftjax: ")
    return error


def photos(folder: Path, **classes: int) -> Path:
    draw = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(draw.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.optimizer.learning_rat=1"], "unknown key --config.optimizer.learning_rat; did you mean 'optimizer.learning_rate'"),
        (["--config.optimizer.lr=1"], "unknown key --config.optimizer.lr; did you mean 'optimizer.learning_rate'?"),
        (["--config.train.epochs=1"], "unknown key --config.train.epochs; did you mean 'train.duration'?"),
        (["--config.optimizer.zzzzzz=1"], "allowed: 'optimizer.beta1', 'optimizer.beta2'"),
        (["--config.train.batch_size=many"], "flags: train.batch_size='many' has the wrong type str; allowed: int or 'all' or None"),
        (["--config.seed"], "--config.seed has no value; write --config.seed=VALUE"),
        (["--config.coefficient.rules=[('.*',0)]"], "all-frozen: every parameter has coefficient 0, so nothing can learn"),
        (["--config.coefficient.rules=[('haed/.*',1),('.*',0)]"], "rule 1 'haed/.*' matches no parameter; did you mean 'head/.*'"),
        (["--config.coefficient.rules=[('.*',1),('head/.*',0)]"], "rule 2 'head/.*' never applies: rule 1 '.*' before it takes all it matches"),
        (["--config.coefficient.rules=[('head/.*',1)]"], "no rule covers"),
        (["--config.train.duration=3 epoch5"], "train.duration: "),
        (["--config.train.batch_size=9", "--config.mesh.tensor=1", "--config.mesh.data=8"], "cannot be spread evenly over 8 devices"),
        (["--config.train.microbatches=3"], "train.batch_size=8 cannot be cut into train.microbatches=3 equal parts"),
        (["--config.mesh.data=3"], "devices"),
        (["--config.model.name=vit_tyni_patch16_224"], "did you mean 'vit_tiny_patch16_224'"),
        (["--config.model.name=none"], "method='scratch' needs model.name or model.pretrained"),
        (["--config.method=full"], "method='full' needs model.pretrained"),
        (["--config.model.pretrained=nowhere.safetensors"], "nowhere.safetensors"),
        (["--config.model.pretrained=builtin:digit"], "did you mean"),
        (["--config.evaluation.metric=acuracy"], "did you mean 'accuracy'"),
        (["--config.model.image_size=(15,16)"], "image_size"),
        (["--config.data.path=photos"], "data.path='photos' is set and nothing reads it: data.source is 'digits'"),
        (["--config.optimizer.momentum=0.5"], "it is read by 'sgd'"),
    ],
)
def test_a_bad_setting_is_one_line(config, tmp_path, capsys, flags, message):
    error = said(["--config", config, "--workdir", str(tmp_path / "run"), *flags], capsys)
    assert message in error


def test_an_unknown_command_and_a_missing_config_are_one_line(config, tmp_path, capsys):
    assert "unknown command 'trian'; did you mean 'train'?" in said(["trian"], capsys)
    assert "no configuration file" in said(["--config", str(tmp_path / "d.py"), "--workdir", str(tmp_path / "run")], capsys)
    assert "unknown flag --workdr; did you mean '--workdir'?" in said(["--config", config, "--workdr", str(tmp_path)], capsys)
    assert "unknown flag --workdir; allowed: '--alternatives', '--config'" in said(["check", "--config", config, "--workdir", str(tmp_path)], capsys)
    assert "required: --workdir; see ftjax train --help" in said(["--config", config], capsys)
    assert "predict takes the configuration of the run" in said(["predict", "--workdir", "x", "--input", "y", "--output", "z.csv", "--config.seed=1"], capsys)


def test_bad_data_is_named(config, tmp_path, capsys):
    def error(path: Path, lines: int = 1) -> str:
        flags = ["--config.data.source=image_folder", f"--config.data.path={path}", "--config.data.labels_per_class=none"]
        return said(["--config", config, "--workdir", str(tmp_path / "run"), *flags], capsys, lines=lines)

    assert "photoz" in error(tmp_path / "photoz")
    assert "one" in error(photos(tmp_path / "single", cat=12))
    (photos(tmp_path / "empty", cat=12, dog=12) / "cow").mkdir()
    assert "cow" in error(tmp_path / "empty")
    broken = photos(tmp_path / "broken", cat=12, dog=12)
    (broken / "cat" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    (broken / "dog" / "4.png").write_bytes(b"")
    listed = error(broken, lines=4)
    assert "cat/3.png" in listed
    assert "dog/4.png" in listed


def test_weights_of_another_architecture_and_a_truncated_file_are_refused(config, pretrained, tmp_path, capsys):
    arguments = ["--config", config, "--workdir", str(tmp_path / "run"), "--config.method=full"]
    error = said([*arguments, f"--config.model.pretrained={pretrained}", "--config.model.name=resnet20_cifar"], capsys)
    assert "holds vit_digits, model.name='resnet20_cifar' is resnet" in error
    (tmp_path / "cut.safetensors").write_bytes(pretrained.read_bytes()[:5000])
    error = said([*arguments, f"--config.model.pretrained={tmp_path / 'cut.safetensors'}", "--config.model.name=none"], capsys)
    assert "cut.safetensors" in error


def test_a_learning_rate_of_1e30_is_a_failed_run(config, tmp_path, capsys):
    workdir = tmp_path / "run"
    arguments = ["--config", config, "--workdir", str(workdir), "--config.optimizer.learning_rate=1e30", "--config.train.duration=40 steps"]
    error = said(arguments, capsys, code=1)
    assert "training failed: 3 steps in a row had a loss or gradient that is not finite" in error
    assert "gradient norms by group: stem" in error
    assert "digits/" in error
    result = files.read_json(workdir / "result.json")
    assert result["status"] == "failed"
    assert "3 steps in a row" in result["error"]
    assert "3 steps in a row" in (workdir / "report.html").read_text()
    losses = [line for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()) if line["split"] == "train"]
    assert all(line["loss"] is None or np.isfinite(line["loss"]) for line in losses)


def test_a_group_that_never_moved_fails_the_run(tmp_path):
    config = small_config(optimizer=OptimizerConfig(learning_rate=1e-30, weight_decay=0.0), train=TrainConfig(duration="3 steps", batch_size=16))
    with pytest.raises(ftjax.errors.TrainingFailed, match="these groups should train and never moved: stem, block_0"):
        ftjax.finetune(config, tmp_path / "run")
    assert files.read_json(tmp_path / "run" / "result.json")["status"] == "failed"


def test_a_probe_needs_weights_it_can_probe(tmp_path):
    config = small_config(method="probe", data=DataConfig(source="digits"), model=ModelConfig(name="vit_digits"))
    with pytest.raises(ftjax.FtjaxError, match=r"needs model\.pretrained"):
        ftjax.finetune(config, tmp_path / "run")
