"""The other drawings of report.html: reliability diagram, classes of each split, coefficients.

Like `plots.py`: values in, an SVG drawing out, nothing where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ftjax.reporting import wording
from ftjax.reporting.charts import LETTER, WIDTH, Scale, svg, tag, tick_text
from ftjax.reporting.plots import depth_colour

NAMED_CLASSES = 40
SPLITS = {"train": "var(--blue)", "validation": "var(--orange)", "test": "var(--green)"}


def short(name: object, most: int = 16) -> str:
    """A name cut to `most` letters in its middle: what tells names apart is often their end."""
    text = wording.printable(name)
    tail = most // 2 - 1
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[-tail:]}"


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> Markup:
    """How often predictions of each confidence are right; a calibrated model lies on the diagonal.

    Args:
      confidence: `[examples]` in 0..1.
      correct: `[examples]` bool.
      bins: of equal width.
    """
    kept = np.isfinite(confidence)
    confidence, correct = confidence[kept], correct[kept]
    if not len(confidence):
        return Markup("")
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    x, y, tail = Scale(0, 1, 48, 440), Scale(0, 1, 214, 14), Scale(0, 1, 262, 232)
    drawn = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        drawn.append(tag("line", x1=x(0), x2=x(1), y1=y(share), y2=y(share), class_="grid"))
        drawn.append(tag("text", wording.percent(share, 0), x=x(0) - 7, y=y(share) + 4, class_="tick", text_anchor="end"))
        drawn.append(tag("text", wording.percent(share, 0), x=x(share), y=280, class_="tick", text_anchor="middle"))
    largest = int(np.bincount(index, minlength=bins).max())
    for place in range(bins):
        if (inside := index == place).any():
            drawn += _reliability_bin(place / bins, 1 / bins, confidence[inside], correct[inside], largest, (x, y, tail))
    drawn.append(tag("line", x1=x(0), x2=x(1), y1=y(0), y2=y(1), class_="diagonal"))
    drawn.append(tag("line", x1=x(0), x2=x(1), y1=tail(0), y2=tail(0), class_="baseline"))
    drawn.append(tag("text", "n", x=x(0) - 7, y=252, class_="tick", text_anchor="end"))
    drawn.append(tag("text", "confidence", x=x(1), y=297, class_="tick", text_anchor="end"))
    return svg(WIDTH, 302, "Reliability diagram: accuracy by confidence", *drawn)


def _reliability_bin(low: float, width: float, confidence: np.ndarray, correct: np.ndarray, largest: int, scales: tuple[Scale, Scale, Scale]) -> list[Markup]:
    x, y, tail = scales
    accuracy, number = float(correct.mean()), len(confidence)
    mean = float(confidence.mean())
    said = f"confidence {wording.percent(low, 0)}–{wording.percent(low + width, 0)}: {wording.percent(accuracy)} of {wording.count(number)} right"
    left, breadth = x(low) + 2, x(low + width) - x(low) - 4
    return [
        tag("rect", tag("title", said), x=left, y=y(accuracy), width=breadth, height=y(0) - y(accuracy), class_="bar", rx=2),
        tag("line", x1=left, x2=left + breadth, y1=y(mean), y2=y(mean), class_="expected"),
        tag("rect", tag("title", said), x=left, y=tail(number / largest), width=breadth, height=max(0.8, tail(0) - tail(number / largest)), class_="small-bar"),
    ]


def class_counts(splits: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> Markup:
    """Rows of every class, one bar per split side by side.

    Args:
      splits: split name -> class -> rows.
      classes: in order.
    """
    shown = [name for name in SPLITS if splits.get(name)]
    most = max((value for name in shown for value in splits[name].values() if wording.is_finite(value)), default=0)
    if not classes or not most:
        return Markup("")
    left, right, base = 46.0, WIDTH - 6.0, 196.0
    y = Scale(0, most * 1.05, base, 16)
    room = (right - left) / len(classes)
    drawn = []
    for value in y.ticks(4):
        drawn.append(tag("line", x1=left, x2=right, y1=y(value), y2=y(value), class_="grid"))
        drawn.append(tag("text", wording.count(value), x=left - 7, y=y(value) + 4, class_="tick", text_anchor="end"))
    for place, label in enumerate(classes):
        drawn += _class_bars(label, {name: splits[name].get(label, 0) for name in shown}, left + place * room, room, y)
    drawn.append(tag("line", x1=left, x2=right, y1=base, y2=base, class_="baseline"))
    height = base + (10 + LETTER * 0.74 * max(len(short(label, 14)) for label in classes) if len(classes) <= NAMED_CLASSES else 22)
    if len(classes) > NAMED_CLASSES:
        drawn.append(tag("text", f"{len(classes)} classes, in order", x=right, y=base + 16, class_="tick", text_anchor="end"))
    return svg(WIDTH, height + 8, "Examples of every class", *drawn)


def _class_bars(label: str, counts: Mapping[str, Any], left: float, room: float, y: Scale) -> list[Markup]:
    drawn = []
    gap = 0.18 * room if room > 6 else 0.0
    breadth = (room - gap) / len(counts)
    for place, (split, value) in enumerate(counts.items()):
        if wording.is_finite(value):
            at = left + gap / 2 + place * breadth
            said = tag("title", f"{label}, {split}: {wording.count(value)}")
            drawn.append(tag("rect", said, x=at, y=y(value), width=max(0.3, breadth - (0.6 if breadth > 3 else 0)), height=y(0) - y(value), fill=SPLITS[split]))
    middle = left + room / 2
    name = short(label, 14)
    if len(name) * LETTER < room:
        return [*drawn, tag("text", name, x=middle, y=y(0) + 15, class_="tick", text_anchor="middle")]
    if room >= 9:
        drawn.append(tag("text", name, x=middle + 3, y=y(0) + 12, class_="tick", text_anchor="end", transform=f"rotate(-45 {middle + 3:.1f} {y(0) + 12:.1f})"))
    return drawn


def coefficients(rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """A bar per group in depth order: the coefficient half way through the run, with the range over its parameters and moments.

    A group that would squeeze all others to a third of the width (a new head, mostly) gets a broken bar, with its value beside it.

    Args:
      rows: (group, lowest, typical, highest) from the stem to the head.
    """
    finite = [row for row in rows if all(wording.is_finite(value) for value in row[1:])]
    if not finite:
        return Markup("")
    step = min(26.0, max(11.0, 300 / len(finite)))
    left = 20 + LETTER * max(len(short(row[0])) for row in finite)
    limit = _limit([row[3] for row in finite])
    x = Scale(0, limit * 1.02, left, WIDTH - 62)
    drawn = []
    bottom = 10 + step * len(finite)
    for value in x.ticks(4):
        drawn.append(tag("line", x1=x(value), x2=x(value), y1=8, y2=bottom, class_="grid"))
        drawn.append(tag("text", tick_text(value), x=x(value), y=bottom + 16, class_="tick", text_anchor="middle"))
    for place, row in enumerate(finite):
        drawn += _coefficient_bar(row, depth_colour(place, len(finite)), x, 10 + step * (place + 0.5), step, limit)
    return svg(WIDTH, bottom + 26, "Fine-tuning coefficient of every group", *drawn)


def _limit(highest: Sequence[float]) -> float:
    """Where the axis ends: at the largest value, or a little beyond the second largest where that is under a third of it."""
    *rest, largest = sorted(highest)
    second = max(rest, default=0.0)
    return max(1e-12, 1.2 * second if 0 < second < largest / 3 else largest)


def _coefficient_bar(row: tuple[str, float, float, float], colour: str, x: Scale, middle: float, step: float, limit: float) -> list[Markup]:
    """Name, bar, range and value of one group."""
    group, low, typical, high = row
    end = x(min(typical, limit))
    drawn = [
        tag("text", short(group), x=x.start - 8, y=middle + 4, class_="label ink", text_anchor="end"),
        tag("rect", x=x.start, y=middle - step * 0.32, width=end - x.start, height=step * 0.64, fill=colour, rx=2),
    ]
    if typical > limit:
        gap = f"M{end - 22:.1f} {middle + step * 0.4:.1f}l8 {-step * 0.8:.1f}m5 0l-8 {step * 0.8:.1f}"
        drawn.append(tag("path", tag("title", "longer than the axis"), d=gap, class_="break"))
    elif high > low:
        drawn.append(tag("line", x1=x(low), x2=x(min(high, limit)), y1=middle, y2=middle, class_="range"))
    text = "frozen" if high == 0 else wording.setting(typical)
    drawn.append(tag("text", text, x=max(end, x(min(high, limit))) + 7, y=middle + 4, class_="label muted" if high == 0 else "label ink"))
    return drawn
