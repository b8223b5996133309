"""From an ablation to its members: every arm with every trial for every seed.

Trials are the same for all arms (a multiple of the recipe's value is another number for each, and the same trial), so no arm gets more tries than another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np

from ftjax.ablation.spec import Ablation, Axis, Member, Range, Settings, all_arms, short, shown
from ftjax.errors import ConfigError


def members(ablation: Ablation) -> tuple[Member, ...]:
    """All members, numbered: arms outermost, then trials, then seeds.

    Raises:
      ConfigError: the grid is of ranges, or a search was asked for more trials than there are.
    """
    settings = trials(ablation)
    order = itertools.product(all_arms(ablation), enumerate(settings), ablation.seeds)
    return tuple(Member(number, arm.name, trial, seed, {**arm.settings, **tuned}, tuned) for number, (arm, (trial, tuned), seed) in enumerate(order))


def trials(ablation: Ablation) -> list[Settings]:
    """The settings of each trial; one without settings where nothing is tuned.

    Raises:
      ConfigError: see `members`.
    """
    search, axes = ablation.search, ablation.tune
    if search.kind == "grid":
        return _every(axes)
    if not axes:
        raise ConfigError(f"search {search.kind!r} has nothing to draw; name what is tuned with --tune KEY=VALUES")
    return [_drawn(axes, search.seed, trial) for trial in range(search.trials or 1)]


def combinations(ablation: Ablation) -> int | None:
    """How many different trials there are; None: a range has no number."""
    sizes = [None if isinstance(axis.values, Range) else len(axis.values) for axis in ablation.tune]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _every(axes: tuple[Axis, ...]) -> list[Settings]:
    for axis in axes:
        if isinstance(axis.values, Range):
            raise ConfigError(f"{axis.key}: a grid has no values in a range; name them, or search with --search random --trials N")
    return [dict(zip([axis.key for axis in axes], chosen)) for chosen in itertools.product(*(axis.values for axis in axes))]  # type: ignore[misc]


def _drawn(axes: tuple[Axis, ...], seed: int, trial: int) -> Settings:
    """Trial `trial` of a random search (Bergstra & Bengio 2012): a pure function of (axes, seed, trial), so more trials begin with the same ones."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, trial], np.uint64)))
    return {axis.key: at(axis, float(generator.random())) for axis in axes}


def at(axis: Axis, share: float) -> object:
    """The value at a share from 0 to 1 of an axis: log-uniform in a range, equally often each of its values."""
    if isinstance(axis.values, Range):
        return axis.values.at(share)
    return axis.values[min(int(share * len(axis.values)), len(axis.values) - 1)]


def label(settings: Mapping[str, object]) -> str:
    """`learning_rate=0.001, pull=0.1`."""
    return ", ".join(f"{short(key)}={shown(value)}" for key, value in settings.items()) or "as the recipe says"
