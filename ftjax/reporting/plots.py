"""The curves of report.html, over the steps of a run: loss, validation metric, learning rate, travel and update of every group.

Each function takes records of metrics.jsonl and gives an SVG drawing, or nothing where the log has nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftjax.reporting import wording
from ftjax.reporting.charts import Format, Point, Series, line_chart
from ftjax.reporting.record import MainMetric

Records = Sequence[Mapping[str, Any]]

DEPTH = ((91, 91, 214), (38, 138, 190), (26, 156, 130), (111, 168, 40), (221, 150, 22))
"""Colours from the stem (indigo) to the head (amber): the order of viridis, but readable on white and on black; lightness rises with depth."""
LOG_RATIO = 30.0
"""A chart whose largest positive value exceeds its smallest by this factor is logarithmic."""


def depth_colour(place: int, total: int) -> str:
    """The colour of group `place` of `total`, in depth order, as `#rrggbb`."""
    position = place / max(1, total - 1) * (len(DEPTH) - 1)
    lower = min(int(position), len(DEPTH) - 2)
    share = position - lower
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(DEPTH[lower], DEPTH[lower + 1], strict=True))


def points(records: Records, split: str, name: str) -> list[Point]:
    """(step, value) of a logged metric; a repeated step keeps its last value."""
    found = {record["step"]: float(record[name]) for record in records if record.get("split") == split and wording.is_number(record.get(name))}
    return sorted(found.items())


def smoothed(values: Sequence[Point]) -> list[Point]:
    """A centred running mean over about a twentieth of the run; values that are not finite do not count and break nothing."""
    half = len(values) // 40
    result = []
    for index, (step, value) in enumerate(values):
        near = [other for _, other in values[max(0, index - half) : index + half + 1] if math.isfinite(other)]
        result.append((step, sum(near) / len(near) if near and math.isfinite(value) else math.nan))
    return result


def metric_names(records: Records, split: str) -> list[str]:
    """Names of the numbers logged for `split`, in order of appearance."""
    return list(
        dict.fromkeys(
            name for record in records if record.get("split") == split for name, value in record.items() if name != "step" and wording.is_number(value)
        )
    )


def loss_curves(records: Records, borders: Sequence[float] = ()) -> Markup:
    """Training loss (raw and smoothed) and validation loss."""
    train = points(records, "train", "loss")
    validation = points(records, "validation", "loss") or points(records, "validation", "log_loss")
    long = len(train) > 40
    series = [Series("training", train, "var(--blue)", width=1.2 if long else 2.0, opacity=0.35 if long else 1.0, labelled=not long)]
    if long:
        series.append(Series("training", smoothed(train), "var(--blue)", measured=False))
    series.append(Series("validation", validation, "var(--orange)"))
    return line_chart([line for line in series if line.points], "Training and validation loss over steps", log=_wide([*train, *validation]), borders=borders)


def validation_curve(records: Records, metric: MainMetric, best_step: Any = None, borders: Sequence[float] = ()) -> Markup:
    """A validation metric with its best step marked: the run's own, or else the best value's."""
    name = metric.name
    values = points(records, "validation", name)
    finite = [point for point in values if math.isfinite(point[1])]
    if not finite:
        return Markup("")
    chosen = dict(finite).get(best_step)
    step, value = (best_step, chosen) if chosen is not None else (max if metric.higher_is_better else min)(finite, key=lambda point: point[1])
    share = wording.is_share(name)
    mark = (float(step), value, f"best {wording.metric(name, value)} at step {wording.count(step)}")
    series = [Series("", values, "var(--orange)")]
    label = f"Validation {wording.in_sentence(wording.title(name))} over steps"
    if not share:
        return line_chart(series, label, mark=mark, borders=borders)
    ticks = percent_ticks([value for _, value in finite])
    return line_chart(series, label, form=wording.percent, ticks=ticks, floor=0.0, ceiling=1.0, mark=mark, borders=borders)


def learning_rate(records: Records) -> Markup:
    """The learning rate of every logged step."""
    values = points(records, "train", "learning_rate")
    return line_chart([Series("", values, "var(--blue)")], "Learning rate over steps", floor=0.0) if values else Markup("")


def groups_of(records: Records, what: str, order: Sequence[str] = ()) -> list[str]:
    """Groups whose `what` ("travel" or "update") was logged, in depth order where `order` knows them."""
    names = [name.removeprefix(f"{what}/") for name in metric_names(records, "travel") if name.startswith(f"{what}/")]
    known = [group for group in order if group in names]
    return known + [name for name in names if name not in known]


def per_group(records: Records, what: str, order: Sequence[str] = (), borders: Sequence[float] = ()) -> tuple[Markup, list[str]]:
    """One line per group, coloured by depth, and the groups that never moved (not drawn).

    Args:
      records: of metrics.jsonl; a group that starts to train later has its first value there.
      what: "travel", |x| / |theta0| of a group; "update", its relative change in a step; "cosine", of that change with the displacement before it.
      order: every group of the model from the stem to the head.
      borders: steps at which another phase of the run begins.
    """
    moving, still = {}, []
    for group in groups_of(records, what, order):
        values = points(records, "travel", f"{what}/{group}")
        if any(value != 0 for _, value in values):
            moving[group] = values
        else:
            still.append(group)
    places = [*order] if set(moving) <= set(order) else [*moving]
    stride = math.ceil(len(moving) / 16)
    series = [
        Series(group, values, depth_colour(places.index(group), len(places)), width=1.7, labelled=(len(moving) - 1 - index) % stride == 0)
        for index, (group, values) in enumerate(moving.items())
    ]
    if not series:
        return Markup(""), still
    label = f"{what.capitalize()} of every group over steps"
    if what == "cosine":
        return line_chart(series, label, floor=-1.0, ceiling=1.0, borders=borders, reference=(0.0, "")), still
    log = _wide([point for values in moving.values() for point in values])
    return line_chart(series, label, log=log, floor=None if log else 0.0, borders=borders), still


def _wide(values: Sequence[Point]) -> bool:
    """Whether the positive values span so much that a linear axis would hide most of them."""
    positive = [value for _, value in values if math.isfinite(value) and value > 0]
    return len(positive) > 1 and max(positive) / min(positive) > LOG_RATIO


def percent_ticks(values: Sequence[float]) -> Format:
    """How percentages on an axis are written: without decimals where they are far enough apart."""
    decimals = 0 if max(values) - min(values) > 0.03 else 1
    return lambda value: wording.percent(value, decimals)
