"""Reading, checking, overriding and writing the configuration, strictly, with the origin of every value.

`--config configs/x.py[:argument]` and `--config.key=value` follow ml_collections' config_flags, and `get_config` may return the typed `Config` or a
ConfigDict. Overrides are typed by the schema here: config_flags cannot set frozen dataclasses, refuses `1e3` for an int and misspelt keys get no hint.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import ml_collections

from ftjax.config import IMAGE_SOURCES, TEXT_SOURCES, Config
from ftjax.errors import ConfigError, did_you_mean

Origin = Literal["default", "recipe", "file", "flag"]


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A configuration and, for every key, where its value comes from and why."""

    config: Config
    origins: Mapping[str, tuple[Origin, str]]

    def to_json(self) -> dict[str, Any]:
        """The content of config.json."""
        origins = {key: {"origin": origin, "why": why} for key, (origin, why) in self.origins.items()}
        return {"config": to_mapping(self.config), "origins": origins}


def keys(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every `("optimizer.learning_rate", value)` of a configuration, in the order of the schema."""
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from keys(value, f"{key}.")
        else:
            yield key, value


def to_mapping(config: Any) -> dict[str, Any]:
    """The configuration as nested dicts of plain values."""
    return dataclasses.asdict(config)


def from_mapping(mapping: Mapping[str, Any], where: str) -> Config:
    """The typed configuration held by nested mappings (a ConfigDict, or JSON).

    Raises:
      ConfigError: a key is unknown or a value is of the wrong type; the message names the key, what is allowed and the nearest valid key.
    """
    return _build(Config, mapping, "", where)


def replace(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with `{"optimizer.learning_rate": 1e-3}` put in; values are checked like those of a file."""
    mapping = to_mapping(config)
    for key, value in values.items():
        _hint(key)
        *parents, name = key.split(".")
        functools.reduce(lambda node, parent: node[parent], parents, mapping)[name] = value
    return from_mapping(mapping, "flags")


def load_file(path_and_argument: str) -> Config:
    """The configuration that `get_config` of a Python file returns. This runs the file: it is code, open only what you trust.

    Args:
      path_and_argument: `configs/x.py`, or `configs/x.py:text`, where `text` is handed to `get_config`.

    Raises:
      ConfigError: the file is missing, has no `get_config`, or returns a bad configuration.
    """
    path = Path(path_and_argument.split(":", 1)[0])
    if not path.is_file():
        siblings = [str(file) for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"no configuration file {path}; {did_you_mean(str(path), siblings)}")
    try:
        loaded = _get_config(path, *path_and_argument.split(":", 1)[1:])
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    if isinstance(loaded, ml_collections.ConfigDict):
        loaded = loaded.to_dict()
    if isinstance(loaded, Mapping):
        return from_mapping(loaded, str(path))
    if isinstance(loaded, Config):
        return from_mapping(to_mapping(loaded), str(path))
    raise ConfigError(f"{path}: get_config returned {type(loaded).__name__}; allowed: ftjax.config.Config or ml_collections.ConfigDict")


def resolve(file: str | None, flags: Mapping[str, str], base: Config | None = None) -> Resolved:
    """The configuration of a file (or `base`) with the flags put in, and where each value comes from."""
    config = load_file(file) if file else base or Config()
    default = dict(keys(Config()))
    origins: dict[str, tuple[Origin, str]] = {key: ("default", "") if value == default[key] else ("file", file or "caller") for key, value in keys(config)}
    config = replace(config, {key: parse_text(key, text) for key, text in flags.items()})
    given: dict[str, tuple[Origin, str]] = {key: ("flag", f"--config.{key}={text}") for key, text in flags.items()}
    return Resolved(config, origins | given)


def parse_text(key: str, text: str) -> Any:
    """The value that `--config.key=text` means, by the type of the key."""
    hint = _hint(key)
    allowed = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in allowed and text.lower() in ("none", "null"):
        return None
    if str in allowed or text in _literals(hint):
        return text
    if bool in allowed and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_used(config: Config) -> None:
    """Refuse a value that was set and that nothing would read.

    Raises:
      ConfigError: naming the key and what would read it.
    """
    default = dict(keys(Config()))
    for key, value in keys(config):
        if key not in _READ_BY or value == default[key]:
            continue
        choice, chosen, readers = _READ_BY[key]
        if chosen(config) not in readers:
            allowed = " and ".join(map(repr, readers))
            raise ConfigError(f"{key}={value!r} is set and nothing reads it: {choice} is {chosen(config)!r}; it is read by {allowed}")


_OF_IMAGES = ("crop_min_area", "horizontal_flip", "brightness", "contrast")
_OF_TABLES = ("text", "text_pair", "label", "format", "delimiter", "header")

_READ_BY: dict[str, tuple[str, Callable[[Config], str], tuple[str, ...]]] = {
    "data.path": ("data.source", lambda config: config.data.source, ("image_folder", "npz", "tfds", *TEXT_SOURCES)),
    "data.validation_path": ("data.source", lambda config: config.data.source, TEXT_SOURCES),
    "data.test_path": ("data.source", lambda config: config.data.source, TEXT_SOURCES),
    "data.max_pixels": ("data.source", lambda config: config.data.source, IMAGE_SOURCES),
    "data.cache_megabytes": ("data.source", lambda config: config.data.source, IMAGE_SOURCES),
    **{f"augment.{key}": ("data.source", lambda config: config.data.source, IMAGE_SOURCES) for key in _OF_IMAGES},
    "augment.neftune": ("data.source", lambda config: config.data.source, TEXT_SOURCES),
    **{f"text.{key}": ("data.source", lambda config: config.data.source, TEXT_SOURCES) for key in ("encoding", "max_length", "buckets")},
    **{f"text.{key}": ("data.source", lambda config: config.data.source, ("table",)) for key in _OF_TABLES},
    "text.label_separator": ("task.name", lambda config: config.task.name, ("multi_label",)),
    "text.stride": ("task.name", lambda config: config.task.name, ("question_answering",)),
    "model.pool": ("data.source", lambda config: config.data.source, TEXT_SOURCES),
    "model.image_size": ("data.source", lambda config: config.data.source, IMAGE_SOURCES),
    "task.imbalance": ("task.name", lambda config: config.task.name, ("classification", "multi_label", "token_classification")),
    "task.focal_gamma": ("task.imbalance", lambda config: config.task.imbalance, ("focal",)),
    "task.r_drop": ("task.name", lambda config: config.task.name, ("classification",)),
    "task.temperature": ("task.name", lambda config: config.task.name, ("sentence_embedding",)),
    "task.max_answer_length": ("task.name", lambda config: config.task.name, ("question_answering",)),
    "train.batch_tokens": ("data.source", lambda config: config.data.source, TEXT_SOURCES),
    "data.name": ("data.source", lambda config: config.data.source, ("tfds",)),
    "optimizer.momentum": ("optimizer.name", lambda config: _direction(config), ("sgd", "muon")),
    "optimizer.beta1": ("optimizer.name", lambda config: _direction(config), ("adamw", "lion", "muon", "schedule_free")),
    "optimizer.beta2": ("optimizer.name", lambda config: config.optimizer.name, ("adamw", "lion", "muon", "adafactor")),
    "optimizer.epsilon": ("optimizer.name", lambda config: config.optimizer.name, ("adamw", "muon")),
    "coefficient.auto_every": ("coefficient.auto", lambda config: "rgn" if config.method == "auto_rgn" else config.coefficient.auto, ("rgn",)),
    "coefficient.layer_decay_convention": ("coefficient.layer_decay", lambda config: _on(config, config.coefficient.layer_decay, _DECAYED), ("on",)),
    "anchor.ball_norm": ("anchor.ball", lambda config: _on(config, config.anchor.ball, ("ball",)), ("on",)),
    "anchor.ball_unit": ("anchor.ball", lambda config: _on(config, config.anchor.ball, ("ball",)), ("on",)),
    "after.ema_decay": ("after.candidates", lambda config: _asked(config, "ema"), ("ema",)),
    "after.swa_from": ("after.candidates", lambda config: _asked(config, "swa"), ("swa",)),
    "after.soup": ("after.candidates", lambda config: _asked(config, "uniform_soup", "greedy_soup"), ("uniform_soup", "greedy_soup")),
    "forgetting.path": ("data.source", lambda config: config.data.source, IMAGE_SOURCES),
    "forgetting.examples": ("forgetting.path", lambda config: "off" if config.forgetting.path is None else "on", ("on",)),
}
"""Keys that only some choices read: `key: (the key of the choice, the choice, who reads it)`."""

_DECAYED = ("layer_decay", "discriminative")


def _direction(config: Config) -> str:
    """The direction whose first moment is in question: a schedule-free run has the average in its place, weighed by beta1."""
    return "schedule_free" if config.optimizer.schedule_free else config.optimizer.name


def _on(config: Config, value: float | None, methods: tuple[str, ...]) -> str:
    """Whether a number is set, or will be by the method's recipe."""
    return "off" if value is None and config.method not in methods else "on"


def _asked(config: Config, *names: str) -> str:
    """The first of these candidates that is asked for, or what is asked for instead."""
    return next((name for name in names if name in config.after.candidates), ", ".join(config.after.candidates) or "empty")


def differences(old: Config, new: Config) -> list[str]:
    """One line for each key whose value differs: `optimizer.learning_rate: 0.1 -> 0.2`."""
    before = dict(keys(old))
    return [f"{key}: {before[key]!r} -> {value!r}" for key, value in keys(new) if before[key] != value]


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _hint(key: str) -> Any:
    """The declared type of a dotted key."""
    hint: Any = Config
    for part in key.split("."):
        if not dataclasses.is_dataclass(hint) or part not in _hints(typing.cast(type, hint)):
            raise ConfigError(f"unknown key --config.{key}; {_nearest_key(key)}")
        hint = _hints(typing.cast(type, hint))[part]
    if dataclasses.is_dataclass(hint):
        inner = [f"{key}.{name}" for name in _hints(typing.cast(type, hint))]
        raise ConfigError(f"--config.{key} is a group of keys; {did_you_mean(key, inner)}")
    return hint


_ELSEWHERE = {
    "lr": "optimizer.learning_rate",
    "wd": "optimizer.weight_decay",
    "epochs": "train.duration",
    "num_epochs": "train.duration",
    "steps": "train.duration",
    "max_steps": "train.duration",
    "bs": "train.batch_size",
    "dtype": "model.precision",
    "gradient_accumulation_steps": "train.microbatches",
}
"""What other tools call our keys."""


def _nearest_key(key: str) -> str:
    """The key that was meant: by another tool's name, then by spelling; beside it, the keys of the same section."""
    known = [name for name, _ in keys(Config())]
    section, _, last = key.rpartition(".")
    if last in _ELSEWHERE:
        return f"did you mean {_ELSEWHERE[last]!r}?"
    here = [name for name in known if section and name.startswith(f"{section}.")]
    return did_you_mean(key, known) if not here else f"{did_you_mean(key, known, show=0).split('allowed')[0]}{did_you_mean('', here, show=20)}"


def _build(cls: Any, mapping: Mapping[str, Any], prefix: str, where: str) -> Any:
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where}: {prefix.rstrip('.')} must be a group of keys, not {mapping!r}")
    hints = _hints(cls)
    for key in mapping:
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {prefix}{key}; {did_you_mean(key, hints)}")
    values = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if dataclasses.is_dataclass(hints[key]):
            values[key] = _build(hints[key], value, f"{name}.", where)
        else:
            values[key] = _check_range(name, _convert(value, hints[key], name, where), where)
    return cls(**values)


