"""What the cells of the adapter benchmark say together, and the page made of it."""

import re

import numpy as np
import pytest

from benchmarks.adapters import arms, clock, page


def cell(answers, factor=4.0, travel=0.01):
    tested = [{"accuracy": answer.count("1") / len(answer), "correct": answer, "travel": travel} for answer in answers]
    parameters = {"live": 1_234, "body": 1_000, "total": 9_999}
    return {"recipe_rate": 1e-3, "factor": factor, "trials": [], "tested": tested, "parameters": parameters, "memory": {"arguments": 2e6, "temporaries": 3e6}}


def test_the_interval_is_about_the_mean_of_the_seeds():
    found = page.interval(page.right(cell(["1100", "1000", "1101"])))
    assert found["value"] == pytest.approx(6 / 12)
    assert found["low"] < found["value"] < found["high"]


def test_the_difference_to_full_is_paired():
    """Methods that are right on the same examples differ by nothing, however few these are."""
    full = cell(["1100"] * 3)
    assert page.row("IA3", cell(["1100"] * 3), full)["above_full"] == pytest.approx({"value": 0.0, "low": 0.0, "high": 0.0})
    assert page.row("full", full, full)["above_full"] is None


def test_ratios_are_of_one_round():
    assert clock.ratio({"a": [2.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]}, "a", "b") == (2.0, 2.0, 3.0)


def test_the_page_has_a_row_for_each_finished_method_and_marks_the_edge_of_the_grid():
    cells = {"trec": {"full": cell(["1100"] * 3), "IA3": cell(["1000"] * 3, factor=arms.FACTORS[-1])}, "sst2": {}}
    times = {"set": "trec", "rounds": 2, "steps": 3, "load": [1.0, 2.0], "seconds": {"full": [1.0, 1.0], "IA3": [0.5, 0.7]}}
    found = page.results(cells, {"text": times})
    assert list(found["sets"]) == ["trec"]
    lines = page.render(found).splitlines()
    (line,) = [line for line in lines if line.startswith("| IA3 |")]
    assert "| 0.016 (16*) | 0.250 (0.250 to 0.250) |" in line
    assert "-0.250" in line
    assert line.endswith("| 1,234 | 0.01 | 5 | 0.60 (0.50 to 0.70) |")
    assert not any(re.match(r"\| full \|.*\*", line) for line in lines)


def test_every_arm_is_a_configuration_with_an_open_rate(tmp_path):
    assert len({arm.name for arm in arms.arms()}) == len(arms.arms())
    for arm in arms.arms():
        assert arms.configuration("eurosat", arm, 0, tmp_path).optimizer.learning_rate is None
    assert np.all(np.diff(arms.FACTORS) > 0)
