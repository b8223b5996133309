"""The page of `ftjax data report`: strict, complete in itself, escaped; and what report.html says of near duplicates."""

from __future__ import annotations

import pytest
from reporting_run import write_run
from strict_page import check

from ftjax.files import read_json, write_json
from ftjax.reporting import data_page, render

EVIL = '"><script>alert(1)</script>\x1b[2J{{ 7 * 7 }}'
PIXEL = "data:image/jpeg;base64,/9j/4AAQ"


def findings(kind="texts", ids=("a", "b", EVIL)):
    group = {"ids": list(ids), "splits": ["train", "train", "test"], "labels": ["x", EVIL, "x"]}
    return {
        "kind": kind,
        "source": "table",
        "why": f"guessed: {EVIL}",
        "path": f"/data/{EVIL}",
        "seconds": 1.5,
        "classes": ["x", EVIL],
        "splits": {"train": {"rows": 1200, "per_class": {"x": 1100, EVIL: 100}}, "test": {"rows": 20, "per_class": {"x": 20, EVIL: 0}}},
        "rejected": [{"file": EVIL, "why": EVIL}],
        "ignored": [{"file": EVIL, "why": "no image"}],
        "columns": {"text": {"column": EVIL, "origin": "guessed", "why": EVIL}},
        "unused_columns": [EVIL],
        "conversions": {EVIL: 2},
        "duplicates": {"policy": "report", "within": [{"split": "train", "ids": ["c", "d"]}], "across": [group], "conflicting": [group], "dropped": []},
        "near_duplicates": {
            "policy": "report",
            "threshold": 0.8,
            "groups": [{**group, "similarity": [0.81, 0.93], "across": True, "conflicting": True}],
            "across": 1,
            "conflicting": 1,
            "too_small": 3,
            "leaking": {"validation": 0, "test": 1},
        },
        "advice": [{"id": "a", "why": "", "sure": True}, {"id": "b", "why": "", "sure": False}],
        "samples": {"x": ["a"], EVIL: ["b"]},
        "warnings": [EVIL],
    }


def written(tmp_path, report, seen):
    path = tmp_path / "page.html"
    path.write_text(data_page.page(report, seen))
    return path


def test_whatever_comes_from_the_data_is_text(tmp_path):
    texts = {"a": "how do I <b>top</b> up", "b": f"how do I {EVIL} up", EVIL: EVIL, "c": "same", "d": "same"}
    path = written(tmp_path, findings(), {name: {"id": name, "text": text} for name, text in texts.items()})
    text = check(path)
    assert "<script>alert" not in path.read_text()
    assert "how do I <b>top</b> up" in text
    assert "49" not in text
    for shown in (
        "1 group of near duplicates across splits",
        "1 row of test nearly like one of train",
        "3 pictures too small to compare",
        "2 sets: the same text but for white space",
        "similarity 0.810 to 0.930",
        "drop.txt names 1 row to leave out and 1 for you to judge",
        "1,200",
    ):
        assert shown in text, shown


@pytest.mark.parametrize("image", [PIXEL, "http://elsewhere/a.png", None])
def test_pictures_are_shown_from_inside_the_page_only(tmp_path, image):
    path = written(tmp_path, findings("images"), {name: {"id": name, "image": image} for name in ("a", "b", EVIL, "c", "d")})
    check(path)
    assert (PIXEL in path.read_text()) == (image == PIXEL)
    assert ('class="no-image"' in path.read_text()) == (image != PIXEL)
    assert "elsewhere" not in path.read_text()


def test_a_large_group_is_cut_and_says_so(tmp_path):
    report = findings(ids=[f"row {number}" for number in range(9)])
    for group in (report["duplicates"]["across"][0], report["near_duplicates"]["groups"][0]):
        group |= {"splits": ["train"] * 9, "labels": ["x"] * 9}
    assert len(data_page.shown(report)) == data_page.MEMBERS + 2 + 2
    assert "and 3 more" in check(written(tmp_path, report, {}))


def test_clean_data_say_so(tmp_path):
    report = findings() | {"rejected": [], "ignored": [], "warnings": [], "advice": []}
    report["duplicates"] = {"policy": "report", "within": [], "across": [], "conflicting": [], "dropped": []}
    report["near_duplicates"] = {"policy": "off"}
    text = check(written(tmp_path, report, {}))
    assert "Every row can be used, and nothing in one split was found again in another." in text
    assert "near duplicates" not in text


def test_suspects_are_in_the_lead_and_the_navigation(tmp_path):
    row = {"id": "a", "label": "x", "suggested": EVIL, "score": 0.1}
    noise = [{"given": "x", "truly": EVIL, "rows": 4.2, "share": 0.021}]
    labels = {"probe": {"accuracy": 0.9, "majority": 0.55}, "rows": [row, row], "noise": noise}
    far = {"neighbours": 10, "median": 3.0, "threshold": 7.5, "deviations": 2.5, "rows": [{"id": EVIL, "label": "x", "distance": 9.0}]}
    report = findings("images") | {"pretrained": EVIL, "label_errors": labels, "outliers": far}
    path = written(tmp_path, report, {"a": {"id": "a", "image": PIXEL}})
    text = check(path)
    assert "some rows cannot be used; 2 labels are probably wrong; 1 row is far from all others. The examples are below." in text
    assert "is right for 90.0% of them (the most frequent class alone: 55.0%)" in text
    assert "1 row far from all others" in text
    assert '<a href="#label_errors">Labels that are probably wrong</a><a href="#outliers">Rows far from all others</a>' in path.read_text()
    assert '<div class="gallery wrapped">' in path.read_text()
    tables = {title: rows for title, _, rows in data_page.tables(report)}
    assert tables["findings"][-2:] == [("rows that the probe of labels gets right", "90.0%"), ("rows of the most frequent class", "55.0%")]
    clean = {"policy": "report", "within": [], "across": [], "conflicting": [], "dropped": []}
    report |= {"rejected": [], "duplicates": clean, "near_duplicates": {"policy": "off"}}
    said = "Every row can be used, and nothing in one split was found again in another; 2 labels are probably wrong; 1 row is far from all others."
    assert said in check(written(tmp_path, report, {}))


def test_tables_for_the_terminal_hold_the_same_counts():
    tables = {title: rows for title, _, rows in data_page.tables(findings())}
    assert tables["rows"][0] == ("train", 1200, 2, 100, 1100)
    assert tables["classes"][0] == ("x", 1100, 20)
    assert ("rows of test nearly like one of train", "1") in tables["findings"]


def test_the_report_of_a_run_names_near_duplicates(tmp_path):
    run = write_run(tmp_path / "digits")
    assert "No near duplicates" not in check(render(run))
    stored = read_json(run / "data.json")
    write_json(run / "data.json", stored | {"near_duplicates": {"policy": "report", "groups": []}})
    assert "No near duplicates" in check(render(run))
    write_json(run / "data.json", stored | {"near_duplicates": findings()["near_duplicates"]})
    assert "1 group of rows that are almost the same, 1 across splits, 1 with different labels" in check(render(run))
    write_json(run / "data.json", stored | {"near_duplicates": {"groups": [None, 3, {"ids": 4}]}})
    assert "cannot be drawn" not in check(render(run))
