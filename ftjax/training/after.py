"""After training: make the weights that `config.after` asks for, measure all of them on the validation split, and choose.

The best checkpoint always competes and wins ties; between others the one measured first does. The curve "accuracy against distance from the pretrained
weights" is measured on the way, for every run that began from such weights. Everything here is a function of the checkpoints and the configuration, so a
run killed in between comes out the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ftjax.coefficients import after
from ftjax.training.checkpoint import Restored
from ftjax.training.plan import Plan
from ftjax.training.state import TrainState
from ftjax.trees import Tree

BEST = "best_checkpoint"


class Weights(TypedDict):
    """Everything that a model computes with."""

    params: Tree
    batch_stats: Tree


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Weights that were measured."""

    name: str
    """`best_checkpoint`, `ema`, `swa`, `wise_ft(0.5)`, `lines(0.5)`, `uniform_soup` or `greedy_soup`."""
    value: float
    """The validation metric that chooses."""
    distance: float | None
    """|theta - theta0| / |theta0| over the parameters that have a pretrained value; None: there are none."""
    metrics: dict[str, float]
    """Every metric of the validation split."""
    steps: tuple[int, ...] = ()
    """The checkpoints that a soup is made of, in the order in which they were added."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The weights that are tested and exported, and what they were chosen from."""

    name: str
    params: Tree
    batch_stats: Tree
    metrics: dict[str, float]
    """Of these weights, on the validation split."""
    candidates: tuple[Candidate, ...]
    """All that competed, the best checkpoint first."""
    curve: tuple[dict[str, float], ...]
    """Validation metric, and log loss where there is one, at shares `alpha` of the displacement from the pretrained body; empty without pretrained weights."""

    def to_json(self) -> dict[str, Any]:
        """The content of `after.json`."""
        return {"curve": list(self.curve), **self.summary()}

    def summary(self) -> dict[str, Any]:
        """What `result.json` says of it."""
        listed = [dataclasses.asdict(candidate) | {"steps": list(candidate.steps)} for candidate in self.candidates]
        return {"candidates": listed, "chosen": self.name}


def choose(plan: Plan, state: TrainState, best: Weights, statistics: Tree, kept: Sequence[Restored] = ()) -> Chosen:
    """The best on validation of the best checkpoint and of whatever else `config.after.candidates` asks for.

    Batch statistics of candidates are made as their parameters are: interpolated (they differ only where `model.batch_statistics` is "updated") or averaged
    over a soup; EMA and SWA take those of the last step. They are not measured again for the new weights, which costs batch-norm models some accuracy.

    Adapters are merged first: all candidates, and what is chosen, are plain arrays. An average (ema, swa) is merged of averaged factors.

    Args:
      plan: the run.
      state: after the last step; knows theta0 and the averages.
      best: weights of the best checkpoint.
      statistics: batch statistics of step 0.
      kept: weights kept for a soup, each with its validation metric in `info["metrics"]`.
    """
    contest = _Contest(plan, state, best, statistics)
    best, kept = contest.weights, [dataclasses.replace(found, tree=found.tree | {"params": plan.plain(found.tree["params"])}) for found in kept]
    curve = _curve(contest, best)
    for name in plan.config.after.candidates:
        if name in ("ema", "swa"):
            average = _average(state, name)
            contest.compete(name, {"params": plan.plain(average["params"]), "batch_stats": average["batch_stats"]})
        elif name == "lines" and contest.anchored:
            for scale in contest.alphas:
                contest.compete(f"lines({scale:g})", contest.lines(best, scale))
        elif name == "uniform_soup" and kept:
            contest.compete(name, after.uniform_soup(found.tree for found in kept), tuple(found.step for found in kept))
        elif name == "greedy_soup" and kept:
            soup, members = after.greedy_soup([found.tree for found in kept], [contest.score(found.info["metrics"]) for found in kept], contest.score_of)
            contest.compete(name, soup, tuple(kept[index].step for index in members))
    return Chosen(contest.leader.name, **contest.weights, metrics=contest.leader.metrics, candidates=tuple(contest.candidates), curve=curve)


