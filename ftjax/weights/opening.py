"""From what the user wrote (`builtin:digits`, a file, a directory, `hf://owner/name`) to an open `Source`.

A file's format is told by its first bytes, not by its suffix; a directory's by what lies in it.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import zipfile
from pathlib import Path

from ftjax.errors import WeightsError, did_you_mean
from ftjax.weights.readers.flax_msgpack import read_flax_msgpack
from ftjax.weights.readers.hf_config import read_settings
from ftjax.weights.readers.hub import download
from ftjax.weights.readers.npz import read_npz
from ftjax.weights.readers.orbax import is_orbax, read_orbax, steps_below
from ftjax.weights.readers.safetensors import read_safetensors, read_sharded
from ftjax.weights.readers.torch_legacy import is_torch_legacy, read_torch_legacy
from ftjax.weights.readers.torch_zip import read_torch_zip, refuse_pickle
from ftjax.weights.source import LazyTensors, Source, digest

FORMATS = "safetensors (file or sharded directory), Flax msgpack, Orbax directory, NumPy .npz, torch zip and torch's older format (.pth .th .pt)"
_NO_BUILTIN = "no builtin weights are installed"
SUFFIXES = (".safetensors", ".msgpack", ".ckpt", ".npz", ".pth", ".th", ".pt")


def open_weights(path: str) -> Source:
    """Open weights of any known format; tensors are read when they are asked for.

    Args:
      path: `builtin:NAME`, `hf://owner/name[@revision]`, a file, or a directory (Hugging Face's with `config.json`, safetensors with or
        without shards, Orbax, a run of ftjax, or any directory with a single file of weights).

    Raises:
      WeightsError: there is nothing there, or it is not (or not safely) readable as weights.
    """
    if path.startswith("builtin:"):
        return dataclasses.replace(_open_file(_builtin(path.removeprefix("builtin:")), path), folder=None)
    if path.startswith("hf://"):
        return _open_directory(download(path.removeprefix("hf://")), path)
    place = Path(path).expanduser()
    if place.is_dir():
        return _open_directory(place, path)
    if not place.is_file():
        raise WeightsError(f"{path}: no such file or directory; allowed: a file, a directory, hf://owner/name, {_builtin_names_text()}")
    return _open_file(place, path)


def builtin_names() -> tuple[str, ...]:
    """Names of the weights that ship inside the package."""
    folder = importlib.resources.files("ftjax.weights").joinpath("builtin")
    if not folder.is_dir():
        return ()
    return tuple(sorted(entry.name.removesuffix(".safetensors") for entry in folder.iterdir() if entry.name.endswith(".safetensors")))


def _builtin_names_text() -> str:
    return ", ".join(f"builtin:{name}" for name in builtin_names()) or _NO_BUILTIN


def _builtin(name: str) -> Path:
    if name not in builtin_names():
        raise WeightsError(
            f"builtin:{name}: no such builtin weights; {did_you_mean(name, builtin_names())}" if builtin_names() else f"builtin:{name}: {_NO_BUILTIN}"
        )
    return Path(str(importlib.resources.files("ftjax.weights").joinpath("builtin", f"{name}.safetensors")))


def _open_file(path: Path, location: str) -> Source:
    metadata: dict[str, str] = {}
    match _format_of(path):
        case "safetensors" as kind:
            tensors, metadata = read_safetensors(path)
        case "torch zip" as kind:
            tensors, metadata = read_torch_zip(path)
        case "torch legacy" as kind:
            tensors, metadata = read_torch_legacy(path)
        case "npz" as kind:
            tensors = read_npz(path)
        case kind:
            tensors = read_flax_msgpack(path)
    if not tensors:
        raise WeightsError(f"{location}: holds no tensors")
    return Source(LazyTensors(tensors), kind, location, digest([path], path.parent), metadata, folder=path.parent)


def _format_of(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    if path.suffix == ".safetensors" or start[4:9] == b"\0\0\0\0{":  # first: the length before may begin like any other format
        return "safetensors"
    for magic, kind in ((b"\x89HDF", "an HDF5 file"), (b"\x93NUMPY", "a single NumPy array")):
        if start.startswith(magic):
            raise WeightsError(f"{path}: {kind} is not read as weights; known formats: {FORMATS}")
    if start.startswith(b"PK"):
        return _zip_kind(path)
    if len(start) > 2 and start[0] == 0x80 and start[1] <= 5:
        if is_torch_legacy(path):
            return "torch legacy"
        refuse_pickle(path)
    if start and (0x80 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF)):
        return "flax msgpack"
    if path.suffix in (".npz", ".pth", ".th", ".pt"):
        raise WeightsError(f"{path}: not a zip archive, as {path.suffix} should be; it may be truncated or not weights at all")
    raise WeightsError(f"{path}: not a known format (first bytes {start[:8]!r}); known formats: {FORMATS}")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise WeightsError(f"{path}: a zip archive that cannot be read ({error}); it may be truncated: found {path.stat().st_size} bytes") from None
    if any(name.endswith("data.pkl") for name in names):
        return "torch zip"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise WeightsError(f"{path}: a zip archive that is neither torch's (no data.pkl) nor NumPy's (first entries {names[:3]})")


def _open_directory(folder: Path, location: str) -> Source:
    """The one set of weights in a folder, with the settings that `transformers` wrote beside it."""
    inner = folder / "model.safetensors"
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if inner.is_file():
        return dataclasses.replace(_open_file(inner, location), settings=read_settings(folder))
    if len(indices) == 1:
        tensors, metadata, files = read_sharded(folder, indices[0])
        return Source(LazyTensors(tensors), "safetensors", location, digest(files, folder), metadata, read_settings(folder), folder)
    return _open_other(folder, location)


def _open_other(folder: Path, location: str) -> Source:
    """A run of ftjax, an Orbax checkpoint, or the only file of weights.

    Raises:
      WeightsError: there is none, or more than one.
    """
    for inner in (folder / "weights.safetensors", folder / "model" / "weights.safetensors"):
        if inner.is_file():
            return _open_file(inner, location)
    if is_orbax(folder):
        tensors, metadata, files = read_orbax(folder)
        return Source(LazyTensors(tensors), "orbax", location, digest(files, folder), metadata, folder=folder)
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in SUFFIXES)
    if len(found) == 1:
        return _open_file(found[0], location)
    raise WeightsError(f"{location}: {_what_is_there(folder, found)}; known formats: {FORMATS}")


def _what_is_there(folder: Path, found: list[Path]) -> str:
    if found:
        return f"several files of weights, name one of {', '.join(path.name for path in found)}"
    steps = steps_below(folder)
    if steps:
        return f"a folder of Orbax checkpoints, name one of its steps: {folder / steps[-1]}"
    return f"no weights among {sorted(path.name for path in folder.iterdir())[:8]}"
