"""The page of a recommender: curves beside the baselines', popularity, users with their lists, and the log; whatever the files hold."""

from __future__ import annotations

import re

import pytest
from recommendation_run import data_json, evaluation_json, write_recommendation_run

from ftjax.reporting import ranking_figures, recommendation, wording
from ftjax.reporting.html import page
from ftjax.reporting.record import read_run


def rendered(folder, **changes):
    return page(read_run(write_recommendation_run(folder, **changes)))


def test_a_run_is_shown_beside_its_baselines_with_users_and_its_log(tmp_path):
    html = rendered(tmp_path)
    assert "cannot be drawn" not in html
    assert html.count("<svg") >= 6
    for text in ("Hit rate by the length of the list", "NDCG by the length of the list", "Popularity against hit rate", "Share of the events by popularity"):
        assert text in html
    for text in ("Most popular", "Item-kNN", "This run beside its baselines", "ranked among all items", "rank 8,123", "user 414", "the newest after 34 more"):
        assert text in html
    assert '<mark class="right">Heat (1995)</mark>' in html
    assert "each user&#39;s last event tests" in html
    assert "7,323 events" in html
    assert "1 event could not be used" in html
    assert "exact copies" not in html


def test_a_sampled_ranking_is_called_one(tmp_path):
    html = rendered(tmp_path, sampled="_sampled_99")
    assert "Test NDCG at 10, among 99 drawn ones" in html
    assert "ranked among a sample only: far above what all items would give" in html


def test_titles_and_bodies_of_items_are_escaped_and_made_readable(tmp_path):
    hostile = {"id": "<b>", "label": "<script>x</script>", "rank": 2, "history": ["a\x00b", "x" * 9000], "recommended": ["<img src=x>", "ok"], "known": 2}
    html = rendered(tmp_path, test=evaluation_json([hostile]))
    assert "<script>x" not in html
    assert "<img src=x>" not in html
    assert "\x00" not in html


@pytest.mark.parametrize(
    "test",
    [
        {"recommendation": {}},
        {"recommendation": {"k": "ten", "curves": [], "popularity": [None, {"from": 1}]}},
        {"recommendation": {"curves": {"k": [1], "hr": [None]}}, "errors": [{}, 7]},
        {"recommendation": {"popularity": [{"from": 0, "to": None, "users": 0, "hit_rate": None}]}},
    ],
)
def test_files_that_lack_something_cost_only_that(tmp_path, test):
    html = rendered(tmp_path, test=test)
    assert "cannot be drawn" not in html
    assert "This run beside its baselines" in html


def test_a_log_without_times_says_so():
    data = data_json()
    del data["interactions"]["from"]
    assert dict(recommendation.facts(data))["Time"] == "in the order of the lines"
    assert recommendation.log({"source": "table"}) == {}
    data["interactions"]["split"] = {"way": "time", "validation_from": "2012-11-24", "test_from": "2016-04-25"}
    assert dict(recommendation.facts(data))["Split"] == "from 2012-11-24 validates, from 2016-04-25 tests"


def test_a_log_has_tables_for_the_terminal():
    titles = {title: rows for title, _, rows in recommendation.terminal(data_json())}
    assert list(titles) == ["rows", "log", "spread", "left out"]
    assert titles["rows"][2] == ("test", "40,226", "6.00", "206 (0.5%)", "16,460 (40.9%)", "4,018 (10.0%)")
    assert titles["left out"][0] == ("recommendation.item_core=5", "4,342 items, 7,323 events")


def test_drawings_hold_what_they_say():
    drawn = str(ranking_figures.curves({"This run": [(1, 0.1), (20, 0.4)], "Most popular": [(1, 0.0), (20, 0.1)]}, "x"))
    assert "This run, 20 items: 40.00%" in drawn
    assert ranking_figures.curves({"This run": [(1, 0.1)]}, "x") == ""
    bars = str(ranking_figures.by_popularity([{"from": 0, "to": 0, "users": 1, "hit_rate": 0.25}, {"from": 1, "to": None, "users": 3, "hit_rate": None}], 10))
    assert "0 training events: 1 users, 25.0% of all" in bars
    assert "among the first 10 for 25.0%" in bars
    assert len(re.findall("<rect", bars)) == 5
    assert ranking_figures.concentration([]) == ""


@pytest.mark.parametrize(
    ("name", "title", "value", "told"),
    [
        ("ndcg_at_10", "NDCG at 10", 0.01874, "0.0187"),
        ("hr_at_10", "Hit rate at 10", 0.0338, "3.38%"),
        ("hr_at_20", "Hit rate at 20", 0.338, "33.8%"),
        ("cold_hr_at_10_sampled_99", "Hit rate at 10 of cold items, among 99 drawn ones", 0.5, "50.0%"),
        ("popularity_ratio_at_10", "Popularity ratio at 10", 10.5, "10.500"),
        ("novelty_at_10", "Novelty in bits at 10", 9.25, "9.250"),
        ("mrr", "Mean reciprocal rank", 0.8, "0.800"),
    ],
)
def test_metrics_of_lists_are_called_what_people_call_them(name, title, value, told):
    assert wording.title(name) == title
    assert wording.metric(name, value) == told
    assert not wording.lower_is_better(name)


def test_the_ends_of_an_interval_have_the_decimals_of_their_value():
    assert wording.with_interval("hr_at_10", {"value": 0.0902, "low": 0.0699, "high": 0.1162}) == "9.02% [6.99, 11.62]"
