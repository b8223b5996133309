"""A disk that is full when the plan of a run is written: one line that names the file, and nothing half written."""

from __future__ import annotations

import errno
import os

import pytest

from ftjax import files
from ftjax.main import main

CONFIG = """
from ftjax import *
def get_config():
    return Config(
        method="scratch", data=DataConfig(labels_per_class=2), model=ModelConfig(name="vit_digits"), train=TrainConfig(duration="1 steps", batch_size=8),
        report=ReportConfig(progress="none"),
    )
"""


@pytest.mark.parametrize("file", ["data.json", "rejected.jsonl"])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, capsys, monkeypatch, file):
    (tmp_path / "c.py").write_text(CONFIG)
    plain = files.os.replace

    def full(temporary, path):
        if str(path).endswith(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(temporary, path)

    monkeypatch.setattr(files.os, "replace", full)
    assert main(["train", "--config", str(tmp_path / "c.py"), "--workdir", str(tmp_path / "run")]) == 1
    path = tmp_path / "run" / file
    said = f"ftjax: {path} cannot be written: No space left on device; make room, and the same command goes on\n"
    assert capsys.readouterr().err.endswith(said)
    assert not path.exists()
    assert not list((tmp_path / "run").glob(f".{file}.*"))
