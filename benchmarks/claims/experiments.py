"""Who is trained on what: the target data of an experiment, its arms, and the held-out sets that every arm is measured on.

Validation comes from the target's own distribution and alone picks learning rates; the other sets are only reported.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np

from benchmarks.claims import arms, digits, population
from benchmarks.claims.arms import Arm
from benchmarks.claims.digits import Digits
from ftjax import trees
from ftjax.trees import Tree

STEPS, BATCH = 300, 32
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Peak learning rates, the same for every arm."""
SPAN = RATES[:4]
"""The rates that "averaged over learning rates" means. Above them plain fine-tuning is destroyed, and an average with that would flatter every method."""
ALPHAS = (0.0, 0.25, 0.5, 0.75)
"""Shares of the displacement on WiSE-FT's curve, besides all of it."""

Set = tuple[str, str]
"""`(source, shift)`: one of the two sets of digits, seen under one shift."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """One target task."""

    name: str
    arms: tuple[Arm, ...]
    labels: int
    """Training examples."""
    target: Set = ("sklearn", "clean")
    head: Literal["new", "kept"] = "new"
    renamed: bool = False
    """Whether the classes are permuted: a shift of the labels."""
    shifted: tuple[tuple[str, tuple[Set, ...]], ...] = ()
    """Further measurements: mean accuracy over test sets the training data did not show."""
    curve: bool = False
    """Whether WiSE-FT's curve is measured."""


MADE = tuple(("sklearn", shift) for shift in digits.KNOWN if shift != "clean")
NATURAL = (("mnist", "clean"),)
OUTSIDE = (("ood", MADE), ("natural", NATURAL))
WHERE = (arms.FULL, arms.FIRST, arms.LAST)

