"""Drawings of runs on text: lengths in tokens with the buckets and the cut, and a regression's predictions against the truth.

Like `plots.py`: values in, an SVG drawing out, nothing where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ftjax.reporting import wording
from ftjax.reporting.charts import HEIGHT, LETTER, WIDTH, Scale, fit, svg, tag, tick_text
from ftjax.reporting.figures import SPLITS

MOST_POINTS = 1500
"""Of a scatter plot; more hide each other and weigh megabytes."""
BINS = 30
FAR = 1.5
"""Times the longest text from which on the cut is left out."""


def lengths(edges: Sequence[float], counts: Mapping[str, Sequence[float]], buckets: Sequence[float], max_length: Any, unit: str = "tokens") -> Markup:
    """How long the texts are: the share of a split's rows by tokens (or pixels, ...), with a line for each bucket and one where longer texts are cut.

    Args:
      edges: of the bins, in tokens, one more than counts.
      counts: split -> rows of each bin.
      buckets: lengths that batches are padded to.
      max_length: tokens that are read, or None; a cut far beyond the longest text is not drawn, as it would squeeze the rest.
      unit: of the edges.
    """
    shares = {split: np.asarray(counts[split], float) for split in SPLITS if len(counts.get(split, ())) == len(edges) - 1}
    shares = {split: rows / rows.sum() for split, rows in shares.items() if rows.sum() > 0}
    if not shares:
        return Markup("")
    max_length = max_length if wording.is_finite(max_length) and max_length <= FAR * max(edges) else None
    lines = [*buckets, *([] if max_length is None else [max_length])]
    x, y = Scale(min(edges), max(*edges, *lines), 52, WIDTH - 16), Scale(0, 1.06 * max(float(rows.max()) for rows in shares.values()), HEIGHT - 42, 30)
    drawn = []
    for value in y.ticks(4):
        drawn.append(tag("line", x1=x.start, x2=x.stop, y1=y(value), y2=y(value), class_="grid"))
        drawn.append(tag("text", wording.percent(value, 0 if y.high > 0.03 else 1), x=x.start - 7, y=y(value) + 4, class_="tick", text_anchor="end"))
    for place, (split, rows) in enumerate(shares.items()):
        drawn += _length_bars(split, rows, edges, place, len(shares), (x, y), unit)
    drawn += [tag("text", wording.count(value), x=x(value), y=y.start + 17, class_="tick", text_anchor="middle") for value in x.ticks(5)]
    drawn.append(tag("line", x1=x.start, x2=x.stop, y1=y.start, y2=y.start, class_="baseline"))
    drawn.append(tag("text", unit, x=x.stop, y=y.start + 33, class_="tick", text_anchor="end"))
    return svg(WIDTH, HEIGHT, f"Sizes in {unit}" if unit != "tokens" else "Lengths of the texts in tokens", *drawn, *_length_lines(buckets, max_length, x, y))


def _length_bars(split: str, rows: np.ndarray, edges: Sequence[float], place: int, total: int, scales: tuple[Scale, Scale], unit: str) -> list[Markup]:
    """Bars of one split, side by side with the others'."""
    x, y = scales
    drawn = []
    for bin, share in enumerate(rows):
        if share > 0:
            left, right = x(edges[bin]), x(edges[bin + 1])
            room = max(0.5, right - left - (1 if right - left > 5 else 0))
            said = f"{split}, {wording.count(edges[bin])} to {wording.count(edges[bin + 1])} {unit}: {wording.percent(float(share))}"
            at = {"x": left + place * room / total, "y": y(float(share)), "width": room / total, "height": y(0) - y(float(share))}
            drawn.append(tag("rect", tag("title", said), **at, fill=SPLITS[split], fill_opacity=0.85))
    return drawn


def _length_lines(buckets: Sequence[float], max_length: Any, x: Scale, y: Scale) -> list[Markup]:
    """The buckets as numbered lines, as far as their numbers do not touch, and the cut."""
    drawn, free = [], -1e9
    for bucket in sorted(buckets):
        said, text = tag("title", f"batches are padded to {wording.count(bucket)} tokens"), wording.count(bucket)
        drawn.append(tag("line", said, x1=x(bucket), x2=x(bucket), y1=y.stop - 8, y2=y.start, class_="border"))
        half = LETTER * len(text) / 2
        if x(bucket) - half > free:
            drawn.append(tag("text", text, x=x(bucket), y=y.stop - 12, class_="tick", text_anchor="middle"))
            free = x(bucket) + half + 4
    if wording.is_finite(max_length):
        said = tag("title", f"longer texts are cut at {wording.count(max_length)} tokens")
        drawn.append(tag("line", said, x1=x(max_length), x2=x(max_length), y1=y.stop - 8, y2=y.start, class_="cut"))
    return drawn


