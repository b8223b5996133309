"""`adapter_config.json`: what it says of the computation, and which modules it means.

Every key is either used, harmless by name, or refused where it is on: peft ignores keys that it does not know, and then computes something else.
The rules of matching are peft's own (`check_target_module_exists`, `get_pattern_key` of 0.21), on names of modules without `base_model.model.`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ftjax.errors import WeightsError, did_you_mean
from ftjax.weights.readers.hf_config import LIMIT

ADAPTER_CONFIG = "adapter_config.json"
Kind = Literal["lora", "dora", "ia3"]

_LORA_KEYS = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "bias")
_USED = ("peft_type", "task_type", "base_model_name_or_path", "target_modules", "exclude_modules", "modules_to_save", *_LORA_KEYS, "feedforward_modules")
HARMLESS: Mapping[str, str] = {
    "auto_mapping": "how peft finds the class of the base",
    "corda_config": "how training began (init_lora_weights tells whether that changed the base)",
    "eva_config": "how training began",
    "fan_in_fan_out": "told by the weights",
    "inference_mode": "whether peft trains",
    "init_ia3_weights": "how training began",
    "loftq_config": "how training began (init_lora_weights tells whether that changed the base)",
    "lora_dropout": "of training alone",
    "lora_ga_config": "how training began (init_lora_weights tells whether that changed the base)",
    "megatron_core": "the name of a package",
    "peft_version": "who wrote it",
    "qalora_group_size": "read with use_qalora alone",
    "revision": "of the base",
    "runtime_config": "where peft computes",
}
"""Keys that do not change what an adapter computes, and why."""
_INITIAL = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base as it is."""
_REFUSED: Mapping[str, Any] = {
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "ensure_weight_tying": False,
    "kasa_config": None,
    "layer_replication": None,
    "lora_bias": False,
    "megatron_config": None,
    "monteclora_config": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_qalora": False,
    "velora_config": None,
}
_NESTED = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")
_MOST_PATTERN = 4096


@dataclasses.dataclass(frozen=True)
class PeftConfig:
    """What an `adapter_config.json` says that matters; `values` are those keys as they stand there."""

    where: str
    kind: Kind
    values: Mapping[str, Any]
    left_out: tuple[tuple[str, str], ...] = ()

    def targets(self, module: str, output_layer: bool = False) -> bool:
        """Whether the adapter sits on this module; `output_layer`: it gives the model's answers, which "all-linear" leaves alone."""
        values = self.values
        if _listed(values.get("exclude_modules"), module):
            return False
        if any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in values.get("modules_to_save") or ()):
            return False
        wanted = values["target_modules"]
        if isinstance(wanted, str):
            return not output_layer if wanted.lower() == "all-linear" else re.fullmatch(wanted, module) is not None
        if module in wanted:
            return True
        return _listed(wanted, module) and self._layer(module)

    def _layer(self, module: str) -> bool:
        """Whether `layers_to_transform` names the layer of this module."""
        layers = self.values.get("layers_to_transform")
        if layers is None or layers == []:
            return True
        patterns = self.values.get("layers_pattern") or ()
        named = [rf"(?:^|.*?\.){pattern}" for pattern in ([patterns] if isinstance(patterns, str) else patterns)]
        matches = (re.match(rf"{before}\.(?P<index>\d+)\.", module) for before in named or [r".*?\.[^.]*"])
        found = next((match for match in matches if match), None)
        return found is not None and int(found["index"]) in ([layers] if isinstance(layers, int) else layers)

    def saves(self, module: str) -> bool:
        """Whether `modules_to_save` names this module or one that it lies in; peft compares the ends of names, so "classifier" takes "pre_classifier"."""
        parts = module.split(".")
        above = [".".join(parts[: count + 1]) for count in range(len(parts))]
        return any(name.endswith(key) for key in self.values.get("modules_to_save") or () for name in above)

    def rank(self, module: str) -> int:
        """r of this module."""
        return int(_by_pattern(self.values.get("rank_pattern") or {}, module, self.values["r"]))

    def scale(self, module: str) -> float:
        """lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora."""
        alpha, rank = float(_by_pattern(self.values.get("alpha_pattern") or {}, module, self.values["lora_alpha"])), self.rank(module)
        return alpha / math.sqrt(rank) if self.values.get("use_rslora") else alpha / rank

    def feedforward(self, module: str) -> bool:
        """Whether an IA3 gain sits on the inputs of this module."""
        names = self.values.get("feedforward_modules") or ()
        return re.fullmatch(names, module) is not None if isinstance(names, str) else any(module.endswith(name) for name in names)


def _listed(names: Any, module: str) -> bool:
    if not names:
        return False
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return module in names or any(module.endswith(f".{name}") for name in names)


