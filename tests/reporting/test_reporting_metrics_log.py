"""The metrics log survives kills, keeps what is not finite, and speaks TensorBoard without TensorFlow."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.errors import ConfigError, FtjaxError
from ftjax.reporting import MetricsWriter, read_metrics


def log_steps(folder, steps, resume_step=None):
    with MetricsWriter(folder, resume_step=resume_step) as log:
        for step in steps:
            log.write(step, "train", {"loss": 1.0 / step})
            log.write(step, "travel", {"travel/head": 0.5})


def test_each_line_is_one_object_with_step_and_split(tmp_path):
    with MetricsWriter(tmp_path) as log:
        log.write(10, "train", {"loss": jnp.float32(0.5), "tokens": np.int64(3)})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 10, "split": "train", "loss": 0.5, "tokens": 3}


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    log = MetricsWriter(tmp_path)
    log.write(1, "train", {"loss": 1.0})
    assert len(read_metrics(tmp_path)) == 1
    log.close()
    log.close()


@pytest.mark.parametrize(("value", "name"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_what_is_not_finite_is_null_and_named_in_strict_json(tmp_path, value, name):
    with MetricsWriter(tmp_path) as log:
        log.write(1, "train", {"loss": np.float32(value)})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert line == f'{{"step": 1, "split": "train", "loss": null, "loss_nonfinite": "{name}"}}\n'
    assert str(read_metrics(tmp_path)[0]["loss"]) == name


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name not in ("step", "split") and not name.endswith("_nonfinite"))
values = st.one_of(st.floats(), st.integers(-(2**53), 2**53), st.none(), st.text(st.characters(codec="utf-8"), max_size=5), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(names, values, max_size=4), max_size=5))
def test_what_is_written_is_what_is_read(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("log")
    with MetricsWriter(folder) as log:
        for step, record in enumerate(records):
            log.write(step, "train", record)
    expected = [{"step": step, "split": "train", **record} for step, record in enumerate(records)]
    assert repr(read_metrics(folder)) == repr(expected)


@settings(max_examples=30, deadline=None)
@given(killed=st.integers(1, 12), data=st.data())
def test_a_killed_and_resumed_run_has_the_log_of_an_uninterrupted_one(tmp_path_factory, killed, data):
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    log_steps(whole, range(1, 13))
    log_steps(folder, range(1, killed + 1))
    path = folder / "metrics.jsonl"
    saved = data.draw(st.integers(0, killed - 1))
    lines_of_step = len(path.read_bytes()) // killed
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) - data.draw(st.integers(0, lines_of_step // 2))])
    log_steps(folder, range(saved + 1, 13), resume_step=saved)
    assert path.read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_new_run_starts_with_an_empty_log(tmp_path):
    log_steps(tmp_path, range(1, 4))
    log_steps(tmp_path, range(1, 3))
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 1, 2, 2]


def test_a_torn_last_line_is_not_read(tmp_path):
    log_steps(tmp_path, [1])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "spl')
    assert len(read_metrics(tmp_path)) == 2


def test_a_damaged_line_inside_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n???\n{"step": 2, "split": "train"}\n')
    with pytest.raises(FtjaxError, match=r"metrics\.jsonl: line 2 is not a record \(a JSON object with an integer 'step'\); 2 lines are good"):
        read_metrics(tmp_path)


def test_no_log_is_an_empty_list(tmp_path):
    assert read_metrics(tmp_path) == []


def test_the_logs_own_keys_cannot_be_metrics(tmp_path):
    with MetricsWriter(tmp_path) as log, pytest.raises(ValueError, match=r"a metric cannot be named \['step'\]: the log's own keys"):
        log.write(1, "train", {"step": 2})


def test_an_array_is_no_metric(tmp_path):
    with MetricsWriter(tmp_path) as log:
        with pytest.raises(TypeError, match="metric 'loss' of split 'train' at step 1 is no scalar"):
            log.write(1, "train", {"loss": np.zeros(2)})
        log.write(2, "train", {"loss": 1.0})
    assert [record["step"] for record in read_metrics(tmp_path)] == [2]


EVENTS = """
import sys
from ftjax.reporting import MetricsWriter
with MetricsWriter(sys.argv[1], tensorboard=True) as log:
    log.write(1, "train", {"loss": 0.5})
    log.write(1, "travel", {"travel/head": 0.25})
    log.write(2, "train", {"loss": float("nan")})
assert "tensorflow" not in sys.modules
"""


def test_tensorboard_events_are_written_without_tensorflow(tmp_path):
    pytest.importorskip("tensorboardX")
    done = subprocess.run([sys.executable, "-c", EVENTS, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    assert all(tag in file.read_bytes() for tag in (b"train/loss", b"travel/head"))
    assert b"travel/travel/head" not in file.read_bytes()


def test_missing_tensorboardx_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"report\.tensorboard=true needs tensorboardX, which is not installed: pip install 'ftjax\[tracking\]'"):
        MetricsWriter(tmp_path, tensorboard=True)