def scatter(label: np.ndarray, prediction: np.ndarray) -> Markup:
    """Predicted against true values; a perfect model lies on the diagonal.

    Args:
      label: `[examples]`.
      prediction: `[examples]`.
    """
    label, prediction = _finite(label, prediction)
    if not len(label):
        return Markup("")
    both = np.concatenate([label, prediction]).tolist()
    y = fit(both, 330 - 42, 12)
    ticks = y.ticks(6)
    left = 14 + LETTER * max(len(tick_text(value)) for value in ticks or [0.0])
    x = Scale(y.low, y.high, left + 16, WIDTH - 14)
    drawn = []
    for value in ticks:
        drawn.append(tag("line", x1=x.start, x2=x.stop, y1=y(value), y2=y(value), class_="grid"))
        drawn.append(tag("text", tick_text(value), x=x.start - 7, y=y(value) + 4, class_="tick", text_anchor="end"))
        drawn.append(tag("text", tick_text(value), x=x(value), y=y.start + 17, class_="tick", text_anchor="middle"))
    drawn.append(tag("line", x1=x(y.low), x2=x(y.high), y1=y(y.low), y2=y(y.high), class_="diagonal"))
    kept = np.linspace(0, len(label) - 1, min(len(label), MOST_POINTS)).astype(int)
    for true, said in zip(label[kept].tolist(), prediction[kept].tolist(), strict=True):
        named = tag("title", f"true {wording.number(true)}, predicted {wording.number(said)}")
        drawn.append(tag("circle", named, cx=x(true), cy=y(said), r=2.6, class_="dotted"))
    middle = (y.start + y.stop) / 2
    drawn.append(tag("line", x1=x.start, x2=x.stop, y1=y.start, y2=y.start, class_="baseline"))
    drawn.append(tag("text", "true", x=x.stop, y=y.start + 33, class_="tick", text_anchor="end"))
    drawn.append(tag("text", "predicted", x=10, y=middle, class_="tick", text_anchor="middle", transform=f"rotate(-90 10 {middle:.1f})"))
    return svg(WIDTH, 330, "Predicted against true values", *drawn)


def residuals(label: np.ndarray, prediction: np.ndarray) -> Markup:
    """How far predictions are off, predicted minus true, and the mean of that.

    Args:
      label: `[examples]`.
      prediction: `[examples]`.
    """
    label, prediction = _finite(label, prediction)
    if not len(label):
        return Markup("")
    off = prediction - label
    reach = float(np.abs(off).max()) or 1.0
    counts, edges = np.histogram(off, bins=min(BINS, max(5, len(off) // 4)) | 1, range=(-reach, reach))
    y = Scale(0, 1.06 * int(counts.max()), 330 - 42, 24)
    left = 14 + LETTER * max(len(wording.count(value)) for value in y.ticks(5))
    x, drawn = Scale(-reach, reach, left, WIDTH - 14), []
    for value in y.ticks(5):
        drawn.append(tag("line", x1=x.start, x2=x.stop, y1=y(value), y2=y(value), class_="grid"))
        drawn.append(tag("text", tick_text(value), x=x.start - 7, y=y(value) + 4, class_="tick", text_anchor="end"))
    for number, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        said = tag("title", f"{wording.number(low)} to {wording.number(high)}: {wording.count(number)}")
        drawn.append(tag("rect", said, x=x(low) + 0.5, y=y(number), width=max(0.5, x(high) - x(low) - 1), height=y(0) - y(number), class_="bar"))
    drawn += [tag("text", tick_text(value), x=x(value), y=y.start + 17, class_="tick", text_anchor="middle") for value in x.ticks(5)]
    drawn.append(tag("line", x1=x.start, x2=x.stop, y1=y.start, y2=y.start, class_="baseline"))
    drawn.append(tag("text", "predicted − true", x=x.stop, y=y.start + 33, class_="tick", text_anchor="end"))
    mean = float(off.mean())
    drawn.append(tag("line", x1=x(0), x2=x(0), y1=y.stop - 6, y2=y.start, class_="diagonal"))
    drawn.append(tag("line", x1=x(mean), x2=x(mean), y1=y.stop - 6, y2=y.start, class_="expected"))
    side: dict[str, Any] = {"x": x(mean) + 6, "text_anchor": "start"} if mean <= 0 else {"x": x(mean) - 6, "text_anchor": "end"}
    drawn.append(tag("text", f"mean {wording.number(mean)}", y=y.stop, class_="note", **side))
    return svg(WIDTH, 330, "Residuals, predicted minus true", *drawn)


def _finite(label: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = np.isfinite(label) & np.isfinite(prediction)
    return label[kept], prediction[kept]
