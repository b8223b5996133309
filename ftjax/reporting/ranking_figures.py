"""Drawings of runs that recommend: metrics over the length of the list, hits by the popularity of what was to be found, and how few items have most events.

Like `plots.py`: values in, an SVG drawing out, nothing where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftjax.reporting import wording
from ftjax.reporting.charts import HEIGHT, LABEL_GAP, LETTER, WIDTH, Point, Scale, grid, spread, svg, tag

COLOURS = ("var(--blue)", "var(--orange)", "var(--green)", "var(--soft)", "var(--red)")
LONGEST_NAME = 22


def curves(lines: Mapping[str, Sequence[Point]], label: str) -> Markup:
    """Shares over the length k of the list, a line for this run and one for each baseline, named at their ends.

    Args:
      lines: name -> (k, share); the first one is this run's.
      label: for screen readers.
    """
    kept = {wording.printable(name)[:LONGEST_NAME]: list(points) for name, points in lines.items() if len(points) > 1}
    if not kept:
        return Markup("")
    every = [point for points in kept.values() for point in points]
    top = max(share for _, share in every) * 1.06 or 1.0
    x = Scale(0, max(k for k, _ in every), 52, WIDTH - 14 - LETTER * max(map(len, kept)))
    y = Scale(0, top, HEIGHT - 42, 14)
    drawn = grid(x, y, lambda value: wording.percent(value, 0 if top > 0.03 else 1), xlabel="items in the list")
    heights = spread([y(points[-1][1]) for points in kept.values()], LABEL_GAP, y.stop + 2, y.start - 2)
    for number, ((name, points), height) in reversed(list(enumerate(zip(kept.items(), heights)))):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(f"{x(k):.2f} {y(share):.2f}" for k, share in points)
        drawn.append(tag("path", d=f"M{path}", fill="none", stroke=colour, stroke_width=2.0 if number == 0 else 1.4, stroke_linejoin="round"))
        drawn.append(tag("text", name, x=x.stop + 8, y=height + 3.8, fill=colour, class_="label"))
        said = [tag("title", f"{name}, {wording.count(k)} items: {wording.percent(share, 2)}") for k, share in points]
        drawn += [tag("circle", title, cx=x(k), cy=y(share), r=5, class_="hover") for title, (k, share) in zip(said, points)]
    return svg(WIDTH, HEIGHT, label, *drawn)


def by_popularity(bins: Sequence[Mapping[str, Any]], k: int) -> Markup:
    """Two bars for each bin of training events: the share of the users whose next item is in it, and the hit rate there.

    Args:
      bins: `{"from", "to", "users", "hit_rate"}`; `to` is None for all above.
      k: length of the list.
    """
    total = sum(entry["users"] for entry in bins)
    if not total:
        return Markup("")
    shares = [entry["users"] / total for entry in bins]
    rates = [entry["hit_rate"] if wording.is_finite(entry["hit_rate"]) else None for entry in bins]
    top = 1.08 * max([*shares, *(rate for rate in rates if rate is not None)])
    y, left, right = Scale(0, top, HEIGHT - 58, 14), 52.0, WIDTH - 6.0
    drawn = []
    for value in y.ticks(4):
        drawn.append(tag("line", x1=left, x2=right, y1=y(value), y2=y(value), class_="grid"))
        drawn.append(tag("text", wording.percent(value, 0 if top > 0.03 else 1), x=left - 7, y=y(value) + 4, class_="tick", text_anchor="end"))
    room = (right - left) / len(bins)
    for place, (entry, share, rate) in enumerate(zip(bins, shares, rates)):
        at, breadth = left + (place + 0.1) * room, 0.4 * room
        said = f"{_span(entry)} training events: {wording.count(entry['users'])} users, {wording.percent(share)} of all"
        drawn.append(tag("rect", tag("title", said), x=at, y=y(share), width=breadth - 1, height=y(0) - y(share), class_="small-bar"))
        if rate is not None:
            said = f"{_span(entry)} training events: the item was among the first {k} for {wording.percent(rate)}"
            drawn.append(tag("rect", tag("title", said), x=at + breadth, y=y(rate), width=breadth - 1, height=y(0) - y(rate), class_="bar"))
        drawn.append(tag("text", _span(entry), x=left + (place + 0.5) * room, y=y.start + 16, class_="tick", text_anchor="middle"))
    drawn.append(tag("line", x1=left, x2=right, y1=y.start, y2=y.start, class_="baseline"))
    drawn.append(tag("text", "training events of the item", x=right, y=y.start + 33, class_="tick", text_anchor="end"))
    key = [("small-bar", "share of the users"), ("bar", f"of whom the item was found among {k}")]
    at = left
    for name, text in key:
        drawn += [tag("rect", x=at, y=y.start + 43, width=9, height=9, class_=name), tag("text", text, x=at + 14, y=y.start + 51, class_="tick")]
        at += 32 + LETTER * len(text)
    return svg(WIDTH, HEIGHT, "Hit rate by the popularity of the item", *drawn)


def _span(entry: Mapping[str, Any]) -> str:
    """`"5–19"`, `"0"`, `"500+"`."""
    low, high = entry["from"], entry["to"]
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}–{high}"


def concentration(shares: Sequence[float]) -> Markup:
    """How much of all events the most popular items have, against the dotted line of equal shares.

    Args:
      shares: of the events that the most popular 0 %, ..., 100 % of the items have, in equal steps.
    """
    points = [(100 * place / (len(shares) - 1), share) for place, share in enumerate(shares) if wording.is_finite(share)] if len(shares) > 1 else []
    if not points:
        return Markup("")
    x, y = Scale(0, 100, 52, WIDTH - 16), Scale(0, 1.0, HEIGHT - 42, 14)
    drawn = grid(x, y, lambda value: wording.percent(value, 0), xlabel="% of the items, the most popular first", xform=lambda value: f"{value:g}")
    drawn.append(tag("line", x1=x(0), x2=x(100), y1=y(0), y2=y(1), class_="diagonal"))
    path = "L".join(f"{x(part):.2f} {y(share):.2f}" for part, share in points)
    drawn.append(tag("path", d=f"M{path}", fill="none", stroke="var(--blue)", stroke_width=2.0))
    said = [tag("title", f"{part:g} % of the items have {wording.percent(share)} of the events") for part, share in points]
    drawn += [tag("circle", title, cx=x(part), cy=y(share), r=5, class_="hover") for title, (part, share) in zip(said, points)]
    return svg(WIDTH, HEIGHT, "Share of the events by popularity", *drawn)
