"""The few primitives behind every plot of report.html: escaped SVG tags, scales with round ticks, and line charts with direct labels.

Colours are CSS variables of the page, so one drawing serves light and dark; sizes are in the units of the viewBox. Same values, same bytes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup, escape

from ftjax.reporting import wording

WIDTH, HEIGHT = 460, 260
LABEL_GAP = 13.0
"""Least distance of two direct labels."""
LETTER = 6.1
"""Average width of a letter at the label's size, to reserve margins."""
MAX_POINTS = 400
TINY, HUGE = 1e-100, 1e100
"""What a logarithmic axis can show."""

Point = tuple[float, float]
Format = Callable[[float], str]


def _attribute(value: object) -> str:
    """A coordinate with at most two decimals, anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def tag(name: str, *children: str | Markup, **attributes: object) -> Markup:
    """`tag("text", "a<b", x=1.0, class_="axis")` -> `<text x="1" class="axis">a&lt;b</text>`; None leaves an attribute out."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"' for key, value in attributes.items() if value is not None)
    return Markup(f"<{name}{written}>{Markup('').join(children)}</{name}>")


def svg(width: float, height: float, label: str, *children: Markup) -> Markup:
    """A drawing that scales with its box; `label` is what a screen reader says."""
    return tag("svg", *children, viewBox=f"0 0 {_attribute(float(width))} {_attribute(float(height))}", role="img", aria_label=label, class_="plot")


@dataclasses.dataclass(frozen=True)
class Scale:
    """A map of values `low..high` to positions `start..stop`, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of `value`."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(min(max(value, TINY), HUGE))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values inside the range."""
        return log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, count)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in `low..high`."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in `low..high`, with 2 and 5 between them where there are few decades."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / 6))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    values = [factor * 10.0**power for power in range(first, last + 1, stride) for factor in factors]
    return [value for value in values if low * 0.999 <= value <= high * 1.001]


def tick_text(value: float) -> str:
    """A round value as short as it can be written: `0.1`, `2e-5`, `1,000`."""
    return wording.count(value) if abs(value) >= 1000 else f"{value:g}".replace("e-0", "e-")


def fit(values: Iterable[float], start: float, stop: float, *, log: bool = False, floor: float | None = None, ceiling: float | None = None) -> Scale:
    """A scale around the finite `values` with a little room, kept inside `floor..ceiling`."""
    finite = [value for value in values if wording.is_finite(value) and (value > 0 or not log)] or [1.0]
    low, high = min(finite), max(finite)
    if log:
        low, high = max(low, TINY), min(max(high, TINY), HUGE)
        room = max(1.15, (high / low) ** 0.05)
        return Scale(low / room, high * room, start, stop, log=True)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    low, high = low - room, high + room
    low, high = (max(low, floor) if floor is not None else low), (min(high, ceiling) if ceiling is not None else high)
    return Scale(low, high if high > low else low + 1.0, start, stop)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`positions` moved apart to at least `gap` where `low..high` has room for it, keeping their order."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    gap = min(gap, (high - low) / max(1, len(positions) - 1)) if len(positions) > 1 else gap
    placed = [0.0] * len(positions)
    previous = low - gap
    for index in order:
        placed[index] = previous = max(positions[index], previous + gap)
    limit = high
    for index in reversed(order):
        placed[index] = limit = min(placed[index], limit)
        limit -= gap
    return placed


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most about `most` points: of each stretch its lowest and highest stay, so that no spike is lost; points that are not finite all stay."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept = {0, len(points) - 1}
    for begin in range(0, len(points), size):
        stretch = range(begin, min(begin + size, len(points)))
        finite = [index for index in stretch if math.isfinite(points[index][1])]
        kept |= set(stretch) - set(finite)
        if finite:
            kept |= {min(finite, key=lambda index: points[index][1]), max(finite, key=lambda index: points[index][1])}
    return [points[index] for index in sorted(kept)]


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart and the label at its end."""

    name: str
    points: Sequence[Point]
    colour: str
    width: float = 2.0
    opacity: float = 1.0
    labelled: bool = True
    measured: bool = True
    """Its points are the log's own: they get tooltips, and crosses where they are not finite."""


