"""The record of a checkpoint: the JSON beside the arrays that says what they must be.

It holds the caller's info, the shape, dtype and fingerprint of every array, and the versions that wrote it, under a checksum of its own.
Also how a failure is put into words. Knows nothing of files; `checkpoint.py` stores it and believes only what agrees with it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ftjax import trees
from ftjax.errors import CheckpointError
from ftjax.training.fingerprint import fingerprint


class DamagedError(Exception):
    """A step that is not what was saved: other bits, or unreadable."""


def is_full(error: BaseException) -> bool:
    """Whether an error is, or comes from, a file system without space."""
    cause: BaseException | None = error
    while cause is not None:
        if "No space left on device" in str(cause) or "Disk quota exceeded" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def reason(error: BaseException) -> str:
    """Type and first line of an error, short enough for a message."""
    text = (str(error).strip() or "no message").splitlines()[0]
    shown = text if len(text) <= 160 else text[:160] + " ..."
    return shown if isinstance(error, DamagedError) else f"{type(error).__name__}: {shown}"


def named_arrays(tree: Any) -> dict[str, Any]:
    """Every array of a tree, concrete or abstract, by its path; independent of the Python types that held it."""
    arrays = trees.flatten(tree)
    if len(arrays) != len(jax.tree.leaves(tree)):
        raise CheckpointError("two leaves of the tree have the same path; a key must not contain '/'")
    for path, leaf in arrays.items():
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            raise CheckpointError(f"{path} is a {type(leaf).__name__}, not a jax array: make it one, or put it into info")
    if not arrays:
        raise CheckpointError("the tree holds no arrays")
    return arrays


def make_record(step: int, arrays: Mapping[str, jax.Array], info: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON that is stored beside the arrays and says what they must be."""
    try:
        plain = json.loads(json.dumps(info, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"info of step {step} is not JSON: {error}") from error
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "orbax-checkpoint", "numpy")}
    described = {}
    for path, array in arrays.items():
        try:
            described[path] = {"shape": list(array.shape), "dtype": str(array.dtype), "fingerprint": fingerprint(array)}
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
    return {"format": 1, "step": step, "info": plain, "arrays": described, "versions": versions}


def checksum(record: Mapping[str, Any]) -> str:
    """Of the record itself, in whatever order its keys come back."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def check_fits(path: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a good checkpoint of something else.

    Raises:
      CheckpointError: names the arrays that are missing, unexpected or of another shape or dtype.
    """
    missing = sorted(wanted.keys() - stored.keys())
    unexpected = sorted(stored.keys() - wanted.keys())
    different = [
        f"{name} ({_kind(stored[name]['shape'], stored[name]['dtype'])} saved, {_kind(leaf.shape, leaf.dtype)} wanted)"
        for name, leaf in wanted.items()
        if name in stored and (stored[name]["shape"], stored[name]["dtype"]) != (list(leaf.shape), str(leaf.dtype))
    ]
    complaints = [f"{what}: {listed(names)}" for what, names in (("missing", missing), ("unexpected", unexpected), ("different", different)) if names]
    if complaints:
        raise CheckpointError(
            f"{path} was saved by another model or configuration ({'; '.join(complaints)}): "
            "use the configuration it was started with, or another work directory"
        )


def without_base(arrays: Mapping[str, Any], base: Mapping[str, str]) -> dict[str, Any]:
    """The arrays of a tree but those that are had elsewhere: parameters, at `still/<path>` of a state and `params/<path>` of weights."""
    return {name: leaf for name, leaf in arrays.items() if name.partition("/")[0] not in ("still", "params") or name.partition("/")[2] not in base}


def check_base(path: Path, stored: Mapping[str, str], base: Mapping[str, str]) -> None:
    """Refuse a checkpoint that was saved beside other weights than those that are here.

    Raises:
      CheckpointError: names the parameters that differ.
    """
    changed = sorted(name for name in stored.keys() | base.keys() if stored.get(name) != base.get(name))
    if changed:
        raise CheckpointError(f"{path} was saved beside other pretrained weights, which it does not hold: {listed(changed)}; restore the file they came from")


def compare(arrays: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Raise DamagedError naming the arrays whose contents are not those that were saved."""
    wrong = [name for name, array in arrays.items() if fingerprint(array) != record["arrays"][name]["fingerprint"]]
    if wrong:
        raise DamagedError(f"the contents changed since they were saved: {listed(wrong)}")


def parts(record: Mapping[str, Any], limit: int) -> Iterator[list[str]]:
    """Names of the arrays that are not empty, in groups of at most `limit` bytes (or one array, if that is larger)."""
    part: list[str] = []
    size = 0
    for name, array in record["arrays"].items():
        extent = _nbytes(array)
        if part and size + extent > limit:
            yield part
            part, size = [], 0
        if extent:
            part.append(name)
            size += extent
    if part:
        yield part


def bytes_of(record: Mapping[str, Any]) -> int:
    """Bytes of all arrays of a record."""
    return sum(_nbytes(array) for array in record["arrays"].values())


def _kind(shape: Any, dtype: Any) -> str:
    """`float32[3, 4]`."""
    return f"{dtype}{list(shape)}"


def listed(names: list[str], show: int = 4) -> str:
    """The first few names, and how many there are."""
    return ", ".join(names[:show]) + (f", ... ({len(names)} in all)" if len(names) > show else "")


def _nbytes(array: Mapping[str, Any]) -> int:
    """Bytes of one described array."""
    return math.prod(array["shape"]) * jnp.dtype(array["dtype"]).itemsize
