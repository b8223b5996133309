"""How far the run went, on the page: phases, direction, the curve against distance, what competed and what was forgotten."""

from __future__ import annotations

import json
import math
import re

import pytest
from reporting_run import BORDER, GROUPS, STEPS, after_json, coefficients_json, config_json, result_json, source_at, write_run

from ftjax.files import read_json, write_json
from ftjax.reporting import MetricsWriter, render
from ftjax.reporting.charts import Series, line_chart
from ftjax.reporting.distance import curve_caption, distance, phases
from ftjax.reporting.distance_plots import distance_curve, peak, source_accuracy, source_loss
from ftjax.reporting.plan_tables import anchors
from ftjax.reporting.plots import per_group
from ftjax.reporting.record import read_run

CURVE = after_json()["curve"]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "digits")


def titles(found):
    return [figure["title"] for figure in found["figures"]]


def test_the_section_shows_what_was_measured(run):
    found = distance(read_run(run))
    assert titles(found) == ["Travel", "Direction", "Update", "Accuracy against distance", "Forgetting: source accuracy", "Forgetting: source loss"]
    assert found["chosen"] == "Weights: WiSE-FT at 0.75 rather than the best checkpoint (validation accuracy 96.2% instead of 95.4%)."


def test_a_run_of_before_these_files_keeps_its_page(run):
    (run / "after.json").unlink()
    coefficients = coefficients_json()
    del coefficients["phases"]
    write_json(run / "coefficients.json", coefficients)
    with MetricsWriter(run, resume_step=0) as log:
        log.write(10, "travel", {"travel/head": 0.5, "update/head": 0.1})
    (run / "metrics.jsonl").write_text("".join(line for line in (run / "metrics.jsonl").read_text().splitlines(True) if '"source"' not in line))
    found = distance(read_run(run))
    assert titles(found) == ["Travel", "Update"]
    assert found["phases"] == []
    assert found["candidates"] == []
    assert "cannot be drawn" not in render(run).read_text()


# Phases


def test_a_group_that_starts_later_is_drawn_from_its_first_live_step(run):
    drawing, still = per_group(read_run(run).metrics, "travel", GROUPS)
    assert still == ["stem"]
    assert "head, step 10: " in drawing
    assert f"block_0, step {BORDER}: " not in drawing
    assert f"block_0, step {BORDER + 10}: " in drawing


def test_the_borders_of_phases_are_lines_in_every_chart_over_steps(run):
    page = render(run).read_text()
    assert page.count(f"<title>phase 2 begins at step {BORDER}</title>") == 7


def test_one_phase_needs_neither_lines_nor_a_table(run):
    coefficients = coefficients_json()
    coefficients["phases"] = coefficients["phases"][1:]
    write_json(run / "coefficients.json", coefficients)
    assert phases(read_run(run)) == []
    assert "phase 2 begins" not in render(run).read_text()


def test_several_phases_are_a_table(run):
    assert phases(read_run(run)) == [
        {"number": "1", "steps": f"0 – {BORDER}", "parameters": "970", "groups": "head"},
        {"number": "2", "steps": f"{BORDER} – {STEPS}", "parameters": "445,066", "groups": ", ".join(GROUPS[1:])},
    ]


@pytest.mark.parametrize("value", [3, {}, [None, 3], [{}, {"start": "x"}], [{}, {"start": 100, "groups": 3, "live_parameters": None}]])
def test_surprising_phases_never_cost_the_page(run, value):
    write_json(run / "coefficients.json", {**coefficients_json(), "phases": value})
    assert "cannot be drawn" not in render(run).read_text()


# Direction


def test_directions_are_drawn_around_zero_and_say_how_to_read_them(run):
    drawing, _ = per_group(read_run(run).metrics, "cosine", GROUPS)
    assert re.search(r'class="diagonal"', drawing)
    caption = next(figure["caption"] for figure in distance(read_run(run))["figures"] if figure["title"] == "Direction")
    assert "Positive: further away from the pretrained weights; negative: back home" in caption


# The curve


def test_the_curve_labels_its_points_by_their_share_of_the_way_and_marks_the_chosen_weights():
    drawing = distance_curve(CURVE, after_json()["candidates"], "wise_ft(0.75)")
    assert re.findall(r'text-anchor="middle">(0|0\.25|0\.5|0\.75|1)</text>', drawing)[-5:] == ["0", "0.25", "0.5", "0.75", "1"]
    assert ">chosen: WiSE-FT at 0.75, 96.2%</text>" in drawing
    assert drawing.count('class="candidate"') == 2
    assert "Greedy soup, distance 0.141: 95.5%" in drawing


