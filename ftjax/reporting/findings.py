"""What was found besides the test metrics, as sentences that the terminal, the card and the page share: which weights were chosen, and what was forgotten.

Empty where it was not measured, or where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftjax.reporting import wording
from ftjax.reporting.record import listing, mapping

BEST = "best_checkpoint"


def candidates(after: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What competed after training, the best checkpoint first."""
    return [found for item in listing(after.get("candidates")) if (found := mapping(item))]


def chosen_by(found: Sequence[Mapping[str, Any]], main: str) -> str:
    """Name of the metric whose values the candidates are compared by: the `main` one unless their values are another's."""
    names = dict.fromkeys([main, *(str(name) for item in found for name in mapping(item.get("metrics")))])
    return next((name for name in names if all(mapping(item.get("metrics")).get(name) == item.get("value") for item in found)), main)


def chosen(after: Mapping[str, Any], main: str = "accuracy") -> str:
    """Which weights were taken instead of the best checkpoint, and what that gained on validation; empty where nothing competed with it.

    Args:
      after: content of after.json.
      main: name of the run's main metric.
    """
    name, found = after.get("chosen"), candidates(after)
    if name is None or (name == BEST and len(found) < 2):
        return ""
    if name == BEST:
        return f"Weights: the best checkpoint; none of {len(found) - 1} others was better on validation."
    values = {str(item.get("name")): item.get("value") for item in found}
    metric = chosen_by(found, main)
    gained = ""
    if wording.is_finite(values.get(str(name))) and wording.is_finite(values.get(BEST)):
        title = wording.in_sentence(wording.title(metric))
        gained = f" (validation {title} {wording.metric(metric, values[str(name)])} instead of {wording.metric(metric, values[BEST])})"
    return f"Weights: {wording.in_sentence(wording.candidate(name))} rather than the best checkpoint{gained}."


def forgetting(measured: Mapping[str, Any]) -> str:
    """What became of the source examples."""
    before, after = mapping(measured.get("before")), mapping(measured.get("after"))
    if not wording.is_number(after.get("source_divergence")):
        return ""
    number = measured.get("examples")
    examples = f"{wording.count(number)} source examples" if wording.is_number(number) else "the source examples"
    divergence = f"{wording.number(after['source_divergence'])} nats"
    if "source_accuracy" in after:
        told = f"accuracy on {examples} {wording.percent(before.get('source_accuracy'))} before, {wording.percent(after['source_accuracy'])} after"
        return f"Forgetting: {told}; divergence from the pretrained answers {divergence}."
    return f"Forgetting: on {examples} the answers diverge from the pretrained ones by {divergence}."
