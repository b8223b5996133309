"""The whole story of an ablation: decide, check the budget, train population after population, judge, write.

The same call on the same folder goes on where it was killed, and only judges anew where everything is trained.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import ftjax
from ftjax import configuration, data, evaluation, files
from ftjax.ablation import budget, grid, grouping, judging, results, scaling, shifts, statistics
from ftjax.ablation.grouping import Group
from ftjax.ablation.parts import run_group
from ftjax.ablation.results import Question
from ftjax.ablation.running import Edges, Options
from ftjax.ablation.spec import Ablation, Arm, Member, all_arms
from ftjax.configuration import Resolved
from ftjax.errors import CheckpointError, ConfigError
from ftjax.evaluation.intervals import metric_intervals
from ftjax.training.plan import Plan

VERSIONS = ("jax", "flax", "optax", "numpy", "scipy")


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """An ablation, decided and not yet trained."""

    ablation: Ablation
    base: Resolved
    members: tuple[Member, ...]
    groups: list[Group]
    budgets: Mapping[str, Any]

    @property
    def plan(self) -> Plan:
        """Of the first group: tests and metrics are the same for all."""
        return self.groups[0].plan


def prepare(ablation: Ablation, base: Resolved, *, cache: Path | None = None, progress: data.Progress | None = None) -> Prepared:
    """Everything that is decided before anything is trained.

    Raises:
      FtjaxError: what cannot be used, or budgets that differ.
    """
    shifts.check(ablation.shifts)
    members = grid.members(ablation)
    groups = grouping.groups(base, members, cache=cache, progress=progress)
    for name in ablation.shifts:
        shifts.shifted(groups[0].plan.dataset.splits["test"], name)
    if ablation.reference is not None and ablation.reference not in {arm.name for arm in all_arms(ablation)}:
        raise ConfigError(f"reference {ablation.reference!r} is no arm; arms: {', '.join(repr(arm.name) for arm in all_arms(ablation))}")
    return Prepared(ablation, base, members, groups, budget.check_equal(ablation, groups))


def train(prepared: Prepared, folder: Path, options: Options, edges: Edges, only: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Every member's result, group after group.

    Args:
      prepared: what to train.
      folder: of the ablation.
      options: how populations run.
      edges: where they meet the world.
      only: numbers of the groups to train; the results are then those of these alone.

    Raises:
      Stopped: asked to stop; everything is saved.
    """
    refuse_other(prepared, folder)
    found = []
    for group in prepared.groups:
        if only is None or group.number in only:
            with lock(folder / "groups" / group.name):
                found += run_group(group, options, edges)
    return sorted(found, key=lambda one: one["member"])