class _Contest:
    """Measures one candidate after the other and holds on to the best; all of them go through the same compiled evaluation."""

    def __init__(self, plan: Plan, state: TrainState, best: Weights, statistics: Tree) -> None:
        self.plan = plan
        self.metric = plan.metric
        self.anchored = _pretrained(plan)
        # Distances and lines are of the arrays that adapters stand for: half of both factors is a quarter of their product.
        self.start: Weights = {"params": plan.plain(state.theta0), "batch_stats": statistics}
        self.alphas = [alpha for alpha in dict.fromkeys(plan.config.after.alphas) if alpha != 1]
        shares, group_of, anchored = after.depth_shares(plan.model.groups), plan.model.group_of, self.anchored
        self._wise_ft = _on_weights(lambda start, now, alpha: after.wise_ft(start, now, alpha, anchored))
        self._lines = _on_weights(lambda start, now, scale: after.lines(start, now, scale, lambda path: shares[group_of(path)], anchored))
        self._distance = jax.jit(lambda start, now: after.distance(start, now, anchored))
        self.weights: Weights = {"params": plan.plain(best["params"]), "batch_stats": best["batch_stats"]}
        self.leader = self.measure(BEST, self.weights)
        self.candidates = [self.leader]

    def compete(self, name: str, weights: Weights, steps: tuple[int, ...] = ()) -> Candidate:
        """Measure a candidate, and let it lead if it is better than all before."""
        weights = self._placed(weights)
        candidate = self.measure(name, weights, steps)
        self.candidates.append(candidate)
        if self.score(candidate.metrics) > self.score(self.leader.metrics):
            self.leader, self.weights = candidate, weights
        return candidate

    def measure(self, name: str, weights: Weights, steps: tuple[int, ...] = ()) -> Candidate:
        """One pass over the validation split."""
        weights = self._placed(weights)
        records = self.plan.evaluate(weights["params"], weights["batch_stats"], "validation")
        metrics = self.plan.measures.compute_all(records)
        distance = float(self._distance(self.start["params"], weights["params"])) if self.anchored else None
        return Candidate(name, metrics[self.metric.name], distance, metrics, steps)

    def score(self, metrics: dict[str, float]) -> float:
        """The metric that chooses, higher is better."""
        value = metrics[self.metric.name]
        return value if self.metric.higher_is_better else -value

    def score_of(self, weights: Weights) -> float:
        """`score` of weights that do not compete."""
        return self.score(self.measure("", weights).metrics)

    def wise_ft(self, weights: Weights, alpha: float) -> Weights:
        """theta0 + alpha * (theta - theta0)."""
        return self._wise_ft(self.start, weights, np.float32(alpha))

    def lines(self, weights: Weights, scale: float) -> Weights:
        """The same with shares that grow with depth, from `scale` to 1."""
        return self._lines(self.start, weights, np.float32(scale))

    def _placed(self, weights: Weights) -> Weights:
        """Where the best checkpoint lies, so that the evaluation is not compiled again."""
        return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), weights, self.weights)


def _curve(contest: _Contest, best: Weights) -> tuple[dict[str, float], ...]:
    """Metric against distance along the line through theta0 and the best checkpoint; its points compete if "wise_ft" is asked for."""
    if not contest.anchored:
        return ()
    found = {1.0: contest.leader}
    measure = contest.compete if "wise_ft" in contest.plan.config.after.candidates else contest.measure
    for alpha in contest.alphas:
        found[alpha] = measure(f"wise_ft({alpha:g})", contest.wise_ft(best, alpha))
    return tuple(
        {"alpha": alpha, "distance": point.distance or 0.0, contest.metric.name: point.value}
        | {name: point.metrics[name] for name in ("log_loss",) if name in point.metrics}
        for alpha, point in sorted(found.items())
    )


def _pretrained(plan: Plan) -> frozenset[str]:
    """Paths of the parameters and batch statistics that came from a file; none where only new units or inputs train, which nothing goes back from."""
    shaped = [row for row in plan.bound if row.kind != "Int8"]
    apart = bool(shaped) and not any(row.merges for row in shaped)
    return frozenset() if plan.load is None or apart else frozenset(row.target for row in plan.load.rows if row.action != "initialised")


def _average(state: TrainState, name: str) -> Weights:
    """An average of the weights in their own type, completed by what never trained."""
    average = state.extra["averages"][name]
    params = jax.tree.map(lambda mean, now: now if mean is None else mean.astype(now.dtype), average, state.params, is_leaf=lambda leaf: leaf is None)
    return {"params": params, "batch_stats": state.extra["batch_stats"]}


def _on_weights(function: Callable[[Tree, Tree, Float[Array, ""]], Tree]) -> Callable[[Weights, Weights, np.float32], Weights]:
    """A function of trees, compiled for parameters and batch statistics, which share their paths' rules."""

    def apply(start: Weights, now: Weights, share: Float[Array, ""]) -> Weights:
        # Beyond the trained weights a variance could become negative.
        statistics = function(start["batch_stats"], now["batch_stats"], jnp.minimum(share, 1))
        return {"params": function(start["params"], now["params"], share), "batch_stats": statistics}

    return jax.jit(apply)
