"""A PEFT folder in: every key of the file becomes an array of ours, and every array that its configuration promises is there.

peft itself fills missing keys with random numbers and passes over misspelt ones; here both are errors that name the key and the nearest one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from ftjax.errors import WeightsError, did_you_mean
from ftjax.weights.maps.base import Recognised
from ftjax.weights.peft import AdapterFile
from ftjax.weights.peft_config import ADAPTER_CONFIG, PeftConfig, read_peft_config
from ftjax.weights.peft_names import OUTPUT_LAYERS, Place, Shapes, Spelling, inputs_out, refuse_tied, spellings
from ftjax.weights.readers.hub import download
from ftjax.weights.readers.safetensors import read_safetensors
from ftjax.weights.source import LazyTensors

ADAPTER_WEIGHTS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."
FACTORS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_embedding_A": "a",
    "lora_embedding_B": "b",
    "lora_magnitude_vector": "magnitude",
    "ia3_l": "gain",
}
"""Suffixes of keys, and our fields."""
_JUNK = ("modules_to_save", "original_module")


@dataclasses.dataclass
class _Sorted:
    """The keys of a file by what they are: of an adapter (module -> field -> key), trained whole (tensor's name -> key), and left out."""

    factors: dict[str, dict[str, str]]
    whole: dict[str, str]
    left_out: list[tuple[str, str]]


def read_peft(folder: str | Path, held: Recognised, shapes: Shapes, *, reinitialise: tuple[str, ...] = ()) -> AdapterFile:
    """Read an adapter for one base model.

    Args:
      folder: what peft's `save_pretrained` wrote; a further adapter lies in a folder of its name below.
      held: what the base model is (`recognise`, or the model's own specification).
      shapes: shape of every leaf of the model by its path.
      reinitialise: prefixes of paths whose saved values are left out where they have another shape, as a new task's head has.

    Raises:
      WeightsError: it is no adapter, a key is missing, unknown or of another shape, or the adapter computes what is not computed here.
    """
    folder = Path(folder)
    config = read_peft_config(folder)
    tensors = _open(folder)
    spelling = _spelling(tensors, held, shapes)
    found = _sort(folder, tensors, config, spelling, held)
    _check_complete(folder, config, spelling, found)
    arrays: dict[str, np.ndarray] = {}
    scales: dict[str, float] = {}
    sides: dict[str, Literal["output", "input"]] = {}
    sources = {place.path: key for tensor, key in found.whole.items() for place in spelling.tensors[tensor]}
    for module, keys in found.factors.items():
        read = {field: _finite(folder, key, tensors[key]) for field, key in keys.items()}
        side = _check_factors(folder, module, read, config, spelling, shapes)
        for place in spelling.places(module):
            arrays |= {f"{place.path}/{field}": np.ascontiguousarray(_of_leaf(field, array, place, side)) for field, array in read.items()}
            sources |= {f"{place.path}/{field}": key for field, key in keys.items()}
            scales |= {} if config.kind == "ia3" else {place.path: config.scale(module)}
            sides |= {place.path: side} if config.kind == "ia3" else {}
    saved = _saved(folder, tensors, found, spelling, shapes, reinitialise)
    refuse_tied(held, (*scales, *sides, *saved), str(folder / ADAPTER_WEIGHTS))
    return AdapterFile(config.kind, arrays, scales, saved, sides, config.values, (*config.left_out, *found.left_out), sources)


def peft_folder(where: str) -> Path:
    """The folder of an adapter: a directory, or a snapshot of `hf://owner/name`.

    Raises:
      WeightsError: there is none.
    """
    folder = download(where.removeprefix("hf://")) if where.startswith("hf://") else Path(where).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"{where}: no folder of a PEFT adapter; allowed: one with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}, or hf://owner/name")
    return folder


def _open(folder: Path) -> LazyTensors:
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        pickled = f"{PICKLE} is a pickle, which could run anything and is not read; " if (folder / PICKLE).is_file() else ""
        raise WeightsError(f"{folder}: {ADAPTER_WEIGHTS} is missing beside {ADAPTER_CONFIG}; {pickled}save the adapter with safe_serialization=True")
    tensors, _ = read_safetensors(path)
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors")
    return LazyTensors(tensors)


def _split(key: str) -> tuple[str, str | None]:
    """The name of a module (of a tensor, where nothing was adapted) and our field.

    >>> _split("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight")
    ('bert.encoder.layer.0.attention.self.query', 'a')
    """
    name = key.removeprefix(PREFIX)
    for suffix, field in FACTORS.items():
        if name.endswith(f".{suffix}"):
            return name.removesuffix(f".{suffix}"), field
    return name.replace(".base_layer.", "."), None


def _spelling(tensors: Mapping[str, np.ndarray], held: Recognised, shapes: Shapes) -> Spelling:
    """The spelling that knows most keys."""
    split = [_split(key) for key in tensors]
    names = [module if field is None else f"{module}.weight" for module, field in split]
    return max(spellings(held, shapes), key=lambda spelling: sum(name in spelling.tensors for name in names))