def _segments(points: Sequence[Point], drawable: Callable[[float], bool]) -> list[list[Point]]:
    """The runs of points that can be drawn: a value that is not finite breaks the line."""
    segments: list[list[Point]] = [[]]
    for point in points:
        if drawable(point[1]):
            segments[-1].append(point)
        elif segments[-1]:
            segments.append([])
    return [segment for segment in segments if segment]


def _path(segment: Sequence[Point], x: Scale, y: Scale, series: Series) -> Markup:
    if len(segment) == 1:
        return tag("circle", cx=x(segment[0][0]), cy=y(segment[0][1]), r=2.5, fill=series.colour)
    coordinates = "L".join(f"{_attribute(float(x(step)))} {_attribute(float(y(value)))}" for step, value in segment)
    opacity = series.opacity if series.opacity < 1 else None
    return tag("path", d=f"M{coordinates}", fill="none", stroke=series.colour, stroke_width=series.width, stroke_linejoin="round", opacity=opacity)


def _hover(series: Series, x: Scale, y: Scale, form: Format, drawable: Callable[[float], bool]) -> list[Markup]:
    """Invisible targets whose tooltip says the value."""
    points = [point for point in series.points if drawable(point[1])]
    if len(points) > 80:
        return []
    return [
        tag("circle", tag("title", f"{series.name}, step {wording.count(step)}: {form(value)}"), cx=x(step), cy=y(value), r=5, class_="hover")
        for step, value in points
    ]


def _lost(series: Series, x: Scale, bottom: float) -> list[Markup]:
    """A red cross on the axis for every value that is not finite."""
    return [
        tag("text", tag("title", f"{series.name}, step {wording.count(step)}: {value}"), "×", x=x(step), y=bottom - 3, class_="lost", text_anchor="middle")
        for step, value in series.points
        if not math.isfinite(value)
    ]


def grid(x: Scale, y: Scale, form: Format, xlabel: str = "step", xform: Format = wording.count) -> list[Markup]:
    """Light horizontal lines with their values, and the steps (or what `xlabel` says) below."""
    drawn = []
    for value in y.ticks():
        height = y(value)
        drawn.append(tag("line", x1=x.start, x2=x.stop, y1=height, y2=height, class_="grid"))
        drawn.append(tag("text", form(value), x=x.start - 7, y=height + 3.8, class_="tick", text_anchor="end"))
    drawn += [tag("text", xform(value), x=x(value), y=y.start + 17, class_="tick", text_anchor="middle") for value in x.ticks(4)]
    drawn.append(tag("line", x1=x.start, x2=x.stop, y1=y.start, y2=y.start, class_="baseline"))
    drawn.append(tag("text", xlabel, x=x.stop, y=y.start + 33, class_="tick", text_anchor="end"))
    return drawn


def _end_labels(series: Sequence[Series], x: Scale, y: Scale, drawable: Callable[[float], bool]) -> list[Markup]:
    named = [(line, last[-1]) for line in series if line.labelled and (last := [point for point in line.points if drawable(point[1])])]
    heights = spread([y(point[1]) for _, point in named], LABEL_GAP, y.stop + 2, y.start - 2)
    return [tag("text", line.name, x=x.stop + 8, y=height + 3.8, fill=line.colour, class_="label") for (line, _), height in zip(named, heights, strict=True)]


