"""The confusion matrix of report.html: counts in the cells while there is room, then shades; every row and column keeps its name.

Up to forty classes the matrix fits its card; with more it grows instead of its letters shrinking, and the page scrolls it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ftjax.reporting import wording
from ftjax.reporting.charts import LETTER, svg, tag
from ftjax.reporting.figures import short

MOST_CLASSES = 120
"""A matrix of more classes is not drawn: nobody could find a cell in it."""
COUNTED_CLASSES = 20
FITTING_CLASSES = 40
WIDE, WHOLE, SMALL = 620.0, 1060.0, 5.0
"""Width of a matrix that fits beside a table; width of a whole card; average width of a letter in a matrix that grows. In the page's pixels."""
SMALLEST, LARGEST = 9.5, 11.5
"""Side of a cell in a matrix that grows: its names must not touch."""
BIGGEST = 110.0
"""Side of a cell where there are few."""


def as_matrix(value: Any) -> np.ndarray | None:
    """`value` as a square matrix of counts (true class by row), or None where it is none."""
    try:
        matrix = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.size > 0
    return matrix if square and bool(np.isfinite(matrix).all()) else None


def _cell(matrix: np.ndarray, classes: Sequence[str], row: int, column: int, corner: tuple[float, float], size: float) -> list[Markup]:
    """A cell as dark as its share of the row: blue on the diagonal, red off it; the count in it where there is room."""
    total, times = matrix[row].sum(), matrix[row, column]
    share = times / total
    said = f"{wording.count(times)} of {wording.count(total)} {classes[row]} predicted as {classes[column]} ({wording.percent(share)})"
    colour = "var(--blue)" if row == column else "var(--red)"
    opacity = 0.08 + 0.92 * share if row == column else min(1.0, 0.12 + 0.88 * math.sqrt(share))
    left, top = corner
    gap = 1.0 if size > 6 else 0.0
    cell = tag(
        "rect",
        tag("title", said),
        x=left + gap / 2,
        y=top + gap / 2,
        width=size - gap,
        height=size - gap,
        rx=min(3.0, size / 10),
        fill=colour,
        fill_opacity=float(opacity),
    )
    if len(matrix) > COUNTED_CLASSES:
        return [cell]
    strong = "cell strong" if opacity > 0.55 else "cell"
    return [cell, tag("text", wording.count(times), x=left + size / 2, y=top + size / 2 + 4, class_=strong, text_anchor="middle")]


def draw(matrix: np.ndarray, classes: Sequence[str]) -> Markup:
    """The confusion matrix, true classes down and predicted classes across, shaded by share of the true class.

    Args:
      matrix: counts `[true predicted]`.
      classes: their names.
    """
    total = len(matrix)
    if total > MOST_CLASSES:
        return Markup("")
    large = total > FITTING_CLASSES
    full = [wording.printable(classes[index]) if index < len(classes) else str(index) for index in range(total)]
    names = [short(name, 34 if large else 16) for name in full]
    letter, longest = SMALL if large else LETTER, max(len(name) for name in names)
    left = 30 + letter * longest
    slanted = large or longest > 4
    top = 26 + (letter * (0.98 if large else 0.78) * longest if slanted else 12)
    size = min(LARGEST, max(SMALLEST, (WHOLE - left) / total)) if large else min(BIGGEST, (WIDE - left) / total)
    drawn = [tag("rect", x=left, y=top, width=size * total, height=size * total, class_="plate", rx=3)]
    for row, column in np.argwhere(matrix > 0):
        drawn += _cell(matrix, full, int(row), int(column), (left + column * size, top + row * size), size)
    drawn += _upright_names(names, left, top, size) if large else _slanted_names(names, left, top, size, slanted=slanted)
    drawn.append(tag("text", "predicted", x=left + size * total / 2, y=12, class_="tick", text_anchor="middle"))
    middle = top + size * total / 2
    drawn.append(tag("text", "true", x=12, y=middle, class_="tick", text_anchor="middle", transform=f"rotate(-90 12 {middle:.1f})"))
    width = left + size * total + (LETTER * 0.6 * len(names[-1]) if slanted and not large else 4)
    drawing = svg(width, top + size * total + 6, "Confusion matrix", *drawn)
    if large:
        return tag("div", drawing, class_="grown", style=f"width:{width:.0f}px")
    return tag("div", drawing, class_="few", style=f"max-width:{width:.0f}px") if size == BIGGEST else drawing


def _slanted_names(names: Sequence[str], left: float, top: float, size: float, *, slanted: bool) -> list[Markup]:
    drawn = []
    for index, name in enumerate(names):
        across, down = left + (index + 0.5) * size, top + (index + 0.5) * size + 4
        drawn.append(tag("text", name, x=left - 7, y=down, class_="label ink", text_anchor="end"))
        turn = {"transform": f"rotate(-45 {across:.1f} {top - 7:.1f})"} if slanted else {"text_anchor": "middle"}
        drawn.append(tag("text", name, x=across, y=top - 7, class_="label ink", **turn))
    return drawn


def _upright_names(names: Sequence[str], left: float, top: float, size: float) -> list[Markup]:
    """Names of a large matrix: small, and upright above the columns."""
    drawn = []
    for index, name in enumerate(names):
        across, down = left + (index + 0.5) * size + 3, top + (index + 0.5) * size + 3
        drawn.append(tag("text", name, x=left - 6, y=down, class_="label ink tiny", text_anchor="end"))
        drawn.append(tag("text", name, x=across, y=top - 6, class_="label ink tiny", transform=f"rotate(-90 {across:.1f} {top - 6:.1f})"))
    return drawn
