"""The long part: every unit (one arm of one experiment, at all learning rates, for all seeds) is measured once and kept on disk.

A unit's file is named by a hash of all it depends on, so a run that was stopped goes on where it was, and a change of the code starts afresh.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

import ftjax
from benchmarks.claims import arms, experiments, population, pretraining, statements
from benchmarks.claims.arms import Arm
from benchmarks.claims.experiments import EXPERIMENTS, STEPS, Experiment, Prepared
from benchmarks.claims.statements import Claim
from ftjax import files

IDENTITY, PRETRAINED = "identity", "pretrained"
"""Units that are no arm of an experiment: the control that c = 0.1 is a tenth of the learning rate, and the accuracy before fine-tuning."""

Tell = Callable[[str], None]
Unit = dict[str, Any]


def run(claims: Iterable[Claim], seeds: int, cache: Path, rates: tuple[float, ...], tell: Tell) -> dict[str, Any]:
    """Measure what the claims need and judge them: the content of `claims.json`.

    Args:
      claims: what to judge.
      seeds: replicates, each with its own pretraining.
      cache: folder that keeps what is measured.
      rates: peak learning rates of every arm.
      tell: is given a line of progress at a time.

    Raises:
      AssertionError: the arms did not share one program.
    """
    claims = tuple(claims)
    units = _measure_all(_needed(claims), seeds, cache, rates, tell)
    start_scores, apart = units.pop(PRETRAINED), units.pop(IDENTITY, None)
    values = {name: unit["values"] for name, unit in units.items()}
    return {
        "settings": settings(seeds, rates) | {"pretrained": start_scores["values"]},
        "seconds": round(sum(unit["seconds"] for unit in (start_scores, *units.values(), *([apart] if apart else []))), 1),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "optax", "flax", "numpy")} | {"ftjax": ftjax.__version__},
        "processor": _processor(),
        "claims": [judged(claim, values, rates) for claim in claims],
        "identity": None if apart is None else max(map(max, apart["values"])),
        "units": {name: {"seconds": unit["seconds"], **statements.summary(unit["values"])} for name, unit in units.items()},
    }


def _needed(claims: Iterable[Claim]) -> dict[Experiment, list[str]]:
    """The units that the claims are about, by experiment; the identity where its arm is measured anyway."""
    wanted = {unit for claim in claims for unit in statements.needs(claim)}
    named = {experiment: [arm.name for arm in experiment.arms if f"{experiment.name}/{arm.name}" in wanted] for experiment in EXPERIMENTS}
    return {experiment: names for experiment, names in named.items() if names}


def _measure_all(needed: dict[Experiment, list[str]], seeds: int, cache: Path, rates: tuple[float, ...], tell: Tell) -> dict[str, Unit]:
    """Every unit by its name, and the pretraining's accuracies."""
    key, people = _key(seeds, rates), population.Population(STEPS)
    tell(f"pretraining {seeds} models, unless they are in {cache}")
    start = pretraining.pretrained(seeds, cache)
    tell(f"pretrained to {start.scores.mean():.1f} % in {start.seconds:.0f} s")
    units: dict[str, Unit] = {PRETRAINED: {"seconds": start.seconds, "values": [round(float(x), 2) for x in start.scores.mean(axis=1)]}}
    total = sum(map(len, needed.values()))
    for experiment, names in needed.items():
        prepared = functools.cache(functools.partial(experiments.prepare, experiment, start.params, seeds))
        for arm in (arm for arm in experiment.arms if arm.name in names):
            name = f"{experiment.name}/{arm.name}"
            units[name] = _once(cache / key, name, functools.partial(_measure, people, experiment, arm, prepared, rates))
            tell(f"{len(units) - 1} of {total}  {name}  {units[name]['seconds']:.0f} s")
        if arms.TENTH.name in names:
            units[IDENTITY] = _once(cache / key, IDENTITY, lambda prepared=prepared: experiments.identity(people, prepared(), rates))
            total += 1
            tell(f"{len(units) - 1} of {total}  {IDENTITY}  {units[IDENTITY]['seconds']:.0f} s")
    if people.traces["train"] > 1:
        raise AssertionError(f"the arms do not share one program: it was traced {people.traces['train']} times")
    return units