def test_weights_beside_the_line_can_be_the_chosen_ones():
    drawing = distance_curve(CURVE, after_json()["candidates"], "ema")
    assert ">chosen: exponential average (EMA), 95.6%</text>" in drawing
    assert drawing.count('class="candidate"') == 1


def test_a_body_that_never_moved_has_no_curve():
    assert distance_curve([{**point, "distance": 0.0} for point in CURVE], [], "best_checkpoint") == ""
    assert distance_curve([], [], None) == ""


def test_a_curve_of_a_metric_that_falls_peaks_at_its_lowest():
    curve = [{"alpha": alpha, "distance": alpha, "log_loss": loss} for alpha, loss in ((0.0, 2.0), (0.5, 0.4), (1.0, 0.6))]
    assert peak(curve) == 0.5
    assert "Validation log loss against distance" in distance_curve(curve, [], None)


def test_the_caption_says_where_the_curve_peaks():
    assert curve_caption(CURVE).endswith("Where it peaks inside, the run went too far. Here it is best at 0.75.")
    rising = [{**point, "accuracy": point["alpha"]} for point in CURVE]
    assert curve_caption(rising).endswith("Here it is best at the end: there is no sign of that.")


@pytest.mark.parametrize(
    "value",
    [
        {"curve": 3, "candidates": "x", "chosen": 3},
        {"curve": [None, {}, {"alpha": 1}], "candidates": [None, {}]},
        {"curve": [{"alpha": 0.5, "distance": 0.1, "accuracy": math.inf}], "candidates": [{"name": "ema", "value": None, "distance": None}], "chosen": "ema"},
    ],
)
def test_surprising_candidates_never_cost_the_page(run, value):
    (run / "after.json").write_text(json.dumps(value))
    assert "cannot be drawn" not in render(run).read_text()


def test_candidates_are_listed_only_where_something_competed(run):
    found = distance(read_run(run))
    assert [row["name"] for row in found["candidates"] if row["chosen"]] == ["WiSE-FT at 0.75"]
    assert found["candidates"][-1] == {"name": "Greedy soup", "value": "95.5%", "distance": "0.141", "steps": "400, 350", "chosen": False}
    write_json(run / "after.json", {**after_json(), "candidates": after_json()["candidates"][:1], "chosen": "best_checkpoint"})
    assert distance(read_run(run))["candidates"] == []


# Forgetting


def test_forgetting_is_drawn_beside_its_value_before_training(run):
    metrics = read_run(run).metrics
    assert ">pretrained 82.0%</text>" in source_accuracy(metrics)
    assert ">pretrained 0.710</text>" in source_loss(metrics)


def test_without_labels_only_the_loss_is_drawn_and_says_against_what(run):
    records = [{"step": step, "split": "source", "source_loss": 0.5 + step, "source_divergence": float(step)} for step in (0, 10)]
    assert source_accuracy(records) == ""
    assert ">divergence</text>" in source_loss(records)
    write_json(run / "result.json", {**result_json(), "forgetting": {"reference": "pretrained answers"}})
    captions = [figure["caption"] for figure in distance(read_run(run))["figures"]]
    assert captions[-1].startswith("Loss on the source examples, against the pretrained model's own answers; ")


def test_a_log_that_begins_later_has_no_line_to_compare_with():
    assert "pretrained" not in source_loss([{"step": 10, "split": "source", **source_at(0.1)}, {"step": 20, "split": "source", **source_at(0.2)}])


def test_the_text_of_a_level_keeps_away_from_the_lines():
    falling = line_chart([Series("", [(0, 1.0), (50, 0.5), (100, 0.0)], "red")], "x", reference=(0.0, "level"))
    x, _ = map(float, re.search(r'x="([\d.]+)" y="([\d.]+)" class="reference"', falling).groups())
    assert x < 300, "the right end is where the line comes down"


# Anchors


def test_anchors_are_shown_only_where_something_holds(run):
    settings = config_json()["config"]
    assert anchors(settings) == ["pull 0.01 (L2-SP)", "ball of radius 0.5 × |θ₀| (l2 norm)"]
    assert anchors({"anchor": {"select": 1.0, "mixout": 0.1, "ball": 2.0, "ball_norm": "mars", "ball_unit": "absolute"}}) == [
        "ball of radius 2 (mars norm)",
        "selection 1 (SPD)",
        "mixout 0.1",
    ]
    assert '<th class="number">Anchor</th>' in render(run).read_text()
    free = config_json()
    free["config"]["anchor"] |= {"pull": None, "ball": None}
    write_json(run / "config.json", free)
    assert anchors(read_json(run / "config.json")["config"]) == []
    assert '<th class="number">Anchor</th>' not in render(run).read_text()
