"""Successive halving inside a population: trials that fall behind give up their slots, and those who wait move in.

    rungs at r, r eta, r eta^2, ..., T = r eta^(rungs - 1) steps

A trial that reaches a rung goes on if it is among the best 1 / eta of its arm's trials that have reached it so far, and stops otherwise (the stopping rule of
ASHA, Li et al. 2020, arXiv 1810.05934; at least the best one always goes on). All slots take r steps a round, so what happens is a function of the seeds
alone, not of who is fast. A trial's seeds share its fate: they are judged by their mean, and move in and out together.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.ablation.grouping import Filled
from ftjax.ablation.kit import Kit
from ftjax.ablation.population import Population
from ftjax.ablation.running import Edges, Stopped, opened, results
from ftjax.ablation.spec import Search
from ftjax.errors import ConfigError
from ftjax.training.plan import Plan

Key = tuple[str, int]
"""(arm, trial)."""


@dataclasses.dataclass
class Standing:
    """Where the search is; JSON."""

    waiting: list[list[int]]
    """Members of the trials that have no slot yet, in order."""
    blocks: list[list[int]]
    """Members in each block of slots; empty: nobody is left for it."""
    scores: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    """By arm and rung, what its trials had when they reached it, in order of arrival."""
    done: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Results of the members that have left."""
    rounds: int = 0


def rung_steps(plan: Plan, search: Search) -> int:
    """Steps r of a round.

    Raises:
      ConfigError: the run cannot be cut so, or has several stages, whose members cannot be at different steps.
    """
    if len(plan.stages) > 1:
        several = f"method {plan.config.method!r} has {len(plan.stages)} stages"
        raise ConfigError(f"halving refills slots, so members are at different steps, and {several}; use a grid or a random search")
    parts = search.eta ** (search.rungs - 1)
    if plan.steps % parts:
        near = max(plan.steps // parts, 1) * parts
        cut = f"a run of {plan.steps} steps has no rungs at whole steps with eta={search.eta} and rungs={search.rungs}"
        raise ConfigError(f"{cut}; set train.duration to {near} steps")
    return plan.steps // parts


def goes_on(scores: Sequence[float], eta: int) -> bool:
    """Whether the last of these scores (higher is better) is among the best 1 / eta of them, or the best; on a tie the one that came first is.

    >>> [goes_on(scores, 3) for scores in ([0.5], [0.5, 0.4], [0.5, 0.4, 0.3, 0.2, 0.1, 0.45])]
    [True, False, True]
    """
    places = max(1, len(scores) // eta)
    return sum(other >= scores[-1] for other in scores[:-1]) < places


def run_search(kit: Kit, search: Search, slots: int, folder: Path, edges: Edges) -> list[dict[str, Any]]:
    """Every trial of a group, each as far as it gets.

    Args:
      kit: of the group.
      search: eta and rungs.
      slots: at once, at least as many as there are seeds.
      folder: of the group's part.
      edges: where the search meets the world.

    Raises:
      Stopped: asked to stop; everything is saved.
      ConfigError: see `rung_steps`; or the seeds of one trial do not fit.
    """
    round_steps = rung_steps(kit.plan, search)
    by_number = {one.member.number: one for one in kit.group.members}
    trials = _trials(kit.group.members)
    size = len(trials[0])
    if slots < size:
        raise ConfigError(f"the {size} seeds of a trial stay together and {slots} members fit at once; use fewer seeds, or allow more --memory")
    blocks = min(slots // size, len(trials))
    standing = Standing(waiting=trials[blocks:], blocks=trials[:blocks])
    population = Population(kit, [by_number[number] for block in standing.blocks for number in block], slots)
    with opened(kit, population, folder, edges, by_number) as (store, info):
        if info is not None:
            standing = Standing(**json.loads(info["halving"]))
        while any(standing.blocks):
            population.advance(round_steps)
            population.look()
            standing.rounds += 1
            _settle(population, standing, search, round_steps, folder, edges, by_number)
            edges.tell(f"round {standing.rounds}: {len(standing.done)} of {len(by_number)} members are done, {sum(map(len, standing.waiting))} wait")
            store.save(standing.rounds, population.tree, population.info | {"halving": json.dumps(dataclasses.asdict(standing))})
            if edges.stop.is_set() and any(standing.blocks):
                raise Stopped
    return sorted(standing.done, key=lambda one: one["member"])


def _trials(members: Sequence[Filled]) -> list[list[int]]:
    """Members of each trial: first all arms' first trials, so that no arm waits for another."""
    found: dict[Key, list[int]] = {}
    for one in members:
        found.setdefault((one.member.arm, one.member.trial), []).append(one.member.number)
    return [found[key] for key in sorted(found, key=lambda key: key[1])]


def _settle(population: Population, standing: Standing, search: Search, round_steps: int, folder: Path, edges: Edges, by_number: dict[int, Filled]) -> None:
    """After a round: who has come to a rung goes on, stops or is finished; free blocks are filled from those who wait."""
    last, size = population.plan.steps, max(map(len, standing.blocks))
    rungs = [round_steps * search.eta**rung for rung in range(search.rungs)]
    for block, members in enumerate(standing.blocks):
        place = range(block * size, (block + 1) * size)
        step = population.steps[place[0]]
        if not members or step not in rungs or (step < last and _promoted(population, standing, search, place, step)):
            continue
        left = results(population, folder, edges, place)
        standing.done += [one | {"status": "stopped" if step < last and one["status"] == "ok" else one["status"]} for one in left]
        standing.blocks[block] = standing.waiting.pop(0) if standing.waiting else []
        if standing.blocks[block]:
            population.refill(list(place), [by_number[number] for number in standing.blocks[block]])
        else:
            population.rest(place)


def _promoted(population: Population, standing: Standing, search: Search, place: range, step: int) -> bool:
    """Note what a trial has at a rung; whether it goes on."""
    sign = 1 if population.plan.metric.higher_is_better else -1
    values = [population.progress[slot].best_value for slot in place]
    known = [sign * value for value in values if value is not None]
    score = float(np.mean(known)) if len(known) == len(values) else -1e30
    scores = standing.scores.setdefault(f"{population.filled[place[0]].member.arm} at {step}", [])
    scores.append(score)
    return score > -1e30 and goes_on(scores, search.eta)
