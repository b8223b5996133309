"""The data map on the page: what is drawn, what is named, and what a damaged or absent file costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reporting_run import thumbnail, write_run

from ftjax.files import write_json
from ftjax.reporting import render
from ftjax.reporting.data_map import MOST_POINTS, band, data_map, section
from ftjax.reporting.record import read_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "digits")
    write_map(folder, [(0.1, 0.9, 1.0), (0.4, 0.5, 0.5), (0.3, 0.3, 0.2), (0.05, 0.02, 0.0)])
    return folder


def write_map(folder: Path, dots: list[tuple[float, float, float]], **shown: Any) -> None:
    lines: list[dict[str, Any]] = [
        {"id": f"train/{row}", "label": "one", "seen": 5, "variability": v, "confidence": c, "correctness": r} for row, (v, c, r) in enumerate(dots)
    ]
    lines.append({"id": "train/late", "label": "one", "seen": 0, "variability": None, "confidence": None, "correctness": None})
    (folder / "cartography.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{damaged\n[1]\n")
    item = {"id": "train/<3>", "label": 1, "seen": 5, "confidence": 0.02, "variability": 0.05, "correctness": 0.2}
    examples = {"hardest": [item | {"image": thumbnail(1)}], "ambiguous": [item]} | shown
    seen = {"rows": len(dots) + 1, "times_seen": {"least": 0, "mean": 5.04, "most": 6}, "never_seen": {"rows": 1, "ids": ["train/late"]}}
    write_json(folder / "cartography.json", seen | examples)


def test_every_example_is_a_dot_coloured_by_how_often_it_was_right(run: Path) -> None:
    found = section(read_run(run))
    assert found["svg"].count("<circle") == 4
    assert [(entry["name"], entry["count"]) for entry in found["legend"]] == [
        ("always right", "1"),
        ("right half the time or more", "1"),
        ("less often", "1"),
        ("never right", "1"),
    ]
    assert band(0.0)[0] == "never right"
    assert found["caption"].endswith("An example was seen 5.0 times on average. 1 examples were never seen and are not drawn.")
    page = render(run).read_text()
    assert 'href="#map"' in page
    assert "right 1 of 5 times" in page
    assert "2% ± 5%" in page
    assert "train/&lt;3&gt;" in page


def test_a_large_set_is_thinned_and_says_so(run: Path) -> None:
    write_map(run, [(0.1, 0.5, 1.0)] * (MOST_POINTS + 1))
    found = section(read_run(run))
    assert found["svg"].count("<circle") == MOST_POINTS // 2 + 1
    assert found["caption"].endswith("Drawn is one example in 2.")


def test_texts_are_shown_as_cards(run: Path) -> None:
    item = {"id": "a:1", "label": 1, "seen": 2, "confidence": 0.1, "variability": 0.2, "correctness": 0.5, "text": "<b>how</b> far"}
    write_map(run, [(0.1, 0.5, 1.0)], hardest=[item], ambiguous=[])
    write_json(run / "data.json", {"classes": ["zero", "one"], "tokens": {"buckets": [8]}})
    page = render(run).read_text()
    assert "&lt;b&gt;how&lt;/b&gt; far" in page
    assert "right 1 of 2 times" in page


def test_a_run_without_a_map_has_no_section_and_no_complaint(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "plain")
    assert section(read_run(folder)) == {}
    assert data_map([]) == ""
    page = render(folder).read_text()
    assert 'id="map"' not in page
    assert "cartography" not in " ".join(read_run(folder).notes)


def test_a_file_that_cannot_be_read_costs_only_itself(run: Path) -> None:
    (run / "cartography.json").write_text("{")
    found = read_run(run)
    assert "cartography.json cannot be read" in found.notes["cartography.json"]
    assert section(found)["svg"].count("<circle") == 4
