"""A launcher is recognised, nothing happens without one, and two real processes share a batch and a checkpoint."""

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

from ftjax.distribution import processes
from ftjax.errors import ConfigError


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, None),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"}, "JAX_COORDINATOR_ADDRESS"),
        ({"JAX_COORDINATOR_ADDRESS": ""}, None),
        ({"OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "4"}, "SLURM"),
        ({"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}, None),
    ],
)
def test_launchers(environment: dict[str, str], launcher: str | None):
    assert processes.detect_cluster(environment) == launcher


def test_alone_nothing_is_started(monkeypatch: pytest.MonkeyPatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "OMPI_MCA_orte_hnp_uri", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("started"))
    assert processes.start_if_cluster() is False


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "JAX_COORDINATOR_ADDRESS is set, so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be set to a number too"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "one"}, "JAX_COORDINATOR_ADDRESS is set, so JAX_PROCESS_ID must be set to a number too"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2 is not below JAX_NUM_PROCESSES=2; the first process is 0"),
    ],
)
def test_half_an_address_is_explained(environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        processes.start_if_cluster()
    assert str(caught.value) == message


def test_what_is_asked_for_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def fail(**arguments):
        assert arguments == {"heartbeat_timeout_seconds": 30, "shutdown_timeout_seconds": 30}
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ConfigError, match=r"the processes of this run could not be joined \(asked for\): coordinator_address should be defined\."):
        processes.start_if_cluster(asked=True)


CHILD = textwrap.dedent(
    """
    import sys
    from ftjax.distribution import processes, sharding
    assert processes.start_if_cluster()
    import jax, jax.numpy as jnp, numpy as np
    from ftjax.config import MeshConfig
    from ftjax.distribution import make_mesh
    from ftjax.training.checkpoint import Checkpoints

    assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 2, 4)
    data, fsdp, tensor = map(int, sys.argv[2].split(","))
    mesh = make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor))
    rows = sharding.local_rows(mesh, 8)
    whole = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
    batch = sharding.put_batch({"x": whole[rows]}, mesh)
    assert batch["x"].shape == (8, 3)
    weights = np.arange(8, dtype=np.float32)[:, None]
    total = jax.jit(lambda x: jnp.sum(x * weights), out_shardings=sharding.replicated(mesh))(batch["x"])
    assert float(total) == float((whole * weights).sum()), (float(total), float((whole * weights).sum()))

    kernel = jax.device_put(np.arange(64, dtype=np.float32).reshape(8, 8), sharding.parameter_sharding(mesh, "k", (8, 8), (None, "tensor"), minimum_size=1))
    tree = {"kernel": kernel, "x": batch["x"], "step": jax.device_put(np.int32(0), sharding.replicated(mesh))}
    checkpoints = Checkpoints(sys.argv[1])
    for step in (1, 2):
        checkpoints.save(step, tree, {"step": step})
    restored = checkpoints.restore(tree)
    assert (restored.step, restored.info, restored.skipped) == (2, {"step": 2}, ())
    for name, leaf in tree.items():
        assert restored.tree[name].sharding == leaf.sharding
        for mine, theirs in zip(restored.tree[name].addressable_shards, leaf.addressable_shards, strict=True):
            assert np.asarray(mine.data).tobytes() == np.asarray(theirs.data).tobytes()
    checkpoints.close()
    print("rows", *rows, flush=True)
    """
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "rows"), [("4,1,1", ["0 1 2 3", "4 5 6 7"]), ("1,2,2", ["0 1 2 3", "4 5 6 7"]), ("1,1,4", ["0 1 2 3 4 5 6 7"] * 2)])
def test_two_processes_share_a_batch_and_a_checkpoint(tmp_path: Path, mesh: str, rows: list[str]):
    address = f"127.0.0.1:{free_port()}"
    common = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_COORDINATOR_ADDRESS": address}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), mesh],
            env=common | {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        answers = [child.communicate(timeout=120) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0, 0], answers
    assert [out.strip().splitlines()[-1] for out, _ in answers] == [f"rows {expected}" for expected in rows]
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == ["2"]
