"""The verdict in one paragraph: which arm, by how much, how sure, at what cost, and whether fine-tuning beats training from scratch at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftjax.ablation.statistics import Comparison
from ftjax.evaluation import Metric

SURE = 0.05
"""A difference counts where Holm's adjusted p is below this."""


def verdict(
    best: Mapping[str, Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    metric: Metric,
    *,
    scratch: Sequence[str] = (),
    baselines: Mapping[str, float] | None = None,
) -> str:
    """A paragraph for people.

    Args:
      best: for each arm its chosen cell.
      comparisons: the leader against every other arm.
      metric: that decides.
      scratch: arms that train from random weights.
      baselines: test metric of what does not train (majority, the model as it came).
    """
    if not best:
        return "No arm has a result: every member diverged."
    title = metric.name.replace("_", " ")
    leader = leading(best, metric)
    cell = best[leader]
    seeds = len(cell["values"])
    said = [f"{leader} is first with {_number(cell['test'])} test {title} ({seeds} seed{'s' if seeds != 1 else ''}{_with(cell)})"]
    said[0] += "." if not comparisons else f", {_against(comparisons, title)}."
    if seeds < 3:
        said.append(f"With {seeds} seed{'s' if seeds != 1 else ''} this is an indication and no result.")
    said += _costs(leader, best)
    said += _scratch(leader, best, comparisons, scratch, metric)
    said += [f"{name[0].upper()}{name[1:]} reaches {value:.4f}." for name, value in (baselines or {}).items()]
    return " ".join(said)


def leading(best: Mapping[str, Mapping[str, Any]], metric: Metric) -> str:
    """The arm with the best mean on validation, which is where arms are chosen; its test result is then not the best of several."""
    sign = 1 if metric.higher_is_better else -1
    return max(best, key=lambda name: sign * best[name]["validation"]["value"])


def _against(comparisons: Sequence[Comparison], title: str) -> str:
    better = [one for one in comparisons if one.adjusted < SURE and _ahead(one)]
    worse = [one for one in comparisons if one.adjusted < SURE and not _ahead(one)]
    open_ones = [one for one in comparisons if one.adjusted >= SURE]
    parts = []
    if better:
        parts.append("better than " + _join([f"{one.other} by {_span(one)}" for one in better]))
    if open_ones:
        parts.append("not distinguishable from " + _join([f"{one.other} ({_span(one)})" for one in open_ones]))
    if worse:
        parts.append("and on the test examples worse than " + _join([f"{one.other} by {_span(one)}" for one in worse]))
    return "; ".join(parts) + " (95% intervals over seeds and examples, Holm-corrected)" if parts else f"with nothing to compare its {title} with"


def _ahead(one: Comparison) -> bool:
    return one.wins * 2 > one.seeds or (one.wins * 2 == one.seeds and one.difference > 0)


def _span(one: Comparison) -> str:
    return f"{one.difference:+.4f}, {one.low:+.4f} to {one.high:+.4f}"


def _with(cell: Mapping[str, Any]) -> str:
    tuned = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in cell["tuned"].items())
    return f"; {tuned}" if tuned else ""


def _costs(leader: str, best: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the leader trains, against the cheapest arm."""
    cell = best[leader]
    cheapest = min(best, key=lambda name: best[name]["seconds"] or 0.0)
    said = f"It trains {cell['live_parameters']:,} parameters in {cell['seconds']:.3g} s a member"
    if cheapest == leader or not best[cheapest]["seconds"]:
        return [f"{said}."]
    ratio = cell["seconds"] / best[cheapest]["seconds"]
    return [f"{said}, {ratio:.2g} times as long as {cheapest}, which reaches {_number(best[cheapest]['test'])}."]


def _scratch(leader: str, best: Mapping[str, Any], comparisons: Sequence[Comparison], scratch: Sequence[str], metric: Metric) -> list[str]:
    """Whether fine-tuning beats training from scratch."""
    known = [name for name in scratch if name in best]
    if not known:
        return []
    if leader in known:
        return ["Training from scratch did better than any fine-tuning here: the pretrained weights did not help."]
    against = [one for one in comparisons if one.other in known]
    beaten = [one for one in against if one.adjusted < SURE and _ahead(one)]
    if against and len(beaten) == len(against):
        return ["Fine-tuning beats training from scratch."]
    return ["Fine-tuning is not shown to beat training from scratch."]


def _number(interval: Mapping[str, float]) -> str:
    return f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f} over seeds)"


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
