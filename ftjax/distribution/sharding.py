"""Which device holds what: rules for parameters, everything that mirrors them, and batches.

A parameter is cut along `tensor` where its model says so, then along `fsdp` in the largest dimension left; small ones are copied to every device.
Optimizer moments and gradients follow their parameter by path. These are placements only: XLA finds the communication, the numbers stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ftjax import trees
from ftjax.errors import ConfigError
from ftjax.trees import Tree

TensorSpec = tuple[str | None, ...]
"""Per dimension of a parameter: `"tensor"` or None."""

Rule = Callable[[str, tuple[int, ...]], TensorSpec]
"""`(path, shape) -> axis per dimension` of a model's parameters."""

BATCH_AXES = ("data", "fsdp")
"""Both hold different examples."""

MINIMUM_SIZE = 2**16
"""Elements below which a parameter is not cut along `fsdp`: gathering it costs more than holding it."""


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis spread over `data` and `fsdp`; each of the `tensor` devices sees the same examples."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def parameter_sharding(mesh: Mesh, path: str, shape: tuple[int, ...], tensor_spec: TensorSpec, *, minimum_size: int = MINIMUM_SIZE) -> NamedSharding:
    """Where one parameter lies.

    Args:
      mesh: axes `data`, `fsdp`, `tensor`.
      path: of the parameter, for messages.
      shape: of the parameter.
      tensor_spec: the model's rule; a dimension marked `"tensor"` that the axis does not divide stays whole.
      minimum_size: elements from which `fsdp` cuts the largest remaining dimension that it divides.

    Raises:
      ConfigError: the rule has another number of dimensions, another axis, or `"tensor"` twice.
    """
    if len(tensor_spec) != len(shape) or set(tensor_spec) - {"tensor", None} or tensor_spec.count("tensor") > 1:
        raise ConfigError(f"{path}: {tensor_spec} is no rule for shape {shape}; allowed: 'tensor' for one dimension at most, None for the others")
    tensor, fsdp = mesh.shape["tensor"], mesh.shape["fsdp"]
    spec: list[str | None] = [axis if tensor > 1 and size % tensor == 0 else None for axis, size in zip(tensor_spec, shape, strict=True)]
    candidates = [axis for axis, size in enumerate(shape) if spec[axis] is None and size % fsdp == 0]
    if fsdp > 1 and candidates and math.prod(shape) >= minimum_size:
        spec[max(candidates, key=lambda axis: shape[axis])] = "fsdp"
    while spec and spec[-1] is None:
        spec.pop()
    return NamedSharding(mesh, PartitionSpec(*spec))


def state_shardings(mesh: Mesh, state: Tree, params: Tree, partition_spec: Rule, *, minimum_size: int = MINIMUM_SIZE) -> Tree:
    """Where every leaf of a training state lies.

    A leaf whose path ends in the path of a parameter of the same shape (`opt_state/0/mu/head/kernel`) lies as that parameter does; the rest is on every device.

    Args:
      mesh: axes `data`, `fsdp`, `tensor`.
      state: any tree of concrete or abstract arrays, the parameters themselves too.
      params: the parameters, concrete or abstract.
      partition_spec: the model's `(path, shape) -> rule`.
      minimum_size: see `parameter_sharding`.

    Returns:
      A tree like `state` of shardings.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(params).items()}
    rules = {path: parameter_sharding(mesh, path, shape, partition_spec(path, shape), minimum_size=minimum_size) for path, shape in shapes.items()}

    def place(path: str, leaf: Any) -> NamedSharding:
        owner = _owner(path, shapes)
        return rules[owner] if owner is not None and shapes[owner] == tuple(leaf.shape) else replicated(mesh)

    return trees.map_with_path(place, state)


def _owner(path: str, shapes: Mapping[str, Any]) -> str | None:
    """The longest end of `path` that is the path of a parameter."""
    names = path.split("/")
    suffixes = ("/".join(names[start:]) for start in range(len(names)))
    return next((suffix for suffix in suffixes if suffix in shapes), None)


def shard_tree(tree: Tree, shardings: Tree) -> Tree:
    """Put every leaf where its sharding says. A leaf that is there already is not copied: donating the result then takes the original too."""
    return jax.device_put(tree, shardings)


def batch_devices(mesh: Mesh) -> int:
    """Number of parts that a batch is cut into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def whole_batches(mesh: Mesh, batch_size: int) -> int:
    """`batch_size`, rounded up to a multiple of the devices that share a batch."""
    parts = batch_devices(mesh)
    return -(-batch_size // parts) * parts


def check_batch_size(mesh: Mesh, batch_size: int, key: str = "train.batch_size") -> None:
    """See that every device gets the same number of examples.

    Raises:
      ConfigError: names the nearest sizes that work.
    """
    parts = batch_devices(mesh)
    if batch_size < 1 or batch_size % parts:
        lower = max(batch_size, 0) // parts * parts
        nearest = " or ".join(str(size) for size in (lower, lower + parts) if size > 0)
        raise ConfigError(f"{key}={batch_size} cannot be spread evenly over {parts} devices (mesh.data x mesh.fsdp); nearest sizes that can: {nearest}")


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Rows of the global batch that this process has to supply to `put_batch`, in order, as int64 `[rows]`.

    Raises:
      ConfigError: see `check_batch_size`.
    """
    check_batch_size(mesh, batch_size)
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in slices if index is not None]))


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch from the host onto the mesh, leading axis over `data` and `fsdp`.

    Args:
      batch: arrays with one leading axis; with several processes only the rows `local_rows` of this one.
      mesh: axes `data`, `fsdp`, `tensor`.

    Raises:
      ConfigError: the leading axis cannot be spread evenly.
    """
    sharding = batch_sharding(mesh)
    if jax.process_count() > 1:
        return {name: jax.make_array_from_process_local_data(sharding, np.asarray(rows)) for name, rows in batch.items()}
    for rows in batch.values():
        check_batch_size(mesh, len(rows), "the batch's size")
    return jax.device_put(dict(batch), sharding)
