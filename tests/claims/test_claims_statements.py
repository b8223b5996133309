"""The claims name what is measured, and each reading of a difference is what it says."""

import dataclasses

import numpy as np
import pytest
from claims_parts import made_up

from benchmarks.claims import experiments, running, statements
from benchmarks.claims.experiments import EXPERIMENTS, RATES, SPAN
from benchmarks.claims.statements import CLAIMS, Claim


def test_every_claim_is_about_something_measured_and_can_be_judged():
    measured = made_up(len(RATES), 4)
    for claim in CLAIMS:
        assert all(name in measured[unit] for _, unit, name in claim.terms), claim.name
        assert statements.judge(claim, measured, RATES), claim.name


def test_every_arm_of_every_experiment_serves_a_claim():
    needed = {unit for claim in CLAIMS for unit in statements.needs(claim)}
    assert needed == {f"{experiment.name}/{arm.name}" for experiment in EXPERIMENTS for arm in experiment.arms}


def test_names_are_unique():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)


def test_tuned_takes_the_rate_that_the_seeds_own_validation_likes():
    unit = {"validation": [[90, 80], [95, 80], [10, 99]], "id": [[1, 2], [3, 4], [5, 6]]}
    assert statements.tuned(unit, "id").tolist() == [3, 6]
    assert statements.chosen({"validation": [[5, 5], [5, 7]]}).tolist() == [0, 1]


def test_on_wise_fts_curve_validation_is_read_at_the_same_share():
    unit = {"validation": [[9.0], [1.0]], "validation@0.5": [[1.0], [9.0]], "id@0.5": [[10.0], [20.0]]}
    assert statements.tuned(unit, "id@0.5").tolist() == [20.0]


def test_the_best_share_is_chosen_on_validation_from_the_inside_of_the_curve():
    shares = ("0", "0.25", "0.5", "0.75")
    found = {f"validation@{share}": np.array([[value]]) for share, value in zip(shares, (99.0, 50.0, 70.0, 60.0))}
    found |= {f"id@{share}": np.array([[value]]) for share, value in zip(shares, (1.0, 2.0, 3.0, 4.0))}
    assert {name: values.tolist() for name, values in experiments._at_best(found, ("validation", "id")).items()} == {
        "validation@best": [[70.0]],
        "id@best": [[3.0]],
    }


def test_averaged_leaves_the_destructive_rates_out():
    unit = {"id": [[float(rate in SPAN)] for rate in RATES]}
    assert statements.averaged(unit, "id", RATES, SPAN).tolist() == [1.0]


def _two_arms(better):
    measured = made_up(len(RATES), 8)
    base = np.asarray(measured["shift/full"]["ood"])
    measured["shift/lp_ft"]["ood"] = (base + better + 0.1 * np.random.default_rng(1).normal(size=base.shape)).tolist()
    measured["shift/lp_ft"]["validation"] = measured["shift/full"]["validation"]
    return measured


@pytest.mark.parametrize(("better", "verdict"), [(3.0, "holds"), (0.0, "refuted"), (-3.0, "refuted")])
def test_a_claim_holds_or_is_refuted_by_the_numbers(better, verdict):
    claim = next(claim for claim in CLAIMS if claim.name == "lp_ft_ood")
    assert {one.reading: one.verdict for one in statements.judge(claim, _two_arms(better), RATES)} == {"tuned": verdict, "averaged": verdict}


def test_seeds_are_paired():
    measured = _two_arms(3.0)
    for arm in ("full", "lp_ft"):
        measured[f"shift/{arm}"]["ood"] = (np.asarray(measured[f"shift/{arm}"]["ood"]) + 20 * np.arange(8)).tolist()
    claim = next(claim for claim in CLAIMS if claim.name == "lp_ft_ood")
    assert all(one.verdict == "holds" for one in statements.judge(claim, measured, RATES))


def test_the_same_arm_twice_is_inconclusive_and_a_biased_one_is_caught():
    measured = made_up(len(RATES), 8)
    claim = next(claim for claim in CLAIMS if claim.name == "control_same")
    assert [one.verdict for one in statements.judge(claim, measured, RATES)] == ["inconclusive"] * 2
    measured["shift/other_order"]["ood"] = (np.asarray(measured["shift/full"]["ood"]) + 1).tolist()
    assert [one.verdict for one in statements.judge(claim, measured, RATES)] != ["inconclusive"] * 2


def test_travel_that_orders_accuracy_has_rank_correlation_minus_one():
    measured = made_up(len(RATES), 4)
    for unit in statements.needs(Claim(name="", paper="", says="", kind="order")):
        measured[unit]["ood"] = (-np.asarray(measured[unit]["travel"])).tolist()
    assert statements.rank_correlations(measured) == pytest.approx([-1.0] * 4)


def test_a_claim_about_one_rate_reads_that_rate():
    claim = Claim(name="", paper="", says="", terms=((1.0, "a", "id"),), over=(1e-2,), tuned=None)
    measured = {"a": {"id": [[float(rate)] * 2 for rate in RATES], "validation": [[0.0] * 2 for _ in RATES]}}
    (only,) = statements.judge(claim, measured, RATES)
    assert (only.reading, only.effect.mean) == ("averaged", pytest.approx(1e-2))


def test_a_grid_without_the_claims_rates_makes_no_average():
    claim = Claim(name="", paper="", says="", terms=((1.0, "a", "id"),), over=(1e-2,), tuned=0.0)
    measured = {"a": {"id": [[1.0, 2.0]], "validation": [[0.0, 0.0]]}}
    assert [one.reading for one in statements.judge(claim, measured, (1e-3,))] == ["tuned"]


def test_json_keeps_what_was_judged():
    claim = next(claim for claim in CLAIMS if claim.name == "lp_ft_ood")
    said = running.judged(claim, _two_arms(3.0), RATES)
    assert said["statements"][0].keys() == {"reading", "verdict", "at_least", "mean", "se", "t", "n", "positive"}
    assert dataclasses.asdict(claim)["says"] == said["says"]


def test_a_unit_is_measured_once_and_read_back(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"id": [[1.0, 2.0]]}

    first = running._once(tmp_path / "key", "shift/full", measure)
    assert running._once(tmp_path / "key", "shift/full", measure) == first
    assert len(calls) == 1
    running._once(tmp_path / "other", "shift/full", measure)
    assert len(calls) == 2


def test_another_seed_count_or_grid_is_another_measurement(shared_data, monkeypatch):
    monkeypatch.setenv("FTJAX_SHARED_DATA", str(shared_data))
    keys = {running._key(seeds, rates) for seeds in (4, 8) for rates in (RATES, RATES[:2])}
    assert len(keys) == 4


def test_only_the_experiments_that_a_claim_needs_are_run():
    needed = running._needed([claim for claim in CLAIMS if claim.name == "tenfold"])
    assert {experiment.name: arms for experiment, arms in needed.items()} == {"labels_60": ["full"], "labels_600": ["scratch"]}
