"""Pictures that other processes decode: the same as from threads, and a process that dies is an error that names its file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, batch_at, collect, image_split, train_batches
from ftjax.data.dataset import Rows
from ftjax.data.processes import Processes, WorkerDied, processes_of
from ftjax.data.reading import OnDemand
from ftjax.errors import DataError

ROOT = Path(__file__).parents[2]
SMALL = ImageFormat((8, 8))


@pytest.fixture(scope="module")
def processes() -> Processes:
    """One process for all tests: it takes seconds to start."""
    return Processes(1)


def rows_of(files: list[bytes], read=None) -> Rows:
    names = tuple(f"train/{row}.png" for row in range(len(files)))
    return Rows("photos", names, np.zeros(len(files), np.int32), ("train",) * len(files), ("a",), read or (lambda row: files[row]))


def demanded(rows: Rows, processes: Processes | None):
    return image_split(rows.ids, rows.labels, OnDemand(rows, SMALL, 10_000, np.arange(len(rows)), processes=processes))


def test_batches_are_those_of_threads_in_the_same_order_however_many_workers_there_are(processes, helpers):
    picture, encode = helpers
    rows = rows_of([encode(picture(row)) for row in range(10)])
    expected = [batch_at(demanded(rows, None), step, 4, 7) for step in range(6)]
    for workers in (1, 3):
        found = list(train_batches(demanded(rows, processes), 4, 7, 0, 6, workers))
        assert all(np.array_equal(one[key], two[key]) for one, two in zip(expected, found, strict=True) for key in one)


def test_what_is_collected_is_the_same_and_a_bad_file_is_named(tree, helpers, processes, monkeypatch):
    monkeypatch.setattr(sys.modules["ftjax.data.collect"], "processes_of", lambda config: processes if config.worker_kind == "processes" else None)
    _, encode = helpers
    large = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)  # large enough to be looked for among near duplicates
    files = {f"{name}/{row}.png": 10 * number + row for number, name in enumerate("ab") for row in range(12)}
    folder = tree({**files, "a/large.png": encode(large), "b/again.png": encode(large // 2), "b/damaged.png": encode(large)[:200]})
    config = DataConfig(source="image_folder", path=str(folder), bad_files="skip", workers=2)
    here = collect(config, SMALL, 0)
    there = collect(DataConfig(**{**vars(config), "worker_kind": "processes"}), SMALL, 0)
    assert here.report == there.report
    assert [entry["file"] for entry in there.report["rejected"]] == ["b/damaged.png"]
    assert len(there.report["near_duplicates"]["groups"]) == 1
    for name, split in here.splits.items():
        assert np.array_equal(split.fields(np.arange(len(split)))["image"], there.splits[name].fields(np.arange(len(split)))["image"])


def test_what_a_call_raises_is_raised_here(processes):
    with pytest.raises(ZeroDivisionError):
        processes.call(divmod, 1, 0)


def test_there_are_as_many_processes_as_workers_are_asked_for():
    assert processes_of(DataConfig(worker_kind="threads")) is None
    for workers, count in ((0, 1), (3, 3)):
        assert processes_of(DataConfig(worker_kind="processes", workers=workers)).count == count


def test_a_killed_process_ends_the_batch_with_the_name_of_its_file_and_the_next_try_is_exact(helpers, processes):
    picture, encode = helpers
    files, victims = [encode(picture(row)) for row in range(4)], [processes.call(os.getpid)]

    def read(row: int) -> bytes:
        if row == 2:
            while victims:
                os.kill(victims.pop(), signal.SIGKILL)
        return files[row]

    split = demanded(rows_of(files, read), processes)
    with pytest.raises(DataError) as error:
        split.fields(np.arange(4))
    assert str(error.value).startswith("photos: train/2.png: worker process ")
    assert str(error.value).endswith(" was killed by SIGKILL while it decoded this file; if memory is short, lower data.workers")
    assert np.array_equal(split.fields(np.arange(4))["image"], demanded(rows_of(files), None).fields(np.arange(4))["image"])


def test_a_process_that_dies_at_work_is_noticed_at_once(processes):
    pid = processes.call(os.getpid)
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    began = time.monotonic()
    with pytest.raises(WorkerDied, match=f"worker process {pid} was killed by SIGKILL"):
        processes.call(time.sleep, 60)
    assert time.monotonic() - began < 10


SCRIPT = """
import os, signal
from ftjax.data.processes import Processes
workers = Processes(1)  # no `if __name__ == "__main__"`: the script is not run a second time
print(workers.call(os.getpid), flush=True)
os.kill(os.getpid(), {signal})
workers.call(os.getpid)
"""


@pytest.mark.slow
def test_no_process_outlives_a_program_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(signal=int(signal.SIGKILL)))
    done = subprocess.run([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    (worker,) = done.stdout.split()
    assert done.returncode == -signal.SIGKILL
    limit = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
