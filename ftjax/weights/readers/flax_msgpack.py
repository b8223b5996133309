"""Flax's msgpack files (`flax.serialization.to_bytes`, `.msgpack`, `.ckpt`): nested dicts become flat names `params/Conv_0/kernel`.

The format has no table of contents, so the whole file is read at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.serialization
import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.source import MAX_TENSORS, Tensor, in_memory


def read_flax_msgpack(path: Path) -> dict[str, Tensor]:
    """The arrays and numbers of one file by their `/`-joined path.

    Raises:
      WeightsError: the file is not msgpack, is truncated, or holds something else than nested dicts of arrays.
    """
    try:
        tree = flax.serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack, flax and NumPy each raise their own kinds for malformed bytes
        raise WeightsError(f"{path}: not a readable Flax msgpack file ({type(error).__name__}: {str(error)[:200]}); it may be truncated") from None
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}: holds a {type(tree).__name__}, not a table of weights")
    return in_memory(flatten_arrays(tree, str(path)))


def flatten_arrays(tree: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    """Nested dicts (and lists) of arrays and numbers as one flat dict; None and empty tables vanish.

    Raises:
      WeightsError: two leaves end with the same name, a leaf is not numeric, or there are too many.
    """
    flat: dict[str, np.ndarray] = {}
    pending: list[tuple[str, Any]] = [("", tree)]
    while pending:
        name, node = pending.pop()
        if isinstance(node, dict | list | tuple):
            children = node.items() if isinstance(node, dict) else enumerate(node)
            pending.extend((f"{name}/{key}" if name else str(key), child) for key, child in children)
        elif node is not None:
            flat[name] = _leaf(node, name, where, flat)
    return dict(sorted(flat.items()))


def _leaf(value: Any, name: str, where: str, flat: dict[str, np.ndarray]) -> np.ndarray:
    if name in flat:
        raise WeightsError(f"{where}: the name {name!r} occurs twice")
    if len(flat) >= MAX_TENSORS:
        raise WeightsError(f"{where}: more than {MAX_TENSORS} tensors")
    if not isinstance(value, np.ndarray | np.generic | int | float):
        raise WeightsError(f"{where}: {name!r} is a {type(value).__name__}, not a tensor")
    return np.asarray(value)
