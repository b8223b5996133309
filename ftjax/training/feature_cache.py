"""Features of a frozen body, computed once and kept on disk under a hash of everything that they depend on.

An entry is `features/<hash>.npy` beside `<hash>.json`, which names the parts of the key and the digest of the numbers. Any part that changes gives another
hash, so nothing stale is ever read; what is damaged is computed again. Without a folder, or with a full disk, everything works and nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from ftjax import files, models, trees
from ftjax.data.decode import decoders
from ftjax.training.stage import Preprocessing
from ftjax.trees import Tree

FOLDER = "features"
_OF_TRAINING = ("augment", "mixing", "views", "token_dropout")
"""Parts of a preprocessing that change no feature: `inputs` is what the body reads of a row when it is tested once."""

Key = Mapping[str, Any]


def feature_key(
    model: models.Model,
    preprocessing: Preprocessing,
    params: Tree,
    batch_stats: Tree,
    data_fingerprint: str,
    ids: Sequence[str],
    shapes: Sequence[int],
    devices: int,
) -> dict[str, Any]:
    """Everything that the features of some rows depend on, as values for JSON.

    The shapes of a batch, the kind of device and their number are parts of it too: each may change the last bit of a sum. So are the decoders' versions, which
    may change a pixel. The head is not: it comes after.

    Args:
      model: the body; its head and what is random in training count for nothing.
      preprocessing: how rows enter it.
      params: its parameters, by content.
      batch_stats: its running statistics, by content.
      data_fingerprint: of the data as they were collected.
      ids: of the rows, in order.
      shapes: rows of a batch, then the lengths that texts are padded to.
      devices: that share a batch.
    """
    spec = {name: value for name, value in model.spec.to_json().items() if name != "num_classes"}
    body = {path: leaf for path, leaf in trees.flatten(params).items() if model.group_of(path) != "head"}
    device = jax.devices()[0]
    return {
        "data": data_fingerprint,
        "ids": _digest("\0".join(ids).encode("utf-8", "surrogatepass")),
        "rows": len(ids),
        "preprocessing": {name: value for name, value in preprocessing.to_json().items() if name not in _OF_TRAINING},
        "model": spec,
        "precision": model.compute.precision,
        "scan": model.compute.scan,
        "parameters": _content(body),
        "batch_stats": _content(trees.flatten(batch_stats)),
        "shapes": list(shapes),
        "devices": f"{devices} x {device.platform} {device.device_kind}",
        "jax": jax.__version__,
        "decoders": decoders(),
    }


def _digest(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _content(flat: Mapping[str, Any]) -> str:
    """Digest of the names, types, shapes and values of arrays."""
    whole = hashlib.blake2b(digest_size=16)
    for path in sorted(flat):
        values = np.ascontiguousarray(np.asarray(flat[path]))
        whole.update(f"{path} {values.dtype} {values.shape}\n".encode())
        whole.update(values.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


class FeatureCache:
    """Entries in a folder; `warnings` collects what a person should know, each once."""

    def __init__(self, folder: Path | None) -> None:
        """Nothing is made or read yet.

        Args:
          folder: may be shared by runs; only `features/` in it is used. None: nothing is kept.
        """
        self.folder = None if folder is None else folder / FOLDER
        self.warnings: list[str] = []

    def get(self, key: Key, compute: Callable[[], Float32[np.ndarray, "rows width"]]) -> Float32[np.ndarray, "rows width"]:
        """The features of a key: from the disk, memory-mapped and read-only, or computed and kept."""
        if self.folder is None:
            return compute()
        found = self._read(key)
        if found is not None:
            return found
        values = compute()
        self.put(key, values)
        return values

    def put(self, key: Key, values: Float32[np.ndarray, "rows width"]) -> None:
        """Keep features; a disk that does not take them is a warning."""
        if self.folder is None:
            return
        name = _name(key)
        values = np.ascontiguousarray(values)
        about = {"key": dict(key), "shape": list(values.shape), "dtype": str(values.dtype), "digest": _digest(values.reshape(-1).view(np.uint8).data)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_array(self.folder / f"{name}.npy", values)
            files.write_json(self.folder / f"{name}.json", about)
        except OSError as error:
            self._warn(f"features are not kept: {self.folder} cannot be written ({error.strerror or error}); the run goes on without the cache")
            self.folder = None

    def _read(self, key: Key) -> np.ndarray | None:
        """An entry whose numbers are those that were written; None where there is none."""
        assert self.folder is not None
        name = _name(key)
        about, array = self.folder / f"{name}.json", self.folder / f"{name}.npy"
        if not about.exists() or not array.exists():
            return None
        try:
            told = files.read_json(about)
            values = np.load(array, mmap_mode="r", allow_pickle=False)
            good = told["key"] == json.loads(json.dumps(dict(key))) and told["shape"] == list(values.shape)
            good = good and values.dtype == np.float32 and _digest(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data) == told["digest"]
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            self._warn(f"cached features {array} are damaged ({error}); they are computed again")
            return None
        if not good:
            self._warn(f"cached features {array} are damaged (their content is not what was written); they are computed again")
            return None
        return values

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def _name(key: Key) -> str:
    return _digest(json.dumps(dict(key), sort_keys=True).encode())


def _write_array(path: Path, values: np.ndarray) -> None:
    """Write through a temporary file in the same folder and a rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, values, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
