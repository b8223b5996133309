"""The generated page: written from the JSON alone, with the rows that do not hold."""

import pytest
from claims_parts import made_up

from benchmarks.claims import page, running, statements
from benchmarks.claims.__main__ import JSON, PAGE
from benchmarks.claims.experiments import RATES
from ftjax import files


def test_the_committed_page_is_the_one_its_json_gives():
    assert JSON.exists() == PAGE.exists()
    if JSON.exists():
        assert PAGE.read_text() == page.render(files.read_json(JSON)), "python -m benchmarks.claims --page-only"


@pytest.fixture
def found():
    values = made_up(len(RATES), 4)
    return {
        "settings": running.settings(4, RATES) | {"pretrained": [90.0, 86.4]},
        "seconds": 600.0,
        "versions": {"jax": "0.0"},
        "processor": "a processor",
        "claims": [running.judged(claim, values, RATES) for claim in statements.CLAIMS],
        "identity": 1e-6,
        "units": {name: {"seconds": 1.0, **statements.summary(unit)} for name, unit in values.items()},
    }


def test_every_claim_is_on_the_page_whatever_its_verdict(found):
    text = page.render(found)
    assert {one["verdict"] for claim in found["claims"] for one in claim["statements"]} >= {"refuted", "inconclusive"}
    assert all(f"| {claim.says} | {claim.paper} |" in text for claim in statements.CLAIMS)


def test_the_page_says_at_what_scale(found):
    text = page.render(found)
    assert "the direction\nreplicates at toy scale" in text
    assert "No paper's number is printed beside ours." in text


def test_a_claim_about_one_rate_names_it(found):
    rows = [line for line in page.render(found).splitlines() if line.startswith("| Of a hot run")]
    assert [row.split(" | ")[2] for row in rows] == ["at 0.01"]


def test_every_arm_and_rate_is_on_the_page(found):
    text = page.render(found)
    assert all(f"### {experiment['name']}: " in text for experiment in found["settings"]["experiments"])
    assert text.count("| layer_decay | id |") == 2


def test_every_arm_says_how_it_differs_from_full_fine_tuning(found):
    text = page.render(found)
    lines = ("| full | nothing |", "| tenth | c: head 1, the rest 0.1 |", "| l2_sp | pull 10 |", "| lp_ft | rest 0.333 |", "| scratch | start scratch |")
    assert all(line in text for line in lines)


def test_controls_that_are_right_are_silent(found):
    for claim in found["claims"]:
        for one in claim["statements"]:
            one["verdict"] = claim["control"] or one["verdict"]
    assert page.failed_controls(found) == []


def test_a_control_that_finds_something_is_named(found):
    claim = next(claim for claim in found["claims"] if claim["name"] == "control_same")
    claim["statements"][0] |= {"verdict": "holds", "mean": 1.0, "se": 0.1}
    assert "The same arm with another order of the data is no different (ood) (tuned): holds, +1.00 +- 0.10" in page.failed_controls(found)


def test_an_identity_that_is_broken_is_named(found):
    assert "c = 0.1 differs from a tenth of the learning rate by 0.01, more than 1e-05" in page.failed_controls(found | {"identity": 0.01})
    assert "it misses its bound of\n1e-05" in page.render(found | {"identity": 0.01})
