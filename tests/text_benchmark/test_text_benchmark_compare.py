"""What the seeds of two libraries say together, and the page made of it."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from benchmarks.text import compare, data, page
from benchmarks.text.peer import Run
from benchmarks.text.settings import Settings


def test_a_mean_has_students_interval():
    values = [0.80, 0.82, 0.87]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert compare.mean(values) == pytest.approx({"value": np.mean(values), "low": low, "high": high})


def test_a_difference_has_welchs_interval():
    one, other = [0.80, 0.82, 0.87], [0.70, 0.71, 0.69]
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    found = compare.difference(one, other)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["value"] == pytest.approx(0.13)


def test_seeds_that_do_not_vary_have_an_interval_of_no_width():
    assert compare.difference([0.5, 0.5, 0.5], [0.4, 0.4, 0.4]) == pytest.approx({"value": 0.1, "low": 0.1, "high": 0.1})


def made(ours, theirs):
    baselines = {"probe": {"accuracy": {"value": 0.61}}, "majority": {"log_loss": {"value": 1.0}}}
    more = {"test": {"value": ours[0], "low": 0.1, "high": 0.9}, "warnings": ["42% of the tokens are unknown"], "baselines": baselines}
    return {
        "ftjax": [Run(value, 10.0 + index, 3.0, 1.0, more) for index, value in enumerate(ours)],
        "trainer": [Run(value, 2 * (10.0 + index)) for index, value in enumerate(theirs)],
    }


@pytest.mark.parametrize(("theirs", "word", "agree"), [([0.80, 0.81, 0.79], "yes", True), ([0.60, 0.61, 0.59], "no", False)])
def test_the_page_says_whether_the_means_agree_and_how_fast_each_was(theirs, word, agree):
    row = compare.summary(data.named("trec"), Settings(), made([0.80, 0.82, 0.78], theirs))
    assert row["agree"] is agree
    assert row["ratio"] == 2.0
    text = page.render({"settings": dataclasses.asdict(Settings()), "rows": [row], "versions": {"ftjax": "0.1.0"}})
    assert f"| {word} | 0.610 | - |" in text
    assert "| trec | 1200 | 90 | 0.0001 | 64 | 11.0 | 22.0 | 2.00 | 3.0 |" in text
    assert "- trec: 42% of the tokens are unknown" in text
    assert "ftjax 0.1.0" in text


def test_one_seed_agrees_with_nothing():
    row = compare.summary(data.named("trec"), Settings(), made([0.80], [0.80]))
    assert row["agree"] is None
    assert "| one seed |" in page.render({"settings": dataclasses.asdict(Settings()), "rows": [row], "versions": {}})


def test_a_finished_run_is_not_made_again_unless_its_settings_changed(tmp_path, monkeypatch):
    calls = []

    def run(*arguments):
        calls.append(arguments)
        return Run(0.5, 1.0)

    monkeypatch.setattr(compare.peer, "run", run)
    monkeypatch.setattr(compare, "minilm", lambda: tmp_path)
    trec = data.named("trec")
    for text_set in (trec, trec, dataclasses.replace(trec, rate=1e-5)):
        found = compare._run("trainer", text_set, Settings(), 0, tmp_path, tmp_path)
        assert found == Run(0.5, 1.0)
    assert len(calls) == 2