def _measure(people: population.Population, experiment: Experiment, arm: Arm, prepared: Callable[[], Prepared], rates: tuple[float, ...]) -> Any:
    return experiments.measure(people, experiment, arm, prepared(), rates)


def judged(claim: Claim, values: statements.Measured, rates: tuple[float, ...]) -> dict[str, Any]:
    """A claim with its statements, for JSON."""
    said = [
        {
            "reading": one.reading,
            "verdict": one.verdict,
            "at_least": one.at_least,
            "mean": round(one.effect.mean, 3),
            "se": round(one.effect.se, 3),
            "t": round(max(min(one.effect.t, 999.0), -999.0), 2),
            "n": one.effect.n,
            "positive": one.effect.positive,
        }
        for one in statements.judge(claim, values, rates)
    ]
    facts = {"name": claim.name, "paper": claim.paper, "says": claim.says, "kind": claim.kind, "control": claim.control}
    return facts | {"over": list(claim.over), "statements": said}


def _once(folder: Path, name: str, measure: Callable[[], Any]) -> Unit:
    """`{"seconds", "values"}` of a unit, from disk where it was measured before."""
    path = folder / f"{name.replace('/', '-')}.json"
    if path.exists():
        return files.read_json(path)
    began = time.perf_counter()
    values = measure()
    unit = {"seconds": round(time.perf_counter() - began, 1), "values": values}
    files.write_json(path, unit)
    return unit


def settings(seeds: int, rates: tuple[float, ...]) -> dict[str, Any]:
    """What was run, for the record."""
    spec = population.MODEL
    return {
        "seeds": seeds,
        "rates": list(rates),
        "averaged_over": [rate for rate in experiments.SPAN if rate in rates],
        "steps": STEPS,
        "batch": experiments.BATCH,
        "pretraining_steps": pretraining.STEPS,
        "model": {"family": spec.family, **spec.options},
        "parameters": sum(row.parameters for row in population.Population(STEPS).table.rows),
        "experiments": [_described(experiment) for experiment in EXPERIMENTS],
        "arms": {arm.name: _differences(arm) for experiment in EXPERIMENTS for arm in experiment.arms},
    }


def _differences(arm: Arm) -> dict[str, Any]:
    """What the arm changes in full fine-tuning."""
    return {name: value for name, value in dataclasses.asdict(arm).items() if name != "name" and value != getattr(arms.FULL, name)}


def _described(experiment: Experiment) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "labels": experiment.labels,
        "target": " ".join(experiment.target) + (", classes renamed" if experiment.renamed else ""),
        "head": experiment.head,
        "arms": [arm.name for arm in experiment.arms],
    }


def _key(seeds: int, rates: tuple[float, ...]) -> str:
    """Of everything a unit depends on: data, settings, JAX, and the code of the law and of these experiments."""
    package = Path(inspect.getfile(ftjax)).parent
    rooms = [path for room in ("coefficients", "models", "tasks") for path in sorted((package / room).glob("*.py"))]
    rooms += [package / "training" / "step.py", package / "training" / "state.py"]
    here = [Path(inspect.getfile(module)) for module in (population, pretraining, experiments, arms, experiments.digits)]
    facts = (experiments.digits.fingerprint(), jax.__version__, importlib.metadata.version("optax"), seeds, rates)
    return hashlib.sha256(repr(facts).encode() + b"".join(path.read_bytes() for path in (*rooms, *here))).hexdigest()[:16]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name or platform.machine()}, {len(jax.devices())} devices of {jax.default_backend()}"
