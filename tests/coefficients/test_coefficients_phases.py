"""Phases: who trains when, read off the table's schedules."""

import itertools
import re

import pytest

from ftjax.coefficients.phases import phases
from ftjax.errors import ConfigError

HEAD = {"head/kernel", "head/bias"}
PROBE_FIRST = (("0%", 0.0), ("50%", 0.0), ("50%", 1.0))


def names(law, **fields) -> list[tuple[int, int, set[str]]]:
    return [(phase.start, phase.stop, set(phase.live)) for phase in phases(law(**fields).table)]


def test_a_run_whose_coefficients_never_rest_is_one_phase(law) -> None:
    (one,) = phases(law(rules=(("group:head", 1.0), ("group:norm", 0.0), (".*", (("0%", 0.5), ("100%", 1.0))))).table)
    assert (one.start, one.stop) == (0, 20)
    assert "norm/scale" not in one.live
    assert set(one.cohorts.values()) == {0}


def test_a_body_that_waits_is_still_in_the_first_phase(law) -> None:
    first, second = phases(law(rules=(("group:head", 1.0), (".*", PROBE_FIRST))).table)
    assert (first.start, first.stop, set(first.live)) == (0, 10, HEAD)
    assert (second.start, second.stop) == (10, 20)
    assert {path: second.cohorts[path] for path in ("head/bias", "norm/scale")} == {"head/bias": 0, "norm/scale": 10}


def test_a_phase_says_how_many_parameters_train_and_in_which_groups(law) -> None:
    table = law(rules=(("group:head", 1.0), (".*", PROBE_FIRST))).table
    first, second = (phase.to_json(table) for phase in phases(table))
    assert first == {"start": 0, "stop": 10, "live_parameters": 8, "groups": ["head"]}
    assert second == {"start": 10, "stop": 20, "live_parameters": 53, "groups": ["stem", "block_0", "block_1", "norm", "head"]}


def test_arithmetic_keeps_one_phase_and_everybody_in_it(law) -> None:
    (one,) = phases(law(rules=(("group:head", 1.0), (".*", PROBE_FIRST))).table, "arithmetic")
    assert (one.start, one.stop, len(one.live)) == (0, 20, 9)


def test_a_leaf_that_rests_again_is_still_again_and_was_trained(law) -> None:
    back = (("0%", 1.0), ("50%", 1.0), ("50%", 0.0))
    first, second = phases(law(rules=(("group:head", 1.0), (".*", back))).table)
    assert "norm/scale" in first.live
    assert set(second.live) == HEAD
    assert second.trained == first.live


def test_a_single_step_of_zero_makes_no_phase(law) -> None:
    assert len(phases(law(rules=((".*", (("0%", 0.0), ("50%", 1.0), ("100%", 0.0))),)).table)) == 1


def test_gradual_unfreezing_goes_from_the_head_to_the_stem_by_the_models_depth(law) -> None:
    found = names(law, unfreeze_every="4 steps")
    assert [(start, stop) for start, stop, _ in found] == [(0, 4), (4, 8), (8, 12), (12, 20)]
    assert found[0][2] == HEAD | {"norm/scale"}
    assert found[1][2] - found[0][2] == {"encoder/block_1/mlp/up/kernel", "encoder/block_1/mlp/up/bias"}
    assert found[3][2] - found[2][2] == {"stem/patch/kernel", "stem/position"}


def test_unfreezing_that_never_reaches_the_stem_is_refused(law) -> None:
    message = "coefficient.unfreeze_every: '7 steps' is 7 steps, so stem would start at step 21 of a run of 20; at most 6 steps reach every group"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        names(law, unfreeze_every="7 steps")


def test_unfreezing_and_a_schedule_cannot_both_say_when_a_leaf_starts(law) -> None:
    with pytest.raises(
        ConfigError, match=r"^coefficient.unfreeze_every and a schedule in coefficient.rules both say when a parameter starts; give one of them$"
    ):
        names(law, rules=(("group:stem", PROBE_FIRST), (".*", 1.0)), unfreeze_every="2 steps")


def test_phases_tile_the_run(law) -> None:
    found = phases(law(unfreeze_every="3 steps").table)
    assert found[0].start == 0
    assert found[-1].stop == 20
    assert all(left.stop == right.start for left, right in itertools.pairwise(found))
    assert all(left.live != right.live for left, right in itertools.pairwise(found))
