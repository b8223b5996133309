"""Killed at any moment, the same command ends bit for bit where the uninterrupted run ends; asked to stop, it saves and says so."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftjax import files

CONFIG = """
from ftjax import *

def get_config():
    return Config(
        method="scratch",
        data=DataConfig(source="digits", labels_per_class=20),
        augment=AugmentConfig(crop_min_area=0.5),
        model=ModelConfig(name="vit_digits"),
        train=TrainConfig(duration="60 steps", batch_size=8, evaluate_every="10 steps", log_every="7 steps", checkpoint_every="6 steps"),
        evaluation=EvaluationConfig(baselines=("majority",), bootstrap=50),
        report=ReportConfig(progress="plain", thumbnails=2),
    )
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    (folder / "c.py").write_text(CONFIG)
    return folder


def start(folder: Path, workdir: Path) -> subprocess.Popen:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "ftjax.main", "--config", str(folder / "c.py"), "--workdir", str(workdir)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parents[2])


def finish(folder: Path, workdir: Path) -> str:
    process = start(folder, workdir)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def digest(workdir: Path) -> dict[str, str]:
    """What must be equal: the weights, every logged number, every prediction."""
    names = ("model/weights.safetensors", "metrics.jsonl")
    found = {name: hashlib.sha256((workdir / name).read_bytes()).hexdigest() for name in names}
    result = files.read_json(workdir / "result.json")
    return found | {key: json.dumps(result[key]) for key in ("splits", "best_step", "steps", "travel")} | last_arrays(workdir)


def last_arrays(workdir: Path) -> dict[str, str]:
    from orbax.checkpoint import v1 as ocp

    (step,) = (workdir / "checkpoints" / "last").iterdir()
    record = ocp.metadata(step).custom_metadata["ftjax"]
    return {path: array["fingerprint"] for path, array in record["arrays"].items()}


@pytest.fixture(scope="module")
def uninterrupted(folder) -> Path:
    finish(folder, folder / "whole")
    return folder / "whole"


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    """Until the log holds a line of this step or a later one."""
    log = workdir / "metrics.jsonl"
    while process.poll() is None:
        lines = log.read_text().splitlines() if log.exists() else []
        complete = [json.loads(line)["step"] for line in lines if line.endswith("}")]
        if complete and max(complete) >= step:
            return
        time.sleep(0.005)


def test_kill9_bitwise(folder, uninterrupted):
    workdir = folder / "killed"
    draw = random.Random(0)
    for step in (7, 21, 35, 56):
        process = start(folder, workdir)
        wait_for_step(workdir, step, process)
        time.sleep(draw.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    said = finish(folder, workdir)
    assert "resumed from step" in said
    assert digest(workdir) == digest(uninterrupted)


def test_sigterm_one(folder, uninterrupted):
    workdir = folder / "asked"
    process = start(folder, workdir)
    wait_for_step(workdir, 14, process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert process.returncode == 130, said
    result = files.read_json(workdir / "result.json")
    assert result["status"] == "interrupted"
    assert f"interrupted at step {result['steps']} of 60; the same command goes on from there" in said
    said = finish(folder, workdir)
    assert f"resumed from step {result['steps']}" in said
    assert digest(workdir) == digest(uninterrupted)


def test_sigterm_while_the_scratch_baseline_trains(folder, tmp_path):
    """The run inside the run is interrupted, saved and continued like the one around it."""
    weights = Path(__file__).parents[2] / "ftjax" / "weights" / "builtin" / "digits.safetensors"
    body = CONFIG.replace('method="scratch"', 'method="full"').replace('ModelConfig(name="vit_digits")', f'ModelConfig(pretrained="{weights}")')
    (tmp_path / "c.py").write_text(body.replace('("majority",)', '("scratch",)'))
    process = start(tmp_path, tmp_path / "run")
    wait_for_step(tmp_path / "run" / "baselines" / "scratch", 14, process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert files.read_json(tmp_path / "run" / "result.json")["status"] == "interrupted"
    assert files.read_json(tmp_path / "run" / "baselines" / "scratch" / "result.json")["status"] == "interrupted"
    finish(tmp_path, tmp_path / "run")
    assert files.read_json(tmp_path / "run" / "result.json")["baselines"]["scratch"]["difference"]


def test_disk_full_says_so_and_loses_nothing(folder, tmp_path):
    """The checkpoint's own full-disk test is beside it; here the run as a whole must end with one line and status failed."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)], capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        process = start(folder, mount / "run")
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 2, said
        assert "was not saved" in said
        assert "disk is full" in said
        assert "Traceback" not in said
        result = mount / "run" / "result.json"
        assert not result.exists() or files.read_json(result)["status"] == "failed"
    finally:
        subprocess.run(["umount", str(mount)], check=True)
