"""What the fine-tuned model has to beat, measured on the same test examples: the majority class, a linear probe, the same model from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ftjax import adapters, configuration
from ftjax.coefficients.after import NEEDS_PRETRAINED
from ftjax.config import AdapterConfig, Config
from ftjax.configuration import Origin, Resolved
from ftjax.evaluation import Baseline
from ftjax.training.plan import Plan
from ftjax.training.state import TrainState
from ftjax.trees import Tree

Scratch = Callable[[Resolved], Any]
"""Trains a configuration on the same data and returns the records of its test split; None: it failed, and has said so."""

REOPENED = (
    "model.batch_statistics",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "coefficient.rules",
    "coefficient.layer_decay",
    "coefficient.layer_decay_convention",
    "coefficient.unfreeze_every",
    "coefficient.auto",
    "coefficient.auto_every",
    "coefficient.head_factor",
    "coefficient.decay_rules",
    "anchor.rules",
    "anchor.pull",
    "anchor.ball",
    "anchor.ball_norm",
    "anchor.ball_unit",
    "anchor.select",
    "anchor.mixout",
    "forgetting.path",
    "forgetting.examples",
    *(f"adapter.{field.name}" for field in dataclasses.fields(AdapterConfig)),
)
"""Keys that mean something else, or nothing, for a random start: they go back to the schema's default, and the scratch recipe fills those that are
open. Data, batch size, duration and augmentation stay; so does the optimiser, and its schedule unless the method's recipe chose it."""


@dataclasses.dataclass(frozen=True)
class Before:
    """The model as it came, measured before step 0: `features` float32 `[n width]` per split, `records` of the test split with the kept head."""

    features: dict[str, np.ndarray] | None
    records: Any


@dataclasses.dataclass(frozen=True)
class Compared:
    """The baselines of result.json, and what to warn of."""

    baselines: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]


def before_training(plan: Plan, state: TrainState, statistics: Tree) -> Before:
    """What the configured baselines need of the model as it came.

    Args:
      plan: the run.
      state: of any step; it knows the parameters of step 0.
      statistics: batch statistics of step 0.
    """
    asked = plan.config.evaluation.baselines if plan.load is not None else ()
    params = adapters.without_prompts(state.theta0)
    probed = "probe" in asked and plan.measures.probes and plan.task.output == "sequence"
    features = {name: plan.features(params, statistics, name) for name in plan.dataset.splits} if probed else None
    answers = plan.keeps_head or plan.task.output == "embedding"
    records = plan.evaluate(params, statistics, "test", logits=True) if "pretrained" in asked and answers else None
    return Before(features, records)


def compare(plan: Plan, records: Any, before: Before, scratch: Scratch) -> Compared:
    """Measure the configured baselines on the test split, each with the paired difference to the model.

    Args:
      plan: the run.
      records: of the fine-tuned model on the test split.
      before: of `before_training`.
      scratch: trains the same model from random weights.
    """
    found: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for name in plan.config.evaluation.baselines:
        if name in ("probe", "scratch") and plan.load is None:
            warnings.append(f"baseline {name!r} was left out: this run starts from random weights itself")
            continue
        baseline = _baseline(name, plan, before, scratch)
        if baseline is not None:
            warnings += baseline.warnings
            found[name] = _measured(plan, records, baseline.records) | {"why": baseline.why}
    return Compared(found, tuple(warnings))


def _baseline(name: str, plan: Plan, before: Before, scratch: Scratch) -> Baseline | None:
    """One baseline on the test split; None: there is none of this name for the task, or it failed and has said so."""
    splits = plan.dataset.splits
    if name == "majority":
        return plan.measures.majority(splits["train"], splits["test"])
    if name == "item_knn":
        return plan.measures.neighbours(splits["train"], splits["test"])
    if name == "pretrained":
        return None if before.records is None else Baseline(before.records, "the pretrained model as it came, before any training here")
    if name == "probe":
        return None if before.features is None else plan.measures.probe(before.features, splits, plan.config.seed)
    theirs = scratch(from_scratch(plan.resolved, batch_statistics=bool(plan.stages[0].abstract.extra["batch_stats"])))
    why = "the same model from random weights: same data, batch size and steps, the learning rate of the scratch recipe"
    return None if theirs is None else Baseline(theirs, why)


def from_scratch(resolved: Resolved, *, batch_statistics: bool = False) -> Resolved:
    """The configuration of the same model from random weights, with the same budget and no baselines of its own.

    A model with batch norm must follow its statistics from a random start, which a schedule-free run cannot: its baseline decays the learning rate instead.
    """
    default = dict(configuration.keys(Config()))
    by_method = [key for key in ("optimizer.schedule",) if resolved.origins.get(key, ("default", ""))[0] == "recipe"]
    opened: dict[str, Any] = {key: default[key] for key in (*REOPENED, *by_method)} | {"model.head": "new"}
    # Averages and soups help a random start too; what goes back towards pretrained weights has nowhere to go.
    candidates = tuple(name for name in resolved.config.after.candidates if name not in NEEDS_PRETRAINED)
    if batch_statistics and resolved.config.optimizer.schedule_free:
        opened |= {key: default[key] for key in ("optimizer.schedule_free", "optimizer.schedule", "optimizer.beta1", "optimizer.momentum")}
    changed = opened | {"method": "scratch", "after.candidates": candidates, "evaluation.baselines": (), "report.tensorboard": False}
    config = configuration.replace(resolved.config, changed)
    origins: dict[str, tuple[Origin, str]] = dict.fromkeys(changed, ("recipe", "the scratch baseline of this run"))
    return Resolved(config, dict(resolved.origins) | origins)


def _measured(plan: Plan, records: Any, theirs: Any) -> dict[str, Any]:
    """Every metric of a baseline with its interval, and how far the model's main one is from it on the same examples."""
    config = plan.config.evaluation
    settings: dict[str, Any] = {"resamples": config.bootstrap, "confidence": config.confidence, "seed": plan.config.seed}
    return plan.measures.intervals(theirs, **settings) | {"difference": plan.measures.difference(records, theirs, plan.metric, **settings)}
