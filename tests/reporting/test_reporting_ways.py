"""The report's lines on how the data were split, sampled and mixed; nothing where nothing was asked for."""

from __future__ import annotations

from ftjax.reporting.plan_tables import _data_facts


def test_split_sampling_and_mixture_are_lines_of_the_report() -> None:
    sets = [{"name": "first", "share_before": 0.8, "share_drawn": 0.6}, {"name": "more", "share_before": 0.2, "share_drawn": 0.4}]
    sampling = {"labels_per_class": None, "rows_before": 40, "rows_after": 4, "short": [], "fraction": 0.1, "raised": {}, "shares": {"before": {"cat": 0.5}}}
    split = {"way": "group", "group": "patient", "torn": {"p1": ["train", "test"]}, "folds": 5, "fold": 0, "test_fold": None}
    assert dict(_data_facts({"split": split, "sampling": sampling, "mixture": {"sets": sets}})) == {
        "Split": "way: group, group: patient, torn: 1 groups, folds: 5, fold: 0",
        "Sampling": "rows_before: 40, rows_after: 4, fraction: 0.1",
        "Mixture": "first (80.0% of the rows, 60.0% of the draws); more (20.0% of the rows, 40.0% of the draws)",
    }


def test_a_plain_run_has_none_of_them_and_damaged_reports_no_more() -> None:
    assert _data_facts({"sampling": {"labels_per_class": None, "rows_before": 4, "rows_after": 4, "short": []}}) == []
    assert _data_facts({"sampling": 3, "split": [], "mixture": {"sets": 5}}) == []
    assert dict(_data_facts({"mixture": {"sets": [{}]}})) == {"Mixture": "None (? of the rows, ? of the draws)"}
