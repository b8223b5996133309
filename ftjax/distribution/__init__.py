"""Devices and processes: the mesh, what lies where on it, and the start on several machines. Knows trees and paths, no models."""

from ftjax.distribution.mesh import AXES, make_mesh
from ftjax.distribution.processes import start_if_cluster
from ftjax.distribution.sharding import (
    Rule,
    batch_devices,
    batch_sharding,
    check_batch_size,
    local_rows,
    parameter_sharding,
    put_batch,
    replicated,
    shard_tree,
    state_shardings,
    whole_batches,
)
