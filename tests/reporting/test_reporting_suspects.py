"""Suspicious rows on the page of a run: what was given and what is suggested, with the example, escaped."""

from __future__ import annotations

from ftjax.reporting.suspects import suspects_of


def test_rows_bring_their_examples_and_say_how_they_were_chosen():
    row = {"id": "a:3", "split": "train", "label": "<b>good", "suggested": "bad", "score": 0.01, "example": {"text": "no <i>fun"}}
    noise = [{"given": "good", "truly": "bad", "rows": 4.2, "share": 0.021}]
    far = {"neighbours": 10, "median": 3.0, "threshold": 7.5, "deviations": 2.5, "rows": [{"id": "a:9", "split": "test", "label": "bad", "distance": 9.0}]}
    found = {"label_errors": {"probe": {"accuracy": 0.912, "majority": 0.3}, "rows": [row], "noise": noise}, "outliers": far}
    labels, outliers = suspects_of(found, "weights/here")
    assert labels["rows"][0]["note"] == "<b>good → bad"
    assert labels["rows"][0]["parts"] == ["no <i>fun"]
    assert labels["noise"] == ["good where it is bad: about 4 rows (2.1%)"]
    assert (
        "features of weights/here judges rows that it was not fitted on, and is right for 91.2% of them (the most frequent class alone: 30.0%)" in labels["how"]
    )
    assert outliers["rows"][0]["note"] == "bad, distance 9"
    assert "above 7.5 (2.5 robust deviations of the log)" in outliers["how"]
    assert [labels["kind"], outliers["kind"]] == ["label_errors", "outliers"]
    old = suspects_of({"label_errors": {"probe": {"accuracy": 0.912}, "rows": [row]}}, "weights/here")
    assert old[0]["how"].endswith("is right for 91.2% of them")
    assert suspects_of({}, None) == []
