"""Reading, checking, overriding and writing the configuration, strictly, with the origin of every value.

`--config configs/x.py[:argument]` and `--config.key=value` follow ml_collections' config_flags, and `get_config` may return the typed `Config` or a
ConfigDict. Overrides are typed by the schema here: config_flags cannot set frozen dataclasses, refuses `1e3` for an int and misspelt keys get no hint.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import re
import traceback
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import ml_collections

from ftjax.config import Config
from ftjax.config_ranges import check_range
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
    loaded = call_in_file(path, "get_config", *path_and_argument.split(":", 1)[1:])
    if isinstance(loaded, ml_collections.ConfigDict):
        loaded = loaded.to_dict()
    if isinstance(loaded, Mapping):
        return from_mapping(loaded, str(path))
    if isinstance(loaded, Config):
        return from_mapping(to_mapping(loaded), str(path))
    raise ConfigError(f"{path}: get_config returned {type(loaded).__name__}; allowed: ftjax.config.Config or ml_collections.ConfigDict")


def call_in_file(path: Path, name: str, *argument: str) -> Any:
    """What the function `name` of a Python file returns; the file runs.

    Raises:
      ConfigError: whatever goes wrong in it, with the line.
    """
    try:
        return _called(path, name, *argument)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}{_line_in(path, error)}: {type(error).__name__}: {error}{_meant(error)}") from error


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


def _line_in(path: Path, error: Exception) -> str:
    """`, line 12`: the last line of this file that was running when the error came."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f", line {lines[-1]}" if lines else ""


def _meant(error: Exception) -> str:
    """The nearest key, where the error is a misspelt one in a section of the schema."""
    found = re.fullmatch(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'.*", str(error), re.DOTALL)
    sections = {"Config": ""} | {hint.__name__: f"{name}." for name, hint in _hints(Config).items() if dataclasses.is_dataclass(hint)}
    if not found or found[1] not in sections:
        return ""
    prefix = sections[found[1]]
    return f"; {_nearest_key(prefix + found[2]) if prefix else did_you_mean(found[2], _hints(Config), show=20)}"


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
            values[key] = check_range(name, _convert(value, hints[key], name, where), where)
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
    if isinstance(value, int) and not isinstance(value, bool) and _is_size(hint):
        nearest = f"; for a square write ({value}, {value})"
    raise ConfigError(f"{where}: {key}={value!r} has the wrong type {type(value).__name__}; allowed: {_describe(hint)}{nearest}")


def _is_size(hint: Any) -> bool:
    """Whether a value is a height and a width."""
    return (int, int) in [typing.get_args(option) for option in (hint, *typing.get_args(hint))]


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


def _called(path: Path, name: str, *argument: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"ftjax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file; allowed: a .py file with a function {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise ConfigError(f"{path} has no {name}; {did_you_mean(name, [known for known in vars(module) if not known.startswith('__')])}")
    return getattr(module, name)(*argument)
