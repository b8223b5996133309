"""Ablations as they are written: `--grid KEY=VALUES` and `--tune KEY=VALUES` on the command line, and files that return an `Ablation`.

seed=0..7                                    whole numbers, both ends included
optimizer.learning_rate=1e-4,3e-4,1e-3       these values
optimizer.learning_rate=x0.3,x1,x3           multiples of what the recipe fills in, for each method its own
optimizer.learning_rate=1e-5..1e-2           a range, drawn log-uniformly by the searches; also x0.1..x10
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ftjax import configuration
from ftjax.ablation.spec import RULE, Ablation, Axis, Range, Times, check_key
from ftjax.config import Config
from ftjax.errors import ConfigError, did_you_mean

_NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_SPAN = re.compile(rf"(x?)({_NUMBER}?)\.\.(x?)({_NUMBER})")
_FORMS = "KEY=1e-4,1e-3 or KEY=0..7 or KEY=x0.3,x1,x3 or KEY=1e-5..1e-2"


def parse_axis(text: str) -> Axis:
    """An axis from `KEY=VALUES`.

    Raises:
      ConfigError: no such form, no such key, or a value of the wrong type.
    """
    key, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise ConfigError(f"{text!r} is no axis; write {_FORMS}")
    key = key.strip().removeprefix("config.")
    if key != "seed":
        check_key(key)
    span = _SPAN.fullmatch(values.strip())
    return Axis(key, _spanned(key, span) if span else tuple(_value(key, item) for item in _items(values)))


def parse_seeds(axis: Axis) -> tuple[int, ...]:
    """The seeds of an axis `seed`.

    Raises:
      ConfigError: a seed that is no whole number of 0 or more.
    """
    values = axis.values if isinstance(axis.values, tuple) else ()
    if not values or any(isinstance(value, bool) or not isinstance(value, int) or value < 0 for value in values):
        raise ConfigError("seed: allowed are whole numbers of 0 or more, such as seed=0..7 or seed=0,3,5")
    return values


def load_ablation(path_and_argument: str) -> Ablation:
    """What the `get_ablation` of a Python file returns. This runs the file: it is code, open only what you trust.

    Args:
      path_and_argument: `configs/ablations/x.py`, or `configs/ablations/x.py:text`, where `text` is handed to `get_ablation`.

    Raises:
      ConfigError: the file is missing, has no `get_ablation`, or returns something else.
    """
    path = Path(path_and_argument.split(":", 1)[0])
    if not path.is_file():
        siblings = [str(file) for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"no file {path}; {did_you_mean(str(path), siblings)}")
    found = configuration.call_in_file(path, "get_ablation", *path_and_argument.split(":", 1)[1:])
    if not isinstance(found, Ablation):
        raise ConfigError(f"{path}: get_ablation returned {type(found).__name__}; allowed: ftjax.ablation.Ablation")
    return found


def _spanned(key: str, span: re.Match[str]) -> tuple[Any, ...] | Range:
    times, low, also, high = span.groups()
    if (times or "") != (also or ""):
        raise ConfigError(f"{key}: {span[0]!r} has an x at one end only; write x0.1..x10 for multiples of the recipe's value")
    if low.lstrip("+-").isdigit() and high.lstrip("+-").isdigit() and not times:
        if int(high) < int(low):
            raise ConfigError(f"{key}: {span[0]!r} goes down; write the smaller number first")
        return tuple(range(int(low), int(high) + 1))
    bounds = Range(float(low), float(high), bool(times))
    if not 0 < bounds.low < bounds.high:
        raise ConfigError(f"{key}: {span[0]!r} is drawn log-uniformly; both ends must be above 0, the smaller one first")
    return bounds


def _value(key: str, text: str) -> Any:
    multiple = re.fullmatch(rf"x({_NUMBER})", text)
    if multiple:
        return Times(float(multiple[1]))
    if key.startswith(RULE):
        return _number(key, text)
    checked = configuration.replace(Config(), {key: configuration.parse_text(key, text)})
    return dict(configuration.keys(checked))[key]


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{key}: {text!r} is not a number") from None


def _items(text: str) -> list[str]:
    """Split at the commas that are in no bracket or quotes."""
    items, depth, quote = [""], 0, ""
    for letter in text:
        quote = "" if letter == quote else letter if letter in "\"'" and not quote else quote
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items if item.strip()]
