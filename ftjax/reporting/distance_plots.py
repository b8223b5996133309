"""Drawings of how far a run went: accuracy against distance from the pretrained weights, and what was forgotten on the way.

Like `plots.py`: values in, an SVG drawing out, nothing where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftjax.reporting import wording
from ftjax.reporting.charts import HEIGHT, LETTER, WIDTH, Point, Scale, Series, fit, grid, line_chart, svg, tag, tick_text
from ftjax.reporting.plots import Records, percent_ticks, points

OWN = ("alpha", "distance", "log_loss")
"""Keys of the curve that are not the metric that chooses, unless it is the log loss itself."""


def curve_metric(curve: Sequence[Mapping[str, Any]]) -> str:
    """Name of the metric that a curve follows."""
    return next((name for name in (curve[0] if curve else ()) if name not in OWN), "log_loss")


def drawable(curve: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The points with a distance and a value, nearest first; none where no pretrained parameter has moved."""
    name = curve_metric(curve)
    kept = [point for point in curve if all(wording.is_finite(point.get(key)) for key in ("alpha", "distance", name))]
    return sorted(kept, key=lambda point: point["distance"]) if any(point["distance"] > 0 for point in kept) else []


def distance_curve(curve: Sequence[Mapping[str, Any]], candidates: Sequence[Mapping[str, Any]], chosen: Any) -> Markup:
    """The validation metric against |theta - theta0| / |theta0|, along the line from the pretrained weights through the best checkpoint.

    Args:
      curve: `{"alpha", "distance", <metric>, ...}` of after.json; the points are labelled by alpha, their share of the displacement.
      candidates: `{"name", "value", "distance"}` of whatever competed.
      chosen: name of the candidate that is exported: it gets a ring.
    """
    name, line = curve_metric(curve), drawable(curve)
    if not line:
        return Markup("")
    on_line = {(point["distance"], point[name]) for point in line}
    placed = [found for found in candidates if wording.is_finite(found.get("distance")) and wording.is_finite(found.get("value"))]
    others = [found for found in placed if (found["distance"], found["value"]) not in on_line and found.get("name") != chosen]
    share = wording.is_share(name)
    heights = [*(point[name] for point in line), *(found["value"] for found in placed)]
    y = fit(heights, HEIGHT - 42, 26, floor=0.0 if share else None, ceiling=1.0 if share else None)
    ticks = percent_ticks(heights) if share else tick_text
    left = 14 + LETTER * max(len(ticks(value)) for value in y.ticks() or [0.0])
    x = Scale(0.0, 1.04 * max(point["distance"] for point in [*line, *placed]), left, WIDTH - 14)
    drawn = grid(x, y, ticks, "distance from the pretrained weights", tick_text)
    coordinates = "L".join(f"{x(point['distance']):.2f} {y(point[name]):.2f}" for point in line)
    drawn.append(tag("path", d=f"M{coordinates}", fill="none", stroke="var(--orange)", stroke_width=2.0, stroke_linejoin="round"))
    drawn += [part for found in others for part in _candidate(found, name, x, y)]
    drawn += [part for point in line for part in _alpha(point, name, x, y)]
    drawn += [part for found in placed if found.get("name") == chosen for part in _chosen(found, name, x, y)]
    return svg(WIDTH, HEIGHT, f"Validation {wording.in_sentence(wording.title(name))} against distance from the pretrained weights", *drawn)


def _alpha(point: Mapping[str, Any], name: str, x: Scale, y: Scale) -> list[Markup]:
    across, up = x(point["distance"]), y(point[name])
    alpha = wording.setting(point["alpha"])
    said = f"{alpha} of the displacement, distance {wording.number(point['distance'])}: {wording.metric(name, point[name])}"
    return [
        tag("circle", tag("title", said), cx=across, cy=up, r=3.2, class_="point"),
        tag("text", alpha, x=across, y=up - 11, class_="label ink", text_anchor="middle"),
    ]


def _candidate(found: Mapping[str, Any], name: str, x: Scale, y: Scale) -> list[Markup]:
    said = f"{wording.candidate(found.get('name'))}, distance {wording.number(found['distance'])}: {wording.metric(name, found['value'])}"
    return [tag("circle", tag("title", said), cx=x(found["distance"]), cy=y(found["value"]), r=3.4, class_="candidate")]


def _chosen(found: Mapping[str, Any], name: str, x: Scale, y: Scale) -> list[Markup]:
    """A ring, a thin line down to its distance, and its text at the foot of that line, on the side with room."""
    across, up = x(found["distance"]), y(found["value"])
    on_right = across < (x.start + x.stop) / 2
    text = f"chosen: {wording.in_sentence(wording.candidate(found.get('name')))}, {wording.metric(name, found['value'])}"
    return [
        tag("line", x1=across, x2=across, y1=up + 7, y2=y.start, class_="mark"),
        tag("circle", tag("title", text), cx=across, cy=up, r=6.5, fill="none", stroke="var(--ink)", stroke_width=2.0),
        tag("text", text, x=across + (8 if on_right else -8), y=y.start - 10, class_="note", text_anchor="start" if on_right else "end"),
    ]


def peak(curve: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of the displacement at which the metric is best, the largest on ties."""
    name, line = curve_metric(curve), drawable(curve)
    if not line:
        return None
    sign = -1 if wording.lower_is_better(name) else 1
    return max(line, key=lambda point: (sign * point[name], point["alpha"]))["alpha"]


def source_accuracy(records: Records, borders: Sequence[float] = ()) -> Markup:
    """Accuracy on the source examples over steps, beside what it was before training."""
    values = points(records, "source", "source_accuracy")
    if not values:
        return Markup("")
    start = _start(values)
    ticks = percent_ticks([value for _, value in values if math.isfinite(value)] or [0.0])
    reference = None if start is None else (start, f"pretrained {wording.percent(start)}")
    settings: dict[str, Any] = {"form": wording.percent, "ticks": ticks, "floor": 0.0, "ceiling": 1.0}
    return line_chart([Series("", values, "var(--green)")], "Source accuracy over steps", reference=reference, borders=borders, **settings)


def source_loss(records: Records, borders: Sequence[float] = ()) -> Markup:
    """Loss on the source examples and divergence from the pretrained answers over steps; without labels they differ by a constant, and the first says it."""
    loss, divergence = points(records, "source", "source_loss"), points(records, "source", "source_divergence")
    lines = [Series("loss", loss, "var(--blue)"), Series("divergence", divergence, "var(--red)")]
    shown = [line for line in lines if line.points]
    start = _start(loss)
    reference = None if start is None else (start, f"pretrained {wording.metric('loss', start)}")
    return line_chart(shown, "Source loss and divergence over steps", floor=0.0, reference=reference, borders=borders) if shown else Markup("")


def _start(values: Sequence[Point]) -> float | None:
    """The value at step 0, if it was measured."""
    return values[0][1] if values and values[0][0] == 0 and math.isfinite(values[0][1]) else None
