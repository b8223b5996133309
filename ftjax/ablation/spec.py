"""What an ablation asks: which settings are compared, which are tuned for each of them, and over which seeds everything is repeated.

An *arm* is what is compared (a method, a force of the law); a *trial* is one setting of what is tuned, chosen for each arm on the validation split; a seed
repeats a trial with another start of new parameters, another order of the data and other random draws.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

from ftjax import configuration
from ftjax.config import Config
from ftjax.errors import ConfigError, did_you_mean

Settings = dict[str, Any]
"""`{"optimizer.learning_rate": 1e-3, ...}`: keys of the configuration, `coefficient:PATTERN`, or a `Times` of what the recipe would choose."""

RULE = "coefficient:"
"""`coefficient:group:stem` multiplies the rule of the coefficient table whose pattern is `group:stem`."""


@dataclasses.dataclass(frozen=True)
class Times:
    """A multiple of the value that the recipe fills in: the same grid for methods whose good learning rates differ."""

    factor: float

    def __str__(self) -> str:
        """As it is written: `x3`."""
        return f"x{self.factor:g}"


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers between two bounds, drawn log-uniformly by the searches; `times`: multiples of what the recipe fills in."""

    low: float
    high: float
    times: bool = False

    def at(self, share: float) -> float | Times:
        """low^(1 - share) * high^share."""
        value = float(f"{math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low))):.4g}")
        return Times(value) if self.times else value


@dataclasses.dataclass(frozen=True)
class Axis:
    """A key and what it is set to, in order; or a range for the searches that draw."""

    key: str
    values: tuple[Any, ...] | Range

    def __post_init__(self) -> None:
        if isinstance(self.values, tuple) and not self.values:
            raise ConfigError(f"{self.key}: an axis needs at least one value")
        if isinstance(self.values, tuple) and len(set(map(repr, self.values))) < len(self.values):
            raise ConfigError(f"{self.key}: a value is there twice; a setting that counts twice would look surer than it is")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """Settings that go together under one name."""

    name: str
    settings: Mapping[str, Any]
    extra_budget: str = ""
    """Why this arm may train on more or fewer examples than the others; empty: it may not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How trials of what is tuned are chosen. Every arm gets the same number of them."""

    kind: Literal["grid", "random", "halving"] = "grid"
    trials: int | None = None
    """How many; None: every combination (grid)."""
    seed: int = 0
    """Of the draws."""
    eta: int = 3
    """halving: one of so many goes on from rung to rung."""
    rungs: int = 3
    """halving: a trial is looked at after steps / eta^(rungs - 1), ..., steps / eta, and ends with steps."""

    def __post_init__(self) -> None:
        if self.kind != "grid" and (self.trials is None or self.trials < 1):
            raise ConfigError(f"search {self.kind!r} needs a number of trials, 1 or more: --trials N")
        if self.eta < 2 or self.rungs < 1:
            raise ConfigError(f"halving with eta={self.eta} and rungs={self.rungs}; allowed: eta 2 or more, rungs 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
    """The whole question; `configs/ablations/*.py` return one."""

    base: Config | None = None
    """What all arms have in common; None: given with `--config`."""
    compare: tuple[Axis, ...] = ()
    """Every combination of these is an arm."""
    arms: tuple[Arm, ...] = ()
    """Arms with names of their own; with `compare`, each of them at each combination."""
    tune: tuple[Axis, ...] = ()
    """Chosen for each arm on the validation split."""
    seeds: tuple[int, ...] = (0,)
    search: Search = dataclasses.field(default_factory=Search)
    budget: Literal["equal", "free"] = "equal"
    """equal: arms that see another number of examples, or other examples, are an error."""
    shifts: tuple[str, ...] = ()
    """Changed copies of the test pictures on which the chosen weights are tested too (`shifts.NAMES`)."""
    reference: str | None = None
    """The arm that others are compared with; None: the first one."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds={self.seeds}: at least one, and each of them once")
        keys = [axis.key for axis in (*self.compare, *self.tune)]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{key} is given twice; an axis is compared or tuned")
            check_key(key)
        for arm in self.arms:
            for key in arm.settings:
                check_key(key)
                if key in keys:
                    raise ConfigError(f"arm {arm.name!r} sets {key}, which is an axis already")
        named = [arm.name for arm in self.arms]
        if len(set(named)) < len(named):
            raise ConfigError(f"two arms have one name: {', '.join(sorted({name for name in named if named.count(name) > 1}))}")


@dataclasses.dataclass(frozen=True)
class Member:
    """One fine-tuning of a population."""

    number: int
    arm: str
    trial: int
    seed: int
    settings: Mapping[str, Any]
    """Those of the arm and of the trial."""
    tuned: Mapping[str, Any]
    """Those of the trial alone."""


def all_arms(ablation: Ablation) -> tuple[Arm, ...]:
    """The named arms at every combination of what is compared.

    Raises:
      ConfigError: an axis that is compared is a range.
    """
    for axis in ablation.compare:
        if isinstance(axis.values, Range):
            raise ConfigError(f"{axis.key}: a range is for what is tuned by a search; what is compared has values")
    combinations = [dict(zip([axis.key for axis in ablation.compare], chosen)) for chosen in itertools.product(*(axis.values for axis in ablation.compare))]  # type: ignore[misc]
    named = ablation.arms or (Arm(name="", settings={}),)
    made = []
    for arm, settings in itertools.product(named, combinations):
        said = ", ".join([*([arm.name] if arm.name else []), *(f"{short(key)}={shown(value)}" for key, value in settings.items())])
        made.append(Arm(name=said or "base", settings={**arm.settings, **settings}, extra_budget=arm.extra_budget))
    return tuple(made)


def check_key(key: str) -> None:
    """Refuse an axis that is no key of the configuration.

    Raises:
      ConfigError: with the nearest key.
    """
    if key == "seed":
        raise ConfigError("seeds repeat every trial and are no axis to compare or tune: --grid seed=0..7, or Ablation(seeds=...)")
    if key.startswith(RULE):
        return
    known = [name for name, _ in configuration.keys(Config())]
    if key not in known:
        raise ConfigError(f"unknown axis {key}; {did_you_mean(key, known)}")


def short(key: str) -> str:
    """The last part of a key, which names it well enough in a table."""
    return key if key.startswith(RULE) else key.rpartition(".")[2]


def shown(value: Any) -> str:
    """A value as a table writes it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
