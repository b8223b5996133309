"""The data map of a run that followed its training examples: confidence against variability, and the hardest and most ambiguous examples themselves.

Easy examples lie at the top left, hard ones (and wrong labels) at the bottom left, ambiguous ones on the right (Swayamdipta et al. 2020, arXiv 2009.10795).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftjax.reporting import examples, wording
from ftjax.reporting.charts import HEIGHT, WIDTH, Scale, grid, svg, tag
from ftjax.reporting.record import Dot, Run, listing, mapping

MOST_POINTS = 2000
"""Dots that are drawn of a larger training set: every k-th one in the order of the file."""
BANDS = ((1.0, "always right", "var(--blue)"), (0.5, "right half the time or more", "var(--green)"), (1e-9, "less often", "var(--orange)"))
"""(least correctness, name, colour), the first that holds."""
NEVER = ("never right", "var(--red)")
SHOWN = (("hardest", "Hardest", "lowest confidence; look here for wrong labels"), ("ambiguous", "Most ambiguous", "highest variability"))
"""(key of cartography.json, title, note)."""


def band(correctness: float) -> tuple[str, str]:
    """Name and colour of how often an example was right."""
    return next(((name, colour) for least, name, colour in BANDS if correctness >= least), NEVER)


def data_map(dots: Sequence[Dot]) -> Markup:
    """Confidence (up) against variability (right), coloured by correctness, the rarely right on top; nothing without dots."""
    if not dots:
        return Markup("")
    height = HEIGHT + 60
    x, y = Scale(0.0, max(0.1, 1.06 * max(dot[0] for dot in dots)), 44, WIDTH - 12), Scale(0.0, 1.0, height - 42, 14)
    drawn = grid(x, y, lambda value: wording.percent(value, 0), "variability (standard deviation)", lambda value: f"{value:g}")
    shown = sorted(dots[:: math.ceil(len(dots) / MOST_POINTS)], key=lambda dot: -dot[2])
    for variability, confidence, correctness in shown:
        drawn.append(tag("circle", cx=x(variability), cy=y(confidence), r=2.4, fill=band(correctness)[1], fill_opacity=0.55))
    places = (("easy", x.start + 6, y(1.0) + 12, "start"), ("hard", x.start + 6, y(0.0) - 6, "start"), ("ambiguous", x.stop - 6, y(0.5), "end"))
    drawn += [tag("text", name, x=across, y=up, class_="note", text_anchor=anchor) for name, across, up, anchor in places]
    return svg(WIDTH, height, "Confidence of the training examples against variability", *drawn)


def section(run: Run) -> dict[str, Any]:
    """Everything of the section; empty for a run that followed no examples."""
    found, dots = run.cartography, run.dots
    if not found and not dots:
        return {}
    classes = [wording.printable(name) for name in listing(run.data.get("classes"))]
    counts: dict[tuple[str, str], int] = {}
    for dot in dots:
        counts[band(dot[2])] = counts.get(band(dot[2]), 0) + 1
    order = [*((name, colour) for _, name, colour in BANDS), NEVER]
    size = listing(run.data.get("image_size"))
    return {
        "svg": data_map(dots),
        "legend": [{"name": key[0], "colour": key[1], "count": wording.count(counts[key])} for key in order if key in counts],
        "caption": _caption(found, len(dots)),
        "shown": [
            {"title": title, "note": note, "examples": [_example(mapping(item), classes, run.of_text) for item in items]}
            for name, title, note in SHOWN
            if (items := listing(found.get(name)))
        ],
        "of_text": run.of_text,
        "pixelated": bool(size) and all(wording.is_finite(side) and side <= 64 for side in size),
    }


def _caption(found: Mapping[str, Any], dots: int) -> str:
    """What the axes are, how often examples were seen, and what is not drawn."""
    times, never = mapping(found.get("times_seen")), mapping(found.get("never_seen")).get("rows")
    said = ["Confidence: mean probability of the label whenever the example was trained on, before that step's update; variability: its standard deviation."]
    if wording.is_finite(times.get("mean")):
        said.append(f"An example was seen {wording.number(times['mean'], 2)} times on average.")
    if never:
        said.append(f"{wording.count(never)} examples were never seen and are not drawn.")
    if dots > MOST_POINTS:
        said.append(f"Drawn is one example in {math.ceil(dots / MOST_POINTS)}.")
    return " ".join(said)


def _example(item: Mapping[str, Any], classes: Sequence[str], of_text: bool) -> dict[str, Any]:
    """An example with its class where others have their prediction, and its numbers."""
    confidence, deviation = (wording.percent(item.get(name), 0) for name in ("confidence", "variability"))
    correctness: Any = item.get("correctness")
    seen = item.get("seen")
    times = f"right {round(correctness * seen)} of {seen} times" if wording.is_finite(correctness) and isinstance(seen, int) else ""
    shown = (examples.cards if of_text else examples.thumbnails)([{**item, "prediction": item.get("label"), "confidence": None}], classes)[0]
    name = examples.class_name(item.get("label"), classes)
    return shown | {"label": "", "prediction": name, "right": False, "wrong": False, "confidence": f"{confidence} ± {deviation}", "note": times}
