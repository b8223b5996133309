"""torch's zip files (`.pth`, `.th`, `.pt`), read without torch and without running their pickle.

An archive is `<name>/data.pkl` (what there is, see `torch_pickle`) and `<name>/data/<key>` (the numbers). Entries must be stored, not
compressed; sizes must agree with the table of contents; each storage's CRC is checked when it is read.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.readers.torch_pickle import HINT, View, read_pickle
from ftjax.weights.source import MAX_TENSORS, Tensor

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
WRAPPERS = ("state_dict", "model_state_dict", "model")


def refuse_pickle(path: Path) -> None:
    """A bare pickle that is not torch's.

    Raises:
      WeightsError: always; the message says how to convert the file.
    """
    raise WeightsError(
        f"{path} is a bare pickle, which can only be read by running it; where you trust it, convert it with torch: "
        f"torch.save(torch.load({path.name!r}, weights_only=True, map_location='cpu'), 'converted.pth')"
    )


def read_torch_zip(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a state dict, unwrapped from `state_dict`, `model_state_dict` or `model` and from DataParallel's `module.`.

    Raises:
      WeightsError: the archive is damaged or compressed, asks for code, or its sizes do not agree.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _check_entries(path, archive.infolist())
            root = _root(path, entries)
            if f"{root}/byteorder" in entries and archive.read(f"{root}/byteorder") != b"little":
                raise WeightsError(f"{path}: written on a big-endian machine")
            value = read_pickle(archive.read(f"{root}/data.pkl"), str(path))
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a readable torch zip file ({error}); it may be truncated") from None
    state, metadata = unwrap(path, value)
    return {name: _tensor(path, root, name, view, entries) for name, view in state.items()}, metadata


def _check_entries(path: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    entries = {info.filename: info for info in infos}
    if len(infos) > MAX_TENSORS:
        raise WeightsError(f"{path}: {len(infos)} entries; the limit is {MAX_TENSORS}")
    if len(entries) < len(infos):
        raise WeightsError(f"{path}: an entry of the archive occurs twice")
    packed = [info.filename for info in infos if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1]
    if packed:
        raise WeightsError(f"{path}: {packed[0]!r} is compressed or encrypted, which torch.save never does; {HINT}")
    if sum(info.file_size for info in infos) > path.stat().st_size:
        raise WeightsError(f"{path}: the entries claim more bytes than the file has")
    return entries


def _root(path: Path, entries: dict[str, zipfile.ZipInfo]) -> str:
    roots = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise WeightsError(f"{path}: a torch file has one data.pkl, found {len(roots)}")
    if any(name.startswith(f"{roots[0]}/code/") or name == f"{roots[0]}/constants.pkl" for name in entries):
        raise WeightsError(f"{path}: a TorchScript program, not a dict of tensors; {HINT}")
    return roots[0]


def unwrap(path: Path, value: Any) -> tuple[dict[str, View], dict[str, str]]:
    """The dict of tensors inside what was saved, and a note of what it was taken from."""
    metadata = {}
    for wrapper in WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(wrapper), dict):
            metadata = {"unwrapped": wrapper, "left out": ", ".join(str(key) for key in value if key != wrapper)}
            value = value[wrapper]
            break
    if not isinstance(value, dict) or not value:
        raise WeightsError(f"{path}: holds a {type(value).__name__}, not a dict of tensors; {HINT}")
    odd = [name for name, leaf in value.items() if not isinstance(name, str) or not isinstance(leaf, View)]
    if odd:
        kind = type(value[odd[0]]).__name__
        raise WeightsError(f"{path}: {str(odd[0])[:80]!r} is a {kind}, not a tensor; a state dict may lie under {', '.join(WRAPPERS)}. {HINT}")
    if all(name.startswith("module.") for name in value):
        value = {name.removeprefix("module."): view for name, view in value.items()}
    return value, metadata


def _tensor(path: Path, root: str, name: str, view: View, entries: dict[str, zipfile.ZipInfo]) -> Tensor:
    entry = f"{root}/data/{view.storage.key}"
    if entry not in entries:
        raise WeightsError(f"{path}: {name!r} lies in {entry!r}, which the archive does not have")
    size = view.storage.count * view.storage.dtype.itemsize
    if entries[entry].file_size != size:
        raise WeightsError(f"{path}: {name!r} needs {size} bytes of {entry!r}, found {entries[entry].file_size}")
    return Tensor(view.shape, view.storage.dtype, lambda: _read(path, entry, view))


def _read(path: Path, entry: str, view: View) -> np.ndarray:
    """The view's numbers as an array of its own; reading the whole entry is what checks its CRC."""
    try:
        with zipfile.ZipFile(path) as archive:
            flat = np.frombuffer(archive.read(entry), view.storage.dtype)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: {entry!r} is damaged: {error}") from None
    return strided(flat, view)


def strided(flat: np.ndarray, view: View) -> np.ndarray:
    """The view of a storage's numbers, as an array of its own."""
    if not np.prod(view.shape, dtype=np.int64):
        return np.empty(view.shape, view.storage.dtype)
    strides = [stride * flat.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides, writeable=False).copy()