def _by_pattern(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def read_peft_config(folder: Path) -> PeftConfig:
    """Read `adapter_config.json` of a folder.

    Raises:
      WeightsError: there is none, it is no such file, or it asks for something that is not computed here.
    """
    path = folder / ADAPTER_CONFIG
    values = _read(path)
    kind = str(values.get("peft_type"))
    if kind not in ("LORA", "IA3"):
        raise WeightsError(f"{path}: peft_type={values.get('peft_type')!r} is not read; allowed: 'LORA' (with use_rslora, use_dora) and 'IA3'")
    used: dict[str, Any] = {key: values[key] for key in _USED if not _off(values.get(key))}
    used |= {"r": values.get("r", 8), "lora_alpha": values.get("lora_alpha", 8)} if kind == "LORA" else {}
    left_out = _check_keys(path, values)
    _check_values(path, used)
    return PeftConfig(str(path), "ia3" if kind == "IA3" else "dora" if used.get("use_dora") else "lora", used, left_out)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        below = sorted(found.parent.name for found in path.parent.glob(f"*/{ADAPTER_CONFIG}")) if path.parent.is_dir() else []
        hint = f"; adapters lie in its folders {', '.join(below)}: name one of those" if below else f"; allowed: a folder with {ADAPTER_CONFIG}"
        raise WeightsError(f"{path.parent} is no PEFT adapter: {path.name} is missing{hint}")
    if path.stat().st_size > LIMIT:
        raise WeightsError(f"{path}: {path.stat().st_size} bytes; the limit is {LIMIT}")
    try:
        value = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"{path}: not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: a {type(value).__name__}, not a table")
    return value


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise WeightsError(f"{path}: the name {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return table


def _check_keys(path: Path, values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Refuse what would change the computation; what is left out, with the reason."""
    for key, off in _REFUSED.items():
        if key in values and values[key] != off:
            raise WeightsError(f"{path}: {key}={values[key]!r} changes what the adapter computes and is not read; allowed: {key}={json.dumps(off)}")
    initial = values.get("init_lora_weights", True)
    if initial not in _INITIAL:
        raise WeightsError(
            f"{path}: init_lora_weights={initial!r} changed the base before training, so the adapter does not fit the base as it was published; convert it "
            f"with peft's save_pretrained(path_initial_model_for_weight_conversion=...); allowed: {', '.join(map(repr, _INITIAL))}"
        )
    known = {*_USED, *HARMLESS, *_REFUSED, "init_lora_weights"}
    odd = sorted(key for key in values if key not in known)
    on = next((key for key in odd if not _off(values[key])), None)
    if on is not None:
        raise WeightsError(f"{path}: the key {on!r} is unknown, and may change what the adapter computes; {did_you_mean(on, known)}")
    harmless = [(key, why) for key, why in HARMLESS.items() if not _off(values.get(key))]
    return (*harmless, *((key, "unknown, and off") for key in odd))


def _off(value: Any) -> bool:
    """Whether a key says nothing; 0 does say something (the first layer)."""
    return value is None or value is False or value in ({}, [], "")


def _check_values(path: Path, values: Mapping[str, Any]) -> None:
    """Types and ranges of the keys that are used."""

    def refuse(key: str, allowed: str) -> WeightsError:
        return WeightsError(f"{path}: {key}={str(values.get(key))[:200]!r}; allowed: {allowed}")

    if "target_modules" not in values:
        raise refuse("target_modules", "names of modules, or a regular expression; peft writes what it found")
    for key in ("target_modules", "exclude_modules", "modules_to_save", "feedforward_modules", "layers_pattern"):
        value = values.get(key, [])
        if not (_pattern(value) if isinstance(value, str) else isinstance(value, list) and all(isinstance(name, str) and _pattern(name) for name in value)):
            raise refuse(key, "names of modules, or a regular expression without a repetition inside a repetition")
    if not isinstance(values.get("modules_to_save", []), list):
        raise refuse("modules_to_save", "a list of names")
    for key in ("rank_pattern", "alpha_pattern"):
        table = values.get(key, {})
        good = _natural if key == "rank_pattern" else _positive
        if not isinstance(table, dict) or not all(_pattern(name) and good(value) for name, value in table.items()):
            raise refuse(key, "a table from names or regular expressions to positive numbers")
    for key in ("use_rslora", "use_dora"):
        if not isinstance(values.get(key, False), bool):
            raise refuse(key, "true or false")
    if "r" in values and not _natural(values["r"]):
        raise refuse("r", "a positive whole number")
    if "lora_alpha" in values and not _positive(values["lora_alpha"]):
        raise refuse("lora_alpha", "a positive number")
    if values.get("bias", "none") not in ("none", "all", "lora_only"):
        raise refuse("bias", "'none', 'all', 'lora_only'")
    layers = values.get("layers_to_transform", [])
    if type(layers) is not int and not (isinstance(layers, list) and all(type(layer) is int for layer in layers)):
        raise refuse("layers_to_transform", "a whole number, or a list of them")
    for key in ("base_model_name_or_path", "task_type"):
        if not isinstance(values.get(key, ""), str):
            raise refuse(key, "a text")


def _pattern(text: str) -> bool:
    """Whether a regular expression of a stranger may be tried: it compiles, and cannot take for ever on short names."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return len(text) <= _MOST_PATTERN and not _NESTED.search(text)


def _natural(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _positive(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 < value < math.inf