def line_chart(
    series: Sequence[Series],
    label: str,
    *,
    form: Format = wording.number,
    ticks: Format = tick_text,
    log: bool = False,
    floor: float | None = None,
    ceiling: float | None = None,
    mark: tuple[float, float, str] | None = None,
    borders: Sequence[float] = (),
    reference: tuple[float, str] | None = None,
) -> Markup:
    """Lines over steps with their names at their ends.

    Args:
      series: what to draw, later ones on top.
      label: for screen readers.
      form: how a value is written.
      ticks: how a value on the axis is written.
      log: logarithmic values; those that are not positive are left out.
      floor: the axis does not go below.
      ceiling: the axis does not go above.
      mark: (step, value, text) of a point to point out.
      borders: steps at which another phase of the run begins.
      reference: (value, text) of a level to compare with.

    Returns:
      The drawing; empty where no value can be drawn.
    """

    def drawable(value: float) -> bool:
        return wording.is_finite(value) and (value > 0 or not log)

    values = [value for line in series for _, value in line.points if drawable(value)]
    steps = [step for line in series for step, _ in line.points]
    if not values:
        return Markup("")
    right = 14 + LETTER * max((min(len(line.name), 22) for line in series if line.labelled), default=0)
    levels = [reference[0]] if reference is not None and drawable(reference[0]) else []
    y = fit([*values, *levels], HEIGHT - 42, 14, log=log, floor=floor, ceiling=ceiling)
    left = 14 + LETTER * max(len(ticks(value)) for value in y.ticks() or [0.0])
    x = Scale(min(0, *steps) if len(steps) > 1 else 0, max(max(steps), 1), left, WIDTH - right)
    drawn = grid(x, y, ticks) + _borders(borders, x, y)
    drawn += [tag("line", x1=x.start, x2=x.stop, y1=y(level), y2=y(level), class_="diagonal") for level in levels]
    thinned = [dataclasses.replace(line, points=thin(line.points), name=line.name if len(line.name) <= 22 else f"{line.name[:21]}…") for line in series]
    for line in thinned:
        drawn += [_path(segment, x, y, line) for segment in _segments(line.points, drawable)]
        drawn += _lost(line, x, y.start) if line.measured else []
    drawn += _end_labels(thinned, x, y, drawable)
    drawn += [_reference(level, reference[1] if reference else "", x, y, thinned) for level in levels]
    if mark is not None and drawable(mark[1]):
        drawn += _mark(mark, x, y)
    for line in thinned:
        drawn += _hover(line, x, y, form, drawable) if line.measured else []
    return svg(WIDTH, HEIGHT, label, *drawn)


def _borders(borders: Sequence[float], x: Scale, y: Scale) -> list[Markup]:
    """A line where a phase begins, with the phase's number where there is room for it."""
    inside = [(number, step) for number, step in enumerate(borders, start=2) if x.low <= step <= x.high]
    drawn = []
    for number, step in inside:
        said = tag("title", f"phase {number} begins at step {wording.count(step)}")
        drawn.append(tag("line", said, x1=x(step), x2=x(step), y1=y.stop, y2=y.start, class_="border"))
        if len(inside) <= 12:
            drawn.append(tag("text", str(number), x=x(step) + 3, y=y.stop + 3, class_="tick"))
    return drawn


def _reference(value: float, text: str, x: Scale, y: Scale, series: Sequence[Series]) -> Markup:
    """The text of a level: above or below it, at its right end, in its middle or at its left, wherever the lines leave most room."""
    width, height = LETTER * len(text), y(value)
    drawn = [(x(step), y(point)) for line in series for step, point in line.points if math.isfinite(point)]
    places = [(x.stop - 4 - share * (x.stop - x.start - width - 8), height + offset) for share in (0, 0.5, 1) for offset in (-5, 14)]
    inside = [place for place in places if y.stop + 9 < place[1] < y.start] or places

    def room(place: Point) -> float:
        near = [abs(up - (place[1] - 4)) for across, up in drawn if place[0] - width - 8 <= across <= place[0] + 8]
        return min(18.0, *near) if near else 18.0

    right, beside = max(inside, key=room)
    return tag("text", text, x=right, y=beside, class_="reference", text_anchor="end")


def _mark(mark: tuple[float, float, str], x: Scale, y: Scale) -> list[Markup]:
    """A ring around a point, a thin line down to its step, and a text on the side with room: at the foot of the line, or just above a low point."""
    step, value, text = mark
    left, top = x(step), y(value)
    on_right = left < (x.start + x.stop) / 2
    beside = y.start - 10 if top < (y.start + y.stop) / 2 else top - 10
    return [
        tag("line", x1=left, x2=left, y1=top + 5, y2=y.start, class_="mark"),
        tag("circle", cx=left, cy=top, r=4.5, class_="ring"),
        tag("text", text, x=left + (8 if on_right else -8), y=beside, class_="note", text_anchor="start" if on_right else "end"),
    ]
