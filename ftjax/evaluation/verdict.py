"""Was it worth it? One honest paragraph from the main test metric and the paired differences to the baselines.

The intervals are about the choice of test examples; how much another training seed would change is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftjax.evaluation.metric import Metric
from ftjax.evaluation.metrics import Accuracy

NAMES = {
    "majority": "the majority class",
    "item_knn": "item-kNN",
    "pretrained": "the pretrained model as it came",
    "probe": "the linear probe",
    "scratch": "the same model from scratch",
}
RIVALS = ("item_knn", "pretrained", "probe", "scratch")
"""Baselines that are an alternative to fine-tuning; to beat the majority class only shows that something was learnt."""

_SMALL = 0.1

TITLES = {
    "ece": "calibration error",
    "entity_f1": "entity F1",
    "f1": "F1",
    "macro_auroc": "macro AUROC",
    "macro_f1": "macro F1",
    "mae": "mean absolute error",
    "mcc": "Matthews correlation",
    "micro_f1": "micro F1",
    "mrr": "mean reciprocal rank",
    "ndcg_at_10": "nDCG at 10",
    "pearson": "Pearson correlation",
    "r2": "R2",
    "rmse": "RMSE",
    "spearman": "Spearman correlation",
}
"""Metrics as a sentence names them; others are their name with spaces."""


def verdict(
    test: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, Any]],
    *,
    what: str = "Fine-tuning",
    metric: Metric | None = None,
    majority: str = NAMES["majority"],
) -> str:
    """Better where the whole interval of the difference is on the metric's good side of zero, worse where it is on the other, otherwise not distinguishable.

    Fine-tuning was worth it where it is better than every rival (probe, scratch) that was measured, and not where it is worse than one.

    Args:
      test: `{name of the metric: {"value", "low", "high"}}`.
      baselines: by name, each with `"difference"`: the metric of the model minus the baseline's, `{"value", "low", "high"}` (`intervals.paired_difference`).
        One without it was not measured and is not spoken of.
      what: the subject of the first sentence.
      metric: the main one; None: accuracy.
      majority: what the baseline is that does not look at its input (`Measures.majority_name`).
    """
    metric = metric or Accuracy()
    names = NAMES | {"majority": majority}
    differences = {name: baselines[name]["difference"] for name in NAMES if "difference" in baselines.get(name, {})}
    # Of a value of a few hundredths, two decimals would leave one digit.
    least = 4 if abs(test[metric.name]["value"]) < _SMALL else 2
    reached = f"{what} reached {_span(test[metric.name], least)} test {TITLES.get(metric.name, metric.name.replace('_', ' '))}"
    if not differences:
        return f"{reached}. No baseline was measured beside it, so whether it was worth it is not known."
    told = _join([_compared(names[name], difference, least) for name, difference in differences.items()])
    signs = {name: _sign(difference) * (1 if metric.higher_is_better else -1) for name, difference in differences.items()}
    # Of an error, less is better, which not every reader of the numbers has in mind.
    return f"{reached}{'' if metric.higher_is_better else ' (lower is better)'}, {told}{_conclusion(signs)}"


def _conclusion(signs: Mapping[str, int]) -> str:
    """From 1 (better), -1 (worse) or 0 (not distinguishable) for every baseline."""
    rivals = {name: sign for name, sign in signs.items() if name in RIVALS}
    lost = [NAMES[name] for name, sign in rivals.items() if sign < 0]
    drawn = [NAMES[name] for name, sign in rivals.items() if sign == 0]
    if signs.get("majority", 1) <= 0:
        return ": it has not been shown to learn anything."
    if lost:
        return f": it was not worth it, {_join(lost)} did better."
    if drawn:
        return ": it is not shown to be worth it."
    if rivals:
        return ": it was worth it."
    return ": it learnt something. Neither a linear probe nor the same model from scratch was measured, so whether it was worth it is not known."


def _sign(difference: Mapping[str, float]) -> int:
    """1: above zero, -1: below, 0: the interval holds zero."""
    return int(difference["low"] > 0) - int(difference["high"] < 0)


def _compared(name: str, difference: Mapping[str, float], least: int) -> str:
    sign = _sign(difference)
    if sign > 0:
        return f"{_span(difference, least)} above {name}"
    if sign < 0:
        return f"{_span({'value': -difference['value'], 'low': -difference['high'], 'high': -difference['low']}, least)} below {name}"
    return f"not distinguishable from {name} (a difference of {_span(difference, least, signed=True)})"


def _span(interval: Mapping[str, float], least: int, *, signed: bool = False) -> str:
    value, low, high = (_number(interval[key], least, signed=signed) for key in ("value", "low", "high"))
    return f"{value}, {low} to {high}" if signed else f"{value} ({low} to {high})"


def _number(value: float, least: int, *, signed: bool = False) -> str:
    """`least` decimals; more where they would make a 0 or a 1 of something that is not."""
    digits = next((digits for digits in (2, 3) if round(value, digits) not in (-1, 0, 1)), 4)
    digits = max(least, 2 if value in (-1, 0, 1) else digits)
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
