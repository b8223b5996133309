"""`ftjax data convert` from the command line: written once, read back as the same data, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_text import texts, write_bert, write_table

from ftjax import data
from ftjax.config import DataConfig
from ftjax.main import main

CONFIG = """from ftjax import Config, DataConfig, ModelConfig, TaskConfig


def get_config():
    return Config(data=DataConfig(source={source!r}, path={path!r}), model=ModelConfig(pretrained={pretrained!r}))
"""


@pytest.fixture
def config(tmp_path):
    def write(source: str, path: Path, pretrained: str | None = None) -> str:
        (tmp_path / "config.py").write_text(CONFIG.format(source=source, path=str(path), pretrained=pretrained))
        return str(tmp_path / "config.py")

    return write


def test_pictures_are_written_and_read_back(config, arrays, tmp_path, capsys):
    command = ["data", "convert", "--config", config("npz", arrays), "--output", str(tmp_path / "fast")]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert told.endswith(
        f"{tmp_path}/fast: 58 train, 10 validation, 12 test\nread it with --config.data.source=array_record --config.data.path={tmp_path}/fast\n"
    )
    image = data.ImageFormat((8, 8))
    given, again = (
        data.collect(DataConfig(source=source, path=str(path)), image, 0) for source, path in (("npz", arrays), ("array_record", tmp_path / "fast"))
    )
    for name, split in given.splits.items():
        assert again.splits[name].ids == split.ids
        everything = np.arange(len(split))
        np.testing.assert_array_equal(again.splits[name].fields(everything)["image"], split.fields(everything)["image"])
    assert main(command) == 2
    assert capsys.readouterr().err == f"ftjax: --output={tmp_path}/fast is there already; name a new folder, nothing is overwritten\n"


def test_texts_are_written_with_the_model_that_cuts_them(config, tmp_path, capsys):
    table = write_table(tmp_path / "data.csv", ("text", "label"), texts(60))
    command = ["data", "convert", "--config", config("table", table, str(write_bert(tmp_path / "bert"))), "--output", str(tmp_path / "fast")]
    assert main(command) == 0
    assert f"read it with --config.data.source=table --config.data.path={tmp_path}/fast\n" in capsys.readouterr().out


def test_what_cannot_be_converted_is_refused(config, tmp_path, capsys):
    assert main(["data", "convert", "--config", config("squad", tmp_path / "x.json"), "--output", str(tmp_path / "fast")]) == 2
    assert capsys.readouterr().err == "ftjax: data.source='squad' is one JSON file, read at once; there is nothing to convert\n"
    assert main(["data", "convert", "--config", config("interactions", tmp_path / "x.csv"), "--output", str(tmp_path / "fast")]) == 2
    assert capsys.readouterr().err.endswith("is a log that is read in seconds; there is nothing to convert\n")
    assert main(["data", "convert", "--config", config("npz", tmp_path), "--output"]) == 2
    assert "expected one argument" in capsys.readouterr().err
