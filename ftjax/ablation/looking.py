"""Evaluation of populations: the records of every member on a split, by the measures that single runs use.

Where only the head trains, members are evaluated on the features that the frozen body gives the split, computed once for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from ftjax import coefficients, data
from ftjax.ablation.program import Spread, mapped
from ftjax.coefficients import combine
from ftjax.data import Split
from ftjax.evaluation.evaluator import pad
from ftjax.training.plan import Plan
from ftjax.training.state import TrainState
from ftjax.trees import Tree

Weights = Mapping[str, Tree]
"""`{"params", "batch_stats"}`."""


def weights_of(state: TrainState) -> dict[str, Tree]:
    """What is evaluated and kept of a state, or of the half of one: holes stay holes."""
    return {"params": combine(state.live, state.still), "batch_stats": state.extra["batch_stats"]}


class Looker:
    """Evaluates members; compiled once for each kind of batch.

    Args:
      plan: of the group.
      spread: the devices.
      together: members in one `vmap` on a device.
    """

    def __init__(self, plan: Plan, spread: Spread, together: int | None) -> None:
        self.plan, self.spread, self.together = plan, spread, together
        self._steps = {kind: self._compiled(kind) for kind in ("fields", "features")}
        self._evaluated = jax.jit(jax.vmap(self._averaged, in_axes=(0, 0)))

    def weights(self, own: TrainState, hyper: coefficients.Hyper) -> dict[str, Tree]:
        """The own half of what is evaluated: of a schedule-free run the running average."""
        if not self.plan.config.optimizer.schedule_free:
            return weights_of(own)
        return weights_of(own._replace(live=self._evaluated(own, hyper)))

    def records(self, own: Weights, shared: Weights, split: Split, features: np.ndarray | None, *, logits: bool = False) -> list[Any]:
        """The records of each member, every example exactly once.

        Args:
          own: weights of members, `[members ...]`.
          shared: what they have in common.
          split: whose examples.
          features: what the head sees of each of them, where the body has not moved; None: pictures or texts.
          logits: keep them, too.
        """
        step = self._steps["fields" if features is None else "features"]
        parts: list[dict[str, np.ndarray]] = []
        for batch in self._batches(split, features):
            found = step(own, shared, pad(batch, self.plan.evaluation_batch))
            parts.append({name: np.asarray(value) for name, value in found.items() if logits or name != "logits"})
        members = jax.tree.leaves(own)[0].shape[0]
        return [self.plan.measures.gather([{name: value[index] for name, value in part.items()} for part in parts], split) for index in range(members)]

    def _batches(self, split: Split, features: np.ndarray | None) -> Iterator[data.Batch]:
        if features is not None:
            split = dataclasses.replace(split, fields=lambda rows: {"features": features[rows]}, lengths=None)
        yield from data.eval_batches(split, self.plan.evaluation_batch)

    def _averaged(self, own: TrainState, hyper: coefficients.Hyper) -> Tree:
        return coefficients.evaluation_params(own.opt_state, own.live, hyper)

    def _compiled(self, kind: str) -> Any:
        def member(own: Weights, shared: Weights, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
            whole = combine(own, shared)
            params, extra = whole["params"], {"batch_stats": whole["batch_stats"]}
            outputs = self.plan.predict(params, extra, batch) if kind == "fields" else self.plan.model.head(params, batch["features"])
            return self.plan.measures.records(outputs, batch) | {"logits": outputs}

        def every(own: Weights, shared: Weights, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
            return mapped(lambda mine: member(mine, shared, batch), self.together, own)

        own, all_of_it = self.spread.by_member.spec, PartitionSpec()
        spread = jax.shard_map(every, mesh=self.spread.mesh, in_specs=(own, all_of_it, all_of_it), out_specs=own, check_vma=False)
        return jax.jit(spread)


def measured(plan: Plan, records: Sequence[Any]) -> list[dict[str, float]]:
    """What is looked at while training: the metric that chooses, and the log loss where the task has one."""
    wanted = [metric for metric in plan.measures.metrics if metric.name in (plan.metric.name, "log_loss")]
    return [{metric.name: metric(one) for metric in wanted} for one in records]
