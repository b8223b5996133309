"""Orbax checkpoint directories: nested trees become flat names, as for Flax msgpack.

The whole tree is read at once into host memory, whatever mesh it was saved from. Custom metadata of the step (a `spec`, say) come along as texts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ftjax.errors import WeightsError
from ftjax.weights.readers.flax_msgpack import flatten_arrays
from ftjax.weights.source import MAX_HEADER, Tensor, in_memory


def is_orbax(folder: Path) -> bool:
    """Whether the folder is one saved step (or the tree inside one)."""
    return (folder / "_METADATA").is_file() or (folder / "_CHECKPOINT_METADATA").is_file()


def steps_below(folder: Path) -> list[str]:
    """The steps of a checkpoint manager's folder, in order."""
    return sorted((child.name for child in folder.iterdir() if child.name.isdigit() and is_orbax(child)), key=int)


def read_orbax(folder: Path) -> tuple[dict[str, Tensor], dict[str, str], list[Path]]:
    """The arrays of a checkpoint by their `/`-joined path, its custom metadata as texts, and its files.

    Raises:
      WeightsError: the checkpoint has no tree or several, is incomplete or damaged, or holds something else than arrays.
    """
    tree_folder = _tree_folder(folder)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            saved = checkpointer.metadata(str(tree_folder.absolute())).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
            tree = checkpointer.restore(str(tree_folder.absolute()), restore_args=as_numpy)
        metadata = _custom_metadata(folder)
    except Exception as error:  # Orbax, TensorStore and JAX each raise their own kinds for a damaged checkpoint
        raise WeightsError(f"{folder}: not a readable Orbax checkpoint ({type(error).__name__}: {str(error)[:200]})") from None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return in_memory(flatten_arrays(tree, str(folder))), metadata, files


def _tree_folder(folder: Path) -> Path:
    """The folder itself, or the one item of a step that is a tree.

    Raises:
      WeightsError: the step has no such item, or several.
    """
    if (folder / "_METADATA").is_file():
        return folder
    trees = sorted(child for child in folder.iterdir() if (child / "_METADATA").is_file())
    if len(trees) != 1:
        found = ", ".join(child.name for child in trees) or "none"
        raise WeightsError(f"{folder}: a step of Orbax with one tree is needed, found {found}; name its folder")
    return trees[0]


def _custom_metadata(folder: Path) -> dict[str, str]:
    path = folder / "_CHECKPOINT_METADATA"
    if not path.is_file() or path.stat().st_size > MAX_HEADER:
        return {}
    content: Any = json.loads(path.read_bytes()).get("custom_metadata") or {}
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in content.items()}