def _sort(folder: Path, tensors: Mapping[str, np.ndarray], config: PeftConfig, spelling: Spelling, held: Recognised) -> _Sorted:
    """What each key is.

    Raises:
      WeightsError: a key that this base and this configuration have no place for.
    """
    found = _Sorted({}, {}, [])
    for key in sorted(tensors):
        name, field = _split(key)
        tensor = name if field is None else f"{name}.weight"
        if key.startswith(PREFIX) and tensor in spelling.tensors:
            if field is None:
                _refuse_unasked(folder, key, tensor, config)
                found.whole[tensor] = key
            elif field in _fields(config.kind) and config.targets(name, name in OUTPUT_LAYERS):
                found.factors.setdefault(name, {})[field] = key
            else:
                raise WeightsError(f"{folder / ADAPTER_WEIGHTS}: unexpected {key!r}: {config.where} says {_says(config)}")
            continue
        why = _ignored(key, tensor, spelling, held)
        if why is None:
            raise WeightsError(f"{folder / ADAPTER_WEIGHTS}: unexpected {key!r}: {_no_place(key, config, spelling)}")
        found.left_out.append((key, why))
    return found


def _fields(kind: str) -> tuple[str, ...]:
    return {"lora": ("a", "b"), "dora": ("a", "b", "magnitude")}.get(kind, ("gain",))


def _says(config: PeftConfig) -> str:
    kind = {"lora": "LORA without use_dora", "dora": "LORA with use_dora", "ia3": "IA3"}[config.kind]
    return f"{kind} on target_modules={_shown(config.values['target_modules'])}"


def _shown(value: object) -> str:
    text = repr(sorted(value)) if isinstance(value, list) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _refuse_unasked(folder: Path, key: str, tensor: str, config: PeftConfig) -> None:
    """A tensor trained whole must be one that the configuration says was: a head, a bias, or the table under an adapted embedding.

    Raises:
      WeightsError: nothing in the configuration asks for it.
    """
    module, _, leaf = tensor.rpartition(".")
    bias, of_targets = config.values.get("bias", "none"), config.targets(module, module in OUTPUT_LAYERS)
    asked = config.saves(module) or (leaf == "bias" and (bias == "all" or (bias == "lora_only" and of_targets)))
    if not (asked or (leaf == "weight" and ".base_layer." in key and of_targets)):
        raise WeightsError(f"{folder / ADAPTER_WEIGHTS}: unexpected {key!r}: neither modules_to_save nor bias={bias!r} of {config.where} asks for it")


def _ignored(key: str, tensor: str, spelling: Spelling, held: Recognised) -> str | None:
    """Why a key without a place is passed over; None: it is not."""
    if any(f".{part}." in key for part in _JUNK):
        plain = {re.sub(rf"\.({'|'.join(_JUNK)})\.{named}", ".", tensor) for named in ("", r"[^.]+\.")}  # with the adapter's name below it, or without
        return "peft's own copy of a module that is saved under its plain name" if plain & spelling.tensors.keys() else None
    if tensor.startswith("lm_head.") and held.options.get("output") == "language":
        return None  # the answers go through it: a tied model has no head that could differ from its table
    return spelling.name_map.ignored_because(tensor) if key.startswith(PREFIX) else None


def _no_place(key: str, config: PeftConfig, spelling: Spelling) -> str:
    """What is wrong with a key, and which are near."""
    if not key.startswith(PREFIX):
        return f"keys begin with {PREFIX!r}; {did_you_mean(PREFIX + key, _possible(config, spelling), show=3)}"
    return f"the base, a {spelling.name_map.name}, has no such tensor; {did_you_mean(key, _possible(config, spelling), show=3)}"


def _possible(config: PeftConfig, spelling: Spelling) -> list[str]:
    """The keys that this configuration could have."""
    suffixes = [suffix for suffix, field in FACTORS.items() if field in _fields(config.kind) and "embedding" not in suffix]
    factors = [f"{PREFIX}{module}.{suffix}" for module in _targeted(config, spelling) for suffix in suffixes]
    return factors + [f"{PREFIX}{tensor}" for tensor in spelling.tensors if config.saves(tensor.rpartition(".")[0])]


def _targeted(config: PeftConfig, spelling: Spelling) -> list[str]:
    """Modules of the base that the configuration adapts."""
    kinds = ("/kernel", "/embedding") if config.values["target_modules"] != "all-linear" else ("/kernel",)
    weights = [name.removesuffix(".weight") for name, places in spelling.tensors.items() if places[0].path.endswith(kinds)]
    return [module for module in weights if config.targets(module, module in OUTPUT_LAYERS)]