def judge(prepared: Prepared, folder: Path, members: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """The content of ablation.json."""
    plan, ablation = prepared.plan, prepared.ablation
    settings = plan.config.evaluation
    question = Question(plan.metric, ablation.reference, max(settings.bootstrap, 2000), settings.confidence, prepared.base.config.seed)
    read = functools.partial(_read, folder, _places(prepared))
    table = results.cells(members, question, read, ablation.shifts)
    best = results.chosen(table, plan.metric)
    measured = results.arms(members, best, question, read)
    scratch = [arm for arm in best if _method(prepared, arm) == "scratch"]
    leader = judging.leading(best, plan.metric) if best else None
    against = [] if leader is None else _against(measured, leader, plan, question)
    reference = ablation.reference or next(iter(measured), None)
    compared = statistics.compare(measured, plan.metric, reference, confidence=question.confidence, seed=question.seed) if reference in measured else []
    untrained = _untrained(prepared)
    return {
        "metric": {"name": plan.metric.name, "higher_is_better": plan.metric.higher_is_better},
        "arms": [_arm(arm) for arm in all_arms(ablation)],
        "seeds": list(ablation.seeds),
        "shifts": list(ablation.shifts),
        "search": dataclasses.asdict(ablation.search),
        "budget": {"rule": ablation.budget, "arms": prepared.budgets},
        "examples": {name: len(split) for name, split in plan.dataset.splits.items()},
        "groups": [_group(group) for group in prepared.groups],
        "cells": table,
        "chosen": {name: cell["trial"] for name, cell in best.items()},
        "insensitivity": results.insensitivity(table, plan.metric),
        "reference": reference,
        "comparisons": [one.to_json() for one in compared],
        "leader": {"arm": leader, "against": [one.to_json() for one in against]},
        "scaling": scaling.curves(best, plan.metric),
        "untrained": untrained,
        "verdict": judging.verdict(best, against, plan.metric, scratch=scratch, baselines={name: found["value"] for name, found in untrained.items()}),
        "diverged": [one["member"] for one in members if one["status"] == "diverged"],
        "members": list(members),
        "config": configuration.to_mapping(prepared.base.config),
        "data": {"source": plan.config.data.source, "fingerprint": plan.dataset.report["fingerprint"]},
        "seconds": seconds,
        "devices": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        "versions": {"ftjax": ftjax.__version__} | {name: importlib.metadata.version(name) for name in VERSIONS} | {"python": platform.python_version()},
    }


def _untrained(prepared: Prepared) -> dict[str, Any]:
    """What answers without any training: the majority class, and the model as it came where its head is kept; the main metric with its interval."""
    plan, split = prepared.plan, prepared.plan.dataset.splits
    settings = plan.config.evaluation
    found = {}
    majority = plan.measures.majority(split["train"], split["test"])
    if majority is not None:
        found[plan.measures.majority_name] = majority.records
    kept = next((group for group in prepared.groups if group.plan.load is not None and group.plan.keeps_head), None)
    if kept is not None:
        found["the pretrained model as it came"] = kept.plan.evaluate(kept.state.theta0, kept.state.extra["batch_stats"], "test")
    arguments = {"resamples": settings.bootstrap, "confidence": settings.confidence, "seed": prepared.base.config.seed}
    return {name: metric_intervals(records, [plan.metric], **arguments)[plan.metric.name] for name, records in found.items()}


def _arm(arm: Arm) -> dict[str, Any]:
    return {"name": arm.name, "settings": {key: str(value) for key, value in arm.settings.items()}, "extra_budget": arm.extra_budget}


def _group(group: Group) -> dict[str, Any]:
    return {"number": group.number, "members": [one.member.number for one in group.members], "method": group.plan.config.method}


def _against(measured: Mapping[str, statistics.Measured], leader: str, plan: Plan, question: Question) -> list[statistics.Comparison]:
    """The leader against each of the others, so that a positive difference is the leader's."""
    others = [name for name in measured if name != leader]
    found = [
        statistics.paired(leader, measured[leader], name, measured[name], plan.metric, confidence=question.confidence, seed=question.seed) for name in others
    ]
    return [dataclasses.replace(one, adjusted=p) for one, p in zip(found, statistics.holm([one.p for one in found]))]


def _method(prepared: Prepared, arm: str) -> str:
    return next(group.plan.config.method for group in prepared.groups for one in group.members if one.member.arm == arm)


def _places(prepared: Prepared) -> dict[int, str]:
    """The folder of each member's group."""
    return {one.member.number: group.name for group in prepared.groups for one in group.members}


def _read(folder: Path, places: Mapping[int, str], member: int, split: str) -> Any:
    """Records that a population has kept."""
    name = f"{member:04d}.npz" if split == "test" else f"{member:04d}-{split}.npz"
    return evaluation.read_records(next((folder / "groups" / places[member]).glob(f"part_*/records/{name}")))


def refuse_other(prepared: Prepared, folder: Path) -> None:
    """A folder belongs to one ablation.

    Raises:
      CheckpointError: it holds another one.
    """
    path = folder / "request.json"
    request = {
        "config": configuration.to_mapping(prepared.base.config),
        "members": [[one.arm, one.trial, one.seed, {key: str(value) for key, value in one.settings.items()}] for one in prepared.members],
        "shifts": list(prepared.ablation.shifts),
        "search": dataclasses.asdict(prepared.ablation.search),
    }
    if path.exists():
        before = files.read_json(path)
        differing = [name for name in request if _plain(before.get(name)) != _plain(request[name])]
        if differing:
            raise CheckpointError(f"{folder} holds an ablation with other {' and '.join(differing)}; use another --workdir")
        return
    files.write_json(path, request)


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One process at a time trains a group; the lock goes with the process, however that ends.

    Raises:
      CheckpointError: another one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(f"another process is training into {folder}; wait for it, end it, or use another --workdir") from error
        yield


def seconds_of(members: Sequence[Mapping[str, Any]], began: float) -> float:
    """Wall clock that all members took together, over all processes; at least that of this one."""
    return max(sum(sum(one["seconds"].values()) for one in members), time.perf_counter() - began)
