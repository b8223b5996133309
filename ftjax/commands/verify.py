"""What must be true before a run may call itself a success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import coefficients, trees
from ftjax.errors import TrainingFailed
from ftjax.training.after import Weights
from ftjax.training.fingerprint import fingerprint
from ftjax.training.plan import Plan
from ftjax.training.state import TrainState
from ftjax.trees import Tree

CHECKED_BATCHES = 2
"""Batches of the test split that the reloaded artefact must answer as the trained model did."""


def fingerprints(plan: Plan, state: TrainState) -> dict[str, str]:
    """The content of everything that must not change: leaves that no phase trains, and batch statistics that are frozen."""
    still = {path: leaf for path, leaf in trees.flatten(state.still).items() if path not in plan.table.live_paths}
    if plan.config.model.batch_statistics == "frozen":
        still |= trees.flatten(state.extra["batch_stats"])
    return {path: fingerprint(leaf) for path, leaf in still.items()}


def moved_and_stayed(plan: Plan, state: TrainState, before: dict[str, str]) -> dict[str, float]:
    """Every parameter is finite, every group that should have moved did, everything frozen is bit for bit what it was.

    Returns:
      |x| / |theta0| of each live group.

    Raises:
      TrainingFailed: naming the leaves or groups that broke the promise.
    """
    finite(state.params, state.extra["batch_stats"], "after training")
    changed = [path for path, content in fingerprints(plan, state).items() if content != before[path]]
    if changed:
        raise TrainingFailed(f"frozen parameters changed: {_some(changed)}; the pretrained file may have changed since the run began")
    travelled = plan.by_depth(jax.device_get(plan.travel(state, state.extra["anchor"])))
    resting = [group for group in _due(plan, int(state.step)) if float(travelled[group]["travel"]) == 0.0]
    if resting:
        raise TrainingFailed(f"these groups should train and never moved: {_some(resting)}; see their coefficient and learning rate in coefficients.json")
    return {group: float(values["travel"]) for group, values in travelled.items()}


def finite(params: Tree, batch_stats: Tree, what: str) -> None:
    """Every number is one.

    Raises:
      TrainingFailed: naming the leaves that are not finite.
    """
    variables = trees.flatten(params) | trees.flatten(batch_stats)
    broken = [path for path, leaf in variables.items() if not bool(jnp.isfinite(leaf).all())]
    if broken:
        raise TrainingFailed(f"parameters are not finite {what}: {_some(broken)}")


def _due(plan: Plan, steps: int) -> list[str]:
    """Groups with a parameter whose coefficient was above 0 at some step that was executed; a schedule may begin later than an early stop."""
    executed = jnp.arange(max(steps, 1))
    due = {row.group for row in plan.table.rows if row.live and bool(np.any(np.asarray(coefficients.coefficient(row, executed, plan.hyper)) > 0))}
    return [group for group in plan.model.groups if group in due]


def same_answers(plan: Plan, expected: Sequence[np.ndarray], again: Sequence[np.ndarray]) -> None:
    """The artefact, read back from disk, answers as the trained model did.

    Bit for bit on one device. Several devices sum in another order, so there the logits may differ by rounding: by 1e-3 of the largest one in float32, by
    5e-2 of it in bfloat16.

    Args:
      plan: the run.
      expected: outputs `[batch ...]` of the trained parameters for the first test batches.
      again: of the artefact, for the same batches.

    Raises:
      TrainingFailed: the largest difference, and how many answers it flips.
    """
    allowed = 0.0 if plan.mesh.size == 1 else _ROUNDING[plan.config.model.precision] * max(float(np.abs(outputs).max()) for outputs in expected)
    difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in zip(expected, again, strict=True))
    if difference <= allowed:
        return
    flipped = sum(int(np.sum(ours.argmax(axis=-1) != theirs.argmax(axis=-1))) for ours, theirs in zip(expected, again, strict=True))
    raise TrainingFailed(
        f"the exported model does not answer as the trained one: logits differ by up to {difference:.3g} (allowed {allowed:.3g}), "
        f"{flipped} of {sum(outputs[..., 0].size for outputs in expected)} predictions differ"
    )


_ROUNDING = {"float32": 1e-3, "bfloat16": 5e-2}
"""Share of the largest logit by which two computations of the same may differ."""


def merged(plan: Plan, weights: Weights) -> dict[str, Any]:
    """Merged adapters answer as the adapters do, on every validation example.

    A merged weight is rounded once to float32, and sums run in another order: the outputs may differ by 1e-3 of the largest one in float32, by 5e-2 of it
    in bfloat16, whose operands are the rounded merged weight on one side and the rounded weight and factors on the other.

    Returns:
      `{"largest_difference", "allowed", "flipped", "answers"}`: of outputs (log-probabilities of tokens), and the answers that are others.

    Raises:
      TrainingFailed: the outputs differ by more than is allowed.
    """
    extra, plain = {"batch_stats": weights["batch_stats"]}, plan.plain(weights["params"])
    parts = [plan.evaluator.parts(params, extra, plan.eval_batches("validation"), logits=True) for params in (weights["params"], plain)]
    difference = largest = 0.0
    flipped = answers = 0
    for ours, theirs in zip(*parts, strict=True):
        rows = np.resize(ours["weight"] > 0, len(ours["logits"]))
        one, other = ours["logits"][rows], theirs["logits"][rows]
        changed = one.argmax(axis=-1) != other.argmax(axis=-1)
        if plan.task.output == "next_token":  # of a token the log-probability, and whether no other was more likely
            changed, one, other = one[..., 1] != other[..., 1], one[..., 0], other[..., 0]
        # np.maximum, unlike max, keeps what is not a number.
        difference, largest = float(np.maximum(difference, np.abs(one - other).max())), max(largest, float(np.abs(one).max()))
        flipped, answers = flipped + int(np.sum(changed)), answers + changed.size
    allowed = _ROUNDING[plan.config.model.precision] * largest
    if not difference <= allowed:
        raise TrainingFailed(
            f"merging the adapters changes the outputs by up to {difference:.3g} (allowed {allowed:.3g}), and {flipped} of {answers} answers; "
            "nothing is exported. Train in model.precision='float32'"
        )
    return {"largest_difference": difference, "allowed": allowed, "flipped": flipped, "answers": answers}


def same_weights(written: Mapping[str, np.ndarray], read: Mapping[str, np.ndarray]) -> None:
    """The file holds exactly the arrays that were chosen.

    Raises:
      TrainingFailed: naming those that differ.
    """
    wrong = sorted(written.keys() ^ read.keys()) + [path for path in written if path in read and fingerprint(written[path]) != fingerprint(read[path])]
    if wrong:
        raise TrainingFailed(f"the exported weights are not those that were trained: {_some(wrong)}")


def _some(names: list[str], show: int = 6) -> str:
    return ", ".join(names[:show]) + (f", ... ({len(names)} in all)" if len(names) > show else "")