SHIFT = Experiment(
    name="shift",
    labels=100,
    shifted=OUTSIDE,
    arms=(
        arms.FULL,
        arms.OTHER_ORDER,
        arms.DECAY,
        arms.TENTH,
        arms.PROBE,
        arms.LP_FT,
        arms.LAYER_DECAY,
        arms.L2_SP,
        arms.BALL,
        arms.SPD,
    ),
)
EXPERIMENTS = (
    SHIFT,
    Experiment(name="labels_20", labels=20, shifted=OUTSIDE, arms=(arms.FULL, arms.SCRATCH, arms.PROBE, arms.LP_FT, arms.LAYER_DECAY, arms.L2_SP)),
    Experiment(name="labels_60", labels=60, arms=(arms.FULL, arms.SCRATCH)),
    Experiment(name="labels_200", labels=200, arms=(arms.FULL, arms.SCRATCH)),
    Experiment(name="labels_600", labels=600, arms=(arms.FULL, arms.SCRATCH)),
    Experiment(name="pixels", labels=60, target=("mnist", "scrambled"), head="kept", arms=WHERE),
    Experiment(name="noise", labels=60, target=("mnist", "noisy"), head="kept", arms=WHERE),
    Experiment(name="writers", labels=60, target=("sklearn", "clean"), head="kept", arms=WHERE),
    Experiment(name="renamed", labels=60, target=("mnist", "clean"), head="kept", renamed=True, arms=WHERE),
    Experiment(
        name="wise",
        labels=300,
        target=("sklearn", "noisy"),
        head="kept",
        curve=True,
        shifted=(("kept", tuple(("mnist", shift) for shift in digits.KNOWN)),),
        arms=(arms.FULL,),
    ),
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """An experiment's data for a number of seeds."""

    seeds: population.Seeds
    sets: dict[str, tuple[Digits, ...]]
    """Held-out sets by measurement, leaves `[seeds rows ...]`."""


def prepare(experiment: Experiment, pretrained: Tree, seeds: int) -> Prepared:
    """Draw every seed's subset, head, order of the data and test sets."""
    scratch = population.initial(seeds, salt=1)
    start = pretrained if experiment.head == "kept" else pretrained | {"head": scratch["head"]}
    train = _stack([digits.few(_part(experiment, seed, "train"), experiment.labels, seed) for seed in range(seeds)])
    room = ((0, 0), (0, digits.POOL - experiment.labels))
    images, labels = np.pad(train.images, (*room, (0, 0), (0, 0))), np.pad(train.labels, room)  # one shape, one program
    orders = population.orders(seeds, experiment.labels, STEPS, BATCH)
    sets: dict[str, tuple[Digits, ...]] = {}
    for name, part in (("validation", "validation"), ("id", "test")):
        sets[name] = (_stack([_part(experiment, seed, part) for seed in range(seeds)]),)
    for name, members in experiment.shifted:
        sets[name] = tuple(_stack([_test(seed, source, shift) for seed in range(seeds)]) for source, shift in members)
    return Prepared(population.Seeds({"pretrained": start, "scratch": scratch}, images, labels, orders), sets)


def measure(people: population.Population, experiment: Experiment, arm: Arm, prepared: Prepared, rates: tuple[float, ...]) -> dict[str, list[list[float]]]:
    """Train one arm at every learning rate for every seed: `{measurement: [rate][seed]}`, accuracies in percent."""
    trained = people.train([(arm, rate) for rate in rates], prepared.seeds)
    starts = prepared.seeds.starts[arm.start]
    shape = (len(rates), -1)
    found = {"travel": np.asarray(trained.travel).reshape(shape), "bad_steps": np.asarray(trained.bad_steps).reshape(shape)}
    for alpha in (1.0, *(ALPHAS if experiment.curve else ())):
        suffix = "" if alpha == 1 else f"@{alpha:g}"
        for name, members in prepared.sets.items():
            found[name + suffix] = np.mean([people.evaluate(trained.params, starts, alpha, one) for one in members], axis=0)
    if experiment.curve:
        found |= _at_best(found, tuple(prepared.sets))
    return {name: [[round(float(value), 5) for value in row] for row in values] for name, values in found.items()}


def _at_best(found: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """`@best`: the measurements where validation likes the curve's interior best, for each rate and seed."""
    inside = ALPHAS[1:]
    choice = np.argmax(np.stack([found[f"validation@{alpha:g}"] for alpha in inside]), axis=0)[None]
    return {f"{name}@best": np.take_along_axis(np.stack([found[f"{name}@{alpha:g}"] for alpha in inside]), choice, axis=0)[0] for name in names}


def identity(people: population.Population, prepared: Prepared, rates: tuple[float, ...]) -> list[list[float]]:
    """Largest difference of any parameter after the whole run between c = 0.1 on the body, and a tenth of the rate with ten times the head: `[rate][seed]`.

    Biases of attention's keys are left out. Softmax ignores them, so their gradient is nothing but rounding, which Adam makes as large as any other.
    """
    ends = [people.train([(arm, rate) for rate in rates], prepared.seeds).params for arm in (arms.TENTH, arms.TENTH_BY_RATE)]
    one, other = map(trees.flatten, ends)
    apart = [jnp.max(jnp.abs(one[path] - other[path]), axis=tuple(range(1, one[path].ndim))) for path in one if not path.endswith("key/bias")]
    return np.max(np.stack(apart), axis=0).reshape(len(rates), -1).tolist()


def _part(experiment: Experiment, seed: int, part: str) -> Digits:
    source, shift = experiment.target
    found = digits.shifted(getattr(digits.divide(seed), source)[part], shift)
    if not experiment.renamed:
        return found
    names = np.random.default_rng([seed, 5]).permutation(digits.CLASSES).astype(np.int32)
    return Digits(found.images, names[found.labels])


def _test(seed: int, source: str, shift: str) -> Digits:
    return digits.shifted(getattr(digits.divide(seed), source)["test"], shift)


def _stack(parts: list[Digits]) -> Digits:
    return Digits(np.stack([part.images for part in parts]), np.stack([part.labels for part in parts]))
