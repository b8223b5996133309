"""The drawings: round ticks, labels that do not overlap, spikes that are not lost, text that is escaped."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.reporting import confusion, figures, plots
from ftjax.reporting.charts import Scale, Series, fit, line_chart, log_ticks, nice_ticks, spread, tag, thin, tick_text
from ftjax.reporting.record import MainMetric

ranges = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6)).map(lambda pair: (pair[0], pair[0] + max(pair[1], 1e-6 * abs(pair[0]))))


@settings(deadline=None)
@given(ranges)
def test_ticks_are_few_evenly_spaced_and_inside(limits):
    low, high = limits
    ticks = nice_ticks(low, high)
    slack = 1e-6 * (high - low)
    assert 2 <= len(ticks) <= 9
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-3)


@settings(deadline=None)
@given(st.floats(1e-8, 1e3), st.floats(1.3, 1e9))
def test_log_ticks_are_inside(low, ratio):
    ticks = log_ticks(low, low * ratio)
    assert all(low * 0.99 <= tick <= low * ratio * 1.01 for tick in ticks)
    assert len(ticks) <= 10


@settings(deadline=None)
@given(st.lists(st.floats(0, 200), max_size=15))
def test_labels_keep_their_order_distance_and_frame(positions):
    placed = spread(positions, 13.0, 0.0, 200.0)
    ranked = [placed[index] for index in sorted(range(len(positions)), key=lambda index: positions[index])]
    assert all(-1e-6 <= place <= 200 + 1e-6 for place in placed)
    assert all(second - first >= min(13.0, 200 / max(1, len(placed) - 1)) - 1e-6 for first, second in itertools.pairwise(ranked))


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(math.nan)), min_size=41, max_size=150))
def test_thinning_keeps_ends_extremes_and_what_is_not_finite(values):
    points = [(float(step), value) for step, value in enumerate(values)]
    kept = thin(points, 40)
    finite = [value for value in values if math.isfinite(value)]
    assert kept[0] is points[0]
    assert kept[-1] is points[-1]
    assert sum(math.isnan(value) for _, value in kept) == sum(math.isnan(value) for value in values)
    assert not finite or {min(finite), max(finite)} <= {value for _, value in kept}
    assert len([value for _, value in kept if math.isfinite(value)]) <= 44


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.booleans())
def test_every_value_falls_inside_the_frame(values, log):
    scale = fit(values, 200, 10, log=log)
    for value in values:
        if value > 0 or not log:
            assert 10 - 1e-6 <= scale(value) <= 200 + 1e-6


def test_a_scale_maps_its_ends():
    assert [Scale(1, 100, 0, 10, log=True)(value) for value in (1, 10, 100)] == [0, 5, 10]


def test_text_and_attributes_are_escaped():
    assert tag("text", '<a href="x">', x=1.0, fill='"', hidden=None) == '<text x="1" fill="&#34;">&lt;a href=&#34;x&#34;&gt;</text>'


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (2e-5, "2e-5"), (0.0, "0"), (1000.0, "1,000"), (0.75, "0.75")])
def test_ticks_are_written_short(value, text):
    assert tick_text(value) == text


def test_nothing_to_draw_draws_nothing():
    assert line_chart([Series("a", [(1, math.nan)], "red")], "x") == ""
    assert line_chart([], "x") == ""
    assert plots.loss_curves([]) == plots.learning_rate([]) == plots.validation_curve([], MainMetric("accuracy", True)) == ""
    assert figures.reliability(np.zeros(0), np.zeros(0, bool)) == figures.coefficients([]) == figures.class_counts({}, []) == ""


def test_a_value_that_is_not_finite_breaks_the_line_and_is_marked():
    drawing = line_chart([Series("loss", [(1, 1.0), (2, 2.0), (3, math.nan), (4, 2.0), (5, 1.0)], "red")], "x")
    assert drawing.count("<path") == 2
    assert "loss, step 3: nan" in drawing


def test_one_point_is_a_dot():
    assert "<circle" in line_chart([Series("loss", [(5, 1.0)], "red")], "x")


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        (MainMetric("accuracy", True), [0.5, 0.9, 0.7], "90.0% at step 2"),
        (MainMetric("log_loss", False), [0.5, 0.1, 0.7], "0.100 at step 2"),
        (MainMetric("rank", False), [5.0, 1.0, 7.0], "1.000 at step 2"),
    ],
)
def test_the_best_step_follows_the_metrics_direction(metric, values, best):
    records = [{"step": step, "split": "validation", metric.name: value} for step, value in enumerate(values, start=1)]
    assert f"best {best}" in plots.validation_curve(records, metric)
    assert "at step 3" in plots.validation_curve(records, metric, best_step=3)


def test_a_repeated_step_keeps_its_last_value():
    records = [{"step": 1, "split": "train", "loss": 1.0}, {"step": 1, "split": "train", "loss": 2.0}, {"step": 2, "split": "train", "loss": True}]
    assert plots.points(records, "train", "loss") == [(1, 2.0)]


def test_groups_that_never_move_are_named_and_depth_orders_the_rest():
    records = [{"step": step, "split": "travel", "travel/head": 0.1 * step, "travel/stem": 0.0, "travel/block_0": 0.01} for step in (1, 2)]
    drawing, still = plots.per_group(records, "travel", ["stem", "block_0", "head"])
    assert still == ["stem"]
    assert [plots.depth_colour(place, 3) in drawing for place in range(3)] == [False, True, True]


def test_the_depth_colours_grow_lighter_from_stem_to_head():
    luminance = [
        sum(weight * int(colour[at : at + 2], 16) for weight, at in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))
        for colour in (plots.depth_colour(i, 5) for i in range(5))
    ]
    assert luminance == sorted(luminance)


@pytest.mark.parametrize("value", [None, [], [[1, 2]], [[1, 2], [3]], "x", [["a", "b"], ["c", "d"]], [[math.nan]]])
def test_what_is_no_square_matrix_is_none(value):
    assert confusion.as_matrix(value) is None


def test_the_confusion_matrix_counts_in_its_tooltips():
    drawing = confusion.draw(np.array([[3.0, 1.0], [0.0, 4.0]]), ["cat", "dog"])
    assert "1 of 4 cat predicted as dog (25.0%)" in drawing
    assert drawing.count("<rect") == 1 + 3


def test_long_names_keep_their_end():
    assert figures.short("some long class 17") == "some lon…lass 17"
    assert figures.short("short") == "short"


def test_the_reliability_bins_hold_every_prediction():
    confidence = np.array([0.05, 0.95, 1.0, 0.0, math.nan])
    drawing = figures.reliability(confidence, np.array([True, True, False, False, True]))
    assert sum(int(number) for number in re.findall(r"% of (\d+) right", drawing)) == 2 * 4