def _check_complete(folder: Path, config: PeftConfig, spelling: Spelling, found: _Sorted) -> None:
    """Hold the keys against what the configuration promises of this base.

    Raises:
      WeightsError: naming the missing keys.
    """
    missing = [
        f"{PREFIX}{module}: {field}" for module in _targeted(config, spelling) for field in _fields(config.kind) if field not in found.factors.get(module, {})
    ]
    taken = {place.path for tensor in found.whole for place in spelling.tensors[tensor]}
    for tensor, places in spelling.tensors.items():
        module, _, leaf = tensor.rpartition(".")
        everywhere = leaf == "bias" and config.values.get("bias") == "all"
        of_targets = leaf == "bias" and config.values.get("bias") == "lora_only" and module in found.factors
        if (config.saves(module) or everywhere or of_targets) and not all(place.path in taken for place in places):
            missing.append(f"{PREFIX}{tensor}")
    if missing:
        shown = ", ".join(missing[:6]) + (f", ... ({len(missing)} in all)" if len(missing) > 6 else "")
        unread = [key for key, _ in found.left_out if key.startswith(PREFIX)]
        near = f"; without a place are {', '.join(unread[:3])}" if unread else ""
        raise WeightsError(
            f"{folder / ADAPTER_WEIGHTS}: missing {shown}, which {config.where} promises ({_says(config)}){near}; is the adapter of another base?"
        )
    if not found.factors:
        raise WeightsError(f"{config.where}: target_modules={_shown(config.values['target_modules'])} is nothing in this base")


def _finite(folder: Path, key: str, array: np.ndarray) -> np.ndarray:
    read = np.asarray(array, np.float32)
    if array.dtype.kind not in "fV" and array.dtype.name != "bfloat16":
        raise WeightsError(f"{folder / ADAPTER_WEIGHTS}: {key!r} is of type {array.dtype}; allowed: floating-point numbers")
    if not np.isfinite(read).all():
        raise WeightsError(f"{folder / ADAPTER_WEIGHTS}: {key!r} holds {int((~np.isfinite(read)).sum())} numbers that are not finite; the training diverged?")
    return read


def _check_factors(
    folder: Path, module: str, read: Mapping[str, np.ndarray], config: PeftConfig, spelling: Spelling, shapes: Shapes
) -> Literal["output", "input"]:
    """Hold the shapes of one module's factors against the base and the configuration; for IA3 the side of its gain.

    Raises:
      WeightsError: a shape differs.
    """
    places = spelling.places(module)
    inner, outputs = shapes[places[0].path][:-1], sum(shapes[place.path][-1] for place in places)
    rank = config.rank(module) if config.kind != "ia3" else 0
    side: Literal["output", "input"] = "input" if config.kind == "ia3" and config.feedforward(module) else "output"
    if len(inner) == 3:
        theirs = {"a": (rank, inner[2], *inner[:2]), "b": (outputs, rank, 1, 1)}
    else:
        theirs = {"a": (rank, *inner), "b": (outputs, rank), "magnitude": (outputs,), "gain": (1, *inner) if side == "input" else (outputs, 1)}
    for field, array in read.items():
        if array.shape != theirs.get(field):
            wanted = list(theirs[field]) if field in theirs else "none: only matrices have one"
            raise WeightsError(
                f"{folder / ADAPTER_WEIGHTS}: {PREFIX}{module}: {field} has the shape {list(array.shape)}; base and {ADAPTER_CONFIG} ask for {wanted}"
            )
    return side


def _of_leaf(field: str, array: np.ndarray, place: Place, side: str) -> np.ndarray:
    """A factor as our leaf has it."""
    if field == "a":
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    if field == "b":
        return array[:, :, 0, 0].T if array.ndim == 4 else inputs_out(array, place)
    if side == "input":
        return array.reshape(-1)
    return inputs_out(array.reshape(-1, 1), place).reshape(-1)


def _saved(
    folder: Path, tensors: Mapping[str, np.ndarray], found: _Sorted, spelling: Spelling, shapes: Shapes, reinitialise: tuple[str, ...]
) -> dict[str, np.ndarray]:
    saved: dict[str, np.ndarray] = {}
    for tensor, key in found.whole.items():
        array = _finite(folder, key, tensors[key])
        for place in spelling.tensors[tensor]:
            leaf = np.ascontiguousarray(place.conversion.apply(array)) if _ranks_agree(array, shapes[place.path]) else array
            if leaf.shape == shapes[place.path]:
                saved[place.path] = leaf
            elif place.path.startswith(reinitialise) and reinitialise:
                found.left_out.append((key, f"{place.path} has the shape {list(shapes[place.path])} in this run, and is initialised"))
            else:
                wanted = list(shapes[place.path])
                raise WeightsError(f"{folder / ADAPTER_WEIGHTS}: {key!r} {list(array.shape)} is {place.path}, which has the shape {wanted} in this model")
    return saved


def _ranks_agree(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    return array.ndim == len(shape)
