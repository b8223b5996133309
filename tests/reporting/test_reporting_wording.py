"""Numbers as people read them; nothing that is not finite ever becomes a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.reporting import wording


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (wording.number, 0.4123, "0.412"),
        (wording.number, 1234.5, "1,234"),
        (wording.number, 0.00012, "1.2e-04"),
        (wording.number, 3e-4, "3e-04"),
        (wording.number, 1e30, "1e+30"),
        (wording.number, 0, "0"),
        (wording.number, None, "–"),
        (wording.setting, 0.05, "0.05"),
        (wording.setting, 1e-5, "1e-5"),
        (wording.setting, None, "–"),
        (wording.percent, 0.9644, "96.4%"),
        (wording.percent, math.nan, "nan"),
        (wording.count, 12345, "12,345"),
        (wording.compact, 5717416, "5.72 M"),
        (wording.compact, 950, "950"),
        (wording.duration, 0.42, "0.42 s"),
        (wording.duration, 59.7, "1 min 0 s"),
        (wording.duration, 75.2, "1 min 15 s"),
        (wording.duration, 7325, "2 h 2 min"),
        (wording.clock, 75.2, "1:15"),
        (wording.clock, 7325, "2:02:05"),
        (wording.clock, None, "-:--"),
        (wording.clock, math.inf, "-:--"),
        (wording.shape, [192, 10], "192 × 10"),
        (wording.shape, [], "scalar"),
        (wording.shape, None, "–"),
        (wording.value, None, "none"),
        (wording.value, [1, "a"], '[1, "a"]'),
        (wording.value, True, "true"),
        (wording.title, "balanced_accuracy", "Balanced accuracy"),
        (wording.method, "full", "Full fine-tuning"),
        (wording.printable, "a\x1b[2J\n", "a\\x1b[2J\n"),
    ],
)
def test_values_are_written_for_people(function, value, text):
    assert function(value) == text


@settings(deadline=None)
@given(st.floats(-1e307, 1e307).filter(bool))
def test_a_number_that_is_not_zero_is_never_written_as_zero(value):
    assert float(wording.number(value).replace(",", "")) == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("function", [wording.number, wording.setting, wording.percent, wording.count, wording.compact, wording.duration])
def test_what_is_not_finite_stays_what_it_is(function, value):
    assert function(value) == str(value)


def test_an_interval_has_the_unit_of_its_metric():
    entry = {"value": 0.9593, "low": 0.937, "high": 0.9778}
    assert wording.with_interval("accuracy", entry) == "95.9% [93.7, 97.8]"
    assert wording.with_interval("log_loss", entry) == "0.959 [0.937, 0.978]"
    assert wording.with_interval("accuracy", 0.5) == "50.0%"


@pytest.mark.parametrize(("name", "less"), [("accuracy", False), ("log_loss", True), ("validation/ece", True), ("macro_f1", False)])
def test_directions_are_known(name, less):
    assert wording.lower_is_better(name) is less
