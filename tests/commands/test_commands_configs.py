"""Every shipped configuration is dry-run: `check` on small data of its kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ftjax.main import main

ROOT = Path(__file__).parents[2]
WEIGHTS = ["--config.model.pretrained=builtin:digits", "--config.mesh.data=1", "--config.mesh.tensor=8"]


def check(config: str, *flags: str) -> None:
    name, _, argument = config.partition(":")
    path = str(ROOT / "configs" / f"{name}.py") + (f":{argument}" if argument else "")
    assert main(["check", "--config", path, *WEIGHTS, *flags]) == 0


def test_quickstart_passes_the_dry_run():
    check("quickstart")


def test_npz_passes_the_dry_run(arrays):
    check("npz:probe", f"--config.data.path={arrays}")


def test_image_folder_passes_the_dry_run(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.fromarray(draw.integers(0, 256, (20, 20, 3)).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    check("image_folder:partial", f"--config.data.path={tmp_path}")


@pytest.mark.slow
def test_tfds_passes_the_dry_run(tmp_path):
    script = [sys.executable, str(ROOT / "scripts" / "build_tfds_example.py"), "--data_dir", str(tmp_path)]
    said = subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    check(f"tfds:{said.split()[-1].rpartition('=')[2]}", f"--config.data.path={tmp_path}")


def test_every_shipped_configuration_has_its_dry_run_here():
    tested = {name.removeprefix("test_").removesuffix("_passes_the_dry_run") for name in globals() if name.endswith("_passes_the_dry_run")}
    assert {path.stem for path in (ROOT / "configs").glob("*.py")} == tested