def _convert(value: Any, hint: Any, key: str, where: str) -> Any:
    """`value` as `hint`, without guessing: 1e3 is an int, 1 is a float, True is neither, lists are tuples."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _convert(value, option, key, where)
            except ConfigError:
                continue
    elif hint is type(None):
        if value is None:
            return None
    elif origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            raise ConfigError(f"{where}: {key}={value!r} is not a choice; {did_you_mean(value, map(str, arguments))}")
    elif origin is tuple and isinstance(value, (tuple, list)):
        many = len(arguments) == 2 and arguments[1] is Ellipsis
        if many or len(value) == len(arguments):
            inner = [arguments[0]] * len(value) if many else arguments
            return tuple(_convert(item, option, f"{key}[{i}]", where) for i, (item, option) in enumerate(zip(value, inner, strict=True)))
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint is int and isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer():
        return int(value)
    elif isinstance(hint, type) and hint not in (float, int) and isinstance(value, hint):
        return value
    literals = [option for option in _literals(hint) if isinstance(option, str)]
    nearest = f"; {did_you_mean(value, literals)}" if isinstance(value, str) and literals else ""
    if typing.get_origin(hint) is tuple and isinstance(value, str) and value in _literals(typing.get_args(hint)[0]):
        nearest = f"; for one write ({value!r},)"
    raise ConfigError(f"{where}: {key}={value!r} has the wrong type {type(value).__name__}; allowed: {_describe(hint)}{nearest}")


def _literals(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(value for option in typing.get_args(hint) for value in _literals(option))
    return ()


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in arguments)
    if origin is Literal:
        return ", ".join(map(repr, arguments))
    if origin is tuple:
        return "(" + ", ".join("..." if option is Ellipsis else _describe(option) for option in arguments) + ")"
    return "None" if hint is type(None) else hint.__name__


_POSITIVE = [
    "data.labels_per_class",
    "data.max_pixels",
    "data.workers",
    "optimizer.learning_rate",
    "optimizer.clip_norm",
    "optimizer.epsilon",
    "coefficient.layer_decay",
    "train.batch_size",
    "train.batch_tokens",
    "train.microbatches",
    "train.patience",
    *("text.max_length", "text.buckets", "task.temperature", "task.max_answer_length"),
    "train.max_bad_steps",
    "evaluation.batch_size",
    "evaluation.top_k",
    "evaluation.bootstrap",
    "mesh.fsdp",
    "mesh.tensor",
]
_NOT_NEGATIVE = [
    "seed",
    "data.cache_megabytes",
    "augment.brightness",
    "augment.contrast",
    "augment.neftune",
    "task.focal_gamma",
    "task.r_drop",
    "text.stride",
    "optimizer.weight_decay",
    "coefficient.head_factor",
    "report.thumbnails",
]
_FRACTION = [
    "data.validation_fraction",
    "data.test_fraction",
    "model.drop_path",
    "model.dropout",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.momentum",
    "task.label_smoothing",
    "evaluation.confidence",
]


def _check_range(key: str, value: Any, where: str) -> Any:
    """Refuse numbers that have the right type and no meaning."""
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: a finite number")
        if key in _POSITIVE and not value > 0:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: greater than 0")
        if key in _NOT_NEGATIVE and not value >= 0:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: 0 or greater")
        if key in _FRACTION and not 0 <= value < 1:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: from 0 up to, not including, 1")
        if key == "augment.crop_min_area" and not 0 < value <= 1:
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: greater than 0, at most 1")
        if key == "mesh.data" and not (value == -1 or value > 0):
            raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: -1 (all that are left) or a number of devices")
    if key == "model.image_size" and value is not None and min(value) < 1:
        raise ConfigError(f"{where}: {key}={value!r} is out of range; allowed: two positive numbers of pixels")
    return value


def _get_config(path: Path, *argument: str) -> Any:
    """What the `get_config` of a Python file returns; the file runs."""
    spec = importlib.util.spec_from_file_location(f"ftjax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file; allowed: a .py file with a function get_config")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} has no get_config; {did_you_mean('get_config', [name for name in vars(module) if not name.startswith('__')])}")
    return module.get_config(*argument)
