"""Two processes on loopback: both receive the records of all examples, equal to those of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from ftjax.evaluation import read_records

PROGRAM = """
import sys
from pathlib import Path
import jax
port, process, processes, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process, initialization_timeout=60)
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ftjax.data import image_split
from ftjax.evaluation import Evaluator, measures_of, write_records
from ftjax.tasks import Classification

sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
def put(batch):
    return {name: jax.make_array_from_callback(value.shape, sharding, lambda index: value[index]) for name, value in batch.items()}
def predict(params, extra, batch):
    return batch["image"] @ params
generator = np.random.default_rng(0)
image, label = generator.normal(size=(21, 6)).astype(np.float32), generator.integers(0, 3, 21).astype(np.int32)
params = generator.normal(size=(6, 3)).astype(np.float32)
batches = [
    {"image": image[start : start + 8], "label": label[start : start + 8], "id": np.arange(21, dtype=np.int32)[start : start + 8],
     "weight": np.ones(len(label[start : start + 8]), np.float32)}
    for start in range(0, 21, 8)
]
split = image_split(("",) * 21, label, lambda rows: image[rows])
measures = measures_of(Classification(("a", "b", "c")))
found = Evaluator(predict, measures, batch_size=8, put=put).run(params, None, batches, split, logits=True)
write_records(folder / f"{processes}_{process}.npz", found)
"""


def start(port: int, process: int, processes: int, folder) -> subprocess.Popen:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    arguments = [sys.executable, "-c", PROGRAM, str(port), str(process), str(processes), str(folder)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_every_process_receives_all_records(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [start(port, 0, 1, tmp_path), start(port, 0, 2, tmp_path), start(port, 1, 2, tmp_path)]
    try:
        for process in running:
            output = process.communicate(timeout=120)[0]
            assert process.returncode == 0, output
    finally:
        for process in running:
            process.kill()
    alone = read_records(tmp_path / "1_0.npz")
    assert alone.id.tolist() == list(range(21))
    for name in ("2_0.npz", "2_1.npz"):
        shared = read_records(tmp_path / name)
        for field in ("id", "label", "prediction", "label_rank", "weight"):
            np.testing.assert_array_equal(getattr(shared, field), getattr(alone, field))
        np.testing.assert_allclose(shared.logits, alone.logits, rtol=1e-5, atol=1e-6)
