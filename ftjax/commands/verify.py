"""What must be true before a run may call itself a success."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import trees
from ftjax.errors import TrainingFailed
from ftjax.evaluation import Records
from ftjax.training.fingerprint import fingerprint
from ftjax.training.plan import Plan
from ftjax.training.state import TrainState

CHECKED_BATCHES = 2
"""Batches of the test split that the reloaded artefact must answer as the trained model did."""


def fingerprints(state: TrainState) -> dict[str, str]:
    """The content of every still leaf, as 16 hexadecimal digits."""
    return {path: fingerprint(leaf) for path, leaf in trees.flatten(state.still).items()}


def moved_and_stayed(plan: Plan, state: TrainState, before: dict[str, str]) -> dict[str, float]:
    """Every parameter is finite, every live group moved, every still leaf is bit for bit what it was.

    Returns:
      |x| / |theta0| of each live group.

    Raises:
      TrainingFailed: naming the leaves or groups that broke the promise.
    """
    broken = [path for path, leaf in trees.flatten(state.params).items() if not bool(jnp.isfinite(leaf).all())]
    if broken:
        raise TrainingFailed(f"parameters are not finite after training: {_some(broken)}")
    changed = [path for path, print_ in fingerprints(state).items() if print_ != before[path]]
    if changed:
        raise TrainingFailed(f"frozen parameters changed: {_some(changed)}; the pretrained file may have changed since the run began")
    travelled = plan.by_depth(jax.device_get(plan.travel(state.live, state.extra["anchor"], state.extra["anchor"])))
    resting = [group for group, values in travelled.items() if float(values["travel"]) == 0.0]
    if resting:
        raise TrainingFailed(f"these groups should train and never moved: {_some(resting)}; see their coefficient and learning rate in coefficients.json")
    return {group: float(values["travel"]) for group, values in travelled.items()}


def same_logits(records: Records, again: Records, exact: bool) -> None:
    """The artefact, read back from disk, answers as the trained model did.

    Args:
      records: of the test split, with logits, from the trained parameters.
      again: of its first examples, from the artefact.
      exact: bit for bit (one device); otherwise to 1e-4, as several devices sum in another order.

    Raises:
      TrainingFailed: the largest difference, and how many predictions it flips.
    """
    if records.logits is None or again.logits is None:
        raise ValueError("both records need logits")
    expected = records.logits[: len(again)]
    if np.array_equal(expected, again.logits) or (not exact and np.allclose(expected, again.logits, atol=1e-4, rtol=1e-4)):
        return
    flipped = int(np.sum(records.prediction[: len(again)] != again.prediction))
    raise TrainingFailed(
        f"the exported model does not answer as the trained one: logits differ by up to {np.abs(expected - again.logits).max():.3g}, "
        f"{flipped} of {len(again)} predictions differ"
    )


def _some(names: list[str], show: int = 6) -> str:
    return ", ".join(names[:show]) + (f", ... ({len(names)} in all)" if len(names) > show else "")
