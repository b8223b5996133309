"""The start of a run on several machines: join the other processes before JAX looks at its devices.

On one machine nothing happens. Times are short so that a lost machine ends the run instead of hanging it; a supervisor restarts from the last checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax

from ftjax.errors import ConfigError

HEARTBEAT_SECONDS = 30
SHUTDOWN_SECONDS = 30

_LAUNCHERS = (("Open MPI", "OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE"), ("SLURM", "SLURM_STEP_NODELIST", "SLURM_NTASKS"))
"""Launcher, the variable that only its started processes have, and the one with their number (an allocation without `srun` has no step)."""

_OURS = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def detect_cluster(environment: Mapping[str, str]) -> str | None:
    """The launcher that started this process as one of several, or None.

    Looked for: `JAX_COORDINATOR_ADDRESS` (with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`: any launcher that sets them), Open MPI, SLURM job steps.
    """
    if environment.get("JAX_COORDINATOR_ADDRESS"):
        return "JAX_COORDINATOR_ADDRESS"
    sizes = ((launcher, environment.get(number, "")) for launcher, mark, number in _LAUNCHERS if mark in environment)
    return next((launcher for launcher, size in sizes if size.isdigit() and int(size) > 1), None)


def start_if_cluster(*, asked: bool = False) -> bool:
    """Join the other processes if there are any; call it before anything else touches JAX.

    With `JAX_COORDINATOR_ADDRESS` the coordinator listens on that address alone, not on every interface. CPU devices talk through gloo.

    Args:
      asked: join even where no launcher is recognised; `jax.distributed` then finds the cluster itself (TPU pods, Kubernetes) or says that it cannot.

    Returns:
      Whether this run has several processes.

    Raises:
      ConfigError: the three `JAX_` variables are not all given, or no cluster can be found or joined.
    """
    if jax.distributed.is_initialized():
        return jax.process_count() > 1
    launcher = detect_cluster(os.environ)
    if launcher is None and not asked:
        return False
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    arguments = _explicit(os.environ) if launcher == "JAX_COORDINATOR_ADDRESS" else {}
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS, shutdown_timeout_seconds=SHUTDOWN_SECONDS, **arguments)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"the processes of this run could not be joined ({launcher or 'asked for'}): {error}") from error
    return jax.process_count() > 1


def _explicit(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the `JAX_` variables say, for `jax.distributed.initialize`."""
    wrong = [name for name in _OURS[1:] if not environment.get(name, "").isdigit()]
    if wrong:
        raise ConfigError(f"JAX_COORDINATOR_ADDRESS is set, so {' and '.join(wrong)} must be set to a number too")
    address, count, process = (environment[name] for name in _OURS)
    if int(process) >= int(count):
        raise ConfigError(f"JAX_PROCESS_ID={process} is not below JAX_NUM_PROCESSES={count}; the first process is 0")
    return {"coordinator_address": address, "num_processes": int(count), "process_id": int(process), "coordinator_bind_address": address}
