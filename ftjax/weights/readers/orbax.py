"""Orbax checkpoint directories: nested trees become flat names, as for Flax msgpack.

The whole tree is read at once onto one device, whatever mesh it was saved from. A `spec` in the checkpoint's custom metadata counts as metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from ftjax.errors import WeightsError
from ftjax.weights.readers.flax_msgpack import flatten_arrays
from ftjax.weights.source import Tensor, in_memory


def is_orbax(folder: Path) -> bool:
    """Whether the folder is one saved step (or the tree inside one)."""
    return (folder / "_METADATA").is_file() or (folder / "_CHECKPOINT_METADATA").is_file()


def steps_below(folder: Path) -> list[str]:
    """The steps of a checkpoint manager's folder, in order."""
    return sorted((child.name for child in folder.iterdir() if child.name.isdigit() and is_orbax(child)), key=int)


def read_orbax(folder: Path) -> tuple[dict[str, Tensor], dict[str, str], list[Path]]:
    """The arrays of a checkpoint by their `/`-joined path, its custom metadata as texts, and its files.

    Raises:
      WeightsError: the checkpoint is incomplete, damaged, or holds something else than arrays.
    """
    options: dict[str, Any] = {} if (folder / "_CHECKPOINT_METADATA").is_file() else {"checkpointable_name": None}
    try:
        saved = ocp.metadata(str(folder.absolute()), **options)
        tree = ocp.load(str(folder.absolute()), _on_one_device(saved.metadata), **options)
        arrays = jax.tree.map(np.asarray, tree)
    except Exception as error:  # Orbax, TensorStore and JAX each raise their own kinds for a damaged checkpoint
        raise WeightsError(f"{folder}: not a readable Orbax checkpoint ({type(error).__name__}: {str(error)[:200]})") from None
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in dict(saved.custom_metadata or {}).items()}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return in_memory(flatten_arrays(arrays, str(folder))), texts, files


def _on_one_device(tree: Any) -> Any:
    """The saved tree with every device array placed on the first local device; host arrays and numbers stay what they are."""
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def abstract(leaf: Any) -> Any:
        if hasattr(leaf, "sharding_metadata"):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
        return leaf

    return jax.tree.map(abstract, tree)
