"""The README promises only what runs: every command and the Python example are executed as they stand, in a folder like a user's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_language import sums, write_llama, write_rows
from tiny_text import texts, write_bert, write_table

from ftjax import files

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
RUN_BY_CI = ("pip install", "python -m pytest")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with photos of two kinds, a file of weights and the shipped configurations."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "configs", home / "configs")
    shutil.copyfile(ROOT / "ftjax" / "weights" / "builtin" / "digits.safetensors", home / "weights.safetensors")
    draw = np.random.default_rng(0)
    for name, brightness in (("dark", 40), ("bright", 160)):
        (home / "photos" / name).mkdir(parents=True)
        for i in range(40):
            pixels = (draw.integers(0, 60, (24, 30, 3)) + brightness).astype(np.uint8)
            Image.fromarray(pixels).save(home / "photos" / name / f"{i}.jpg")
    write_bert(home / "minilm")
    write_table(home / "reviews.csv", ("text", "label"), texts(60))
    write_table(home / "new.csv", ("text",), [(text,) for text, _ in texts(5, seed=1)])
    write_llama(home / "smollm")
    write_rows(home / "answers.jsonl", sums())
    write_rows(home / "prompts.jsonl", [{"prompt": row["prompt"]} for row in sums(3)])
    return home


def run(home: Path, words: list[str]) -> str:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=home, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_runs(home):
    ours = [line for line in COMMANDS if not line.startswith(RUN_BY_CI)]
    assert len(ours) == 12
    said = {}
    for line in ours:
        command, *words = line.replace("--split test", "--split=test").split()
        assert command == "python"
        said[line] = run(home, words)
    quickstart = files.read_json(home / "runs" / "quickstart" / "result.json")
    assert quickstart["status"] == "ok"
    assert set(quickstart["baselines"]) == {"majority", "pretrained", "probe", "scratch"}
    assert "ok: this run can start" in next(text for line, text in said.items() if " check " in line)
    assert len((home / "predictions.csv").read_text().splitlines()) == 81
    assert len((home / "answered.csv").read_text().splitlines()) == 6
    assert (home / "exported" / "tokenizer.json").is_file()
    assert len((home / "answered.jsonl").read_text().splitlines()) == 3


def test_the_python_example_runs(home):
    (example,) = re.findall(r"```python\n(import ftjax.*?)```", README, re.DOTALL)
    (home / "example.py").write_text(example)
    assert "Fine-tuning reached" in run(home, ["example.py"])


def test_what_is_shown_is_what_ci_installs():
    assert [line for line in COMMANDS if line.startswith("pip")] == ["pip install .", "pip install '.[test]'"]


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
