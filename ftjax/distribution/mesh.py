"""The mesh: devices in three axes, `data` (other examples), `fsdp` (other examples and a share of each parameter), `tensor` (a share of each matrix product).

One device is a mesh of one; nothing else in ftjax counts devices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from ftjax.config import MeshConfig
from ftjax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with axes `("data", "fsdp", "tensor")` over all devices, of all processes.

    Args:
      config: devices along each axis; -1 for one axis means all that are left.
      devices: `jax.devices()` unless given.

    Raises:
      ConfigError: a size that is no size, two axes of -1, or a product that is not the number of devices; names what would do.
    """
    devices = jax.devices() if devices is None else devices
    sizes = _resolve(config, len(devices))
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def _resolve(config: MeshConfig, devices: int) -> tuple[int, ...]:
    """Sizes of the axes, without -1, whose product is the number of devices."""
    sizes = dataclasses.asdict(config)
    for axis, size in sizes.items():
        if size < 1 and size != -1:
            raise ConfigError(f"mesh.{axis}={size} is no number of devices; allowed: 1 or more, or -1 for all that are left")
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1:
        raise ConfigError(f"mesh.{open_axes[0]} and mesh.{open_axes[1]} are both -1; only one axis can take what is left, give the other a number")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if devices % fixed or (not open_axes and fixed != devices):
        raise ConfigError(_mismatch(sizes, fixed, devices))
    return tuple(devices // fixed if size == -1 else size for size in sizes.values())


def _mismatch(sizes: dict[str, int], fixed: int, devices: int) -> str:
    """What is wrong with the product, and the nearest products that fit."""
    shown = " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != -1)
    divisors = [number for number in range(1, devices + 1) if devices % number == 0]
    nearest = sorted(sorted(divisors, key=lambda number: abs(number - fixed))[:2])
    there = f"there {'is' if devices == 1 else 'are'} {devices} device{'' if devices == 1 else 's'}"
    if -1 in sizes.values():
        return f"mesh {shown} = {fixed}, which does not divide the devices: {there}; nearest products that do: {' or '.join(map(str, nearest))}"
    return f"mesh {shown} = {fixed}, but {there}; set one axis to -1 to take what is left (the others may multiply to {' or '.join(map(str, nearest))})"
