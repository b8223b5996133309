"""Who is anchored: pretrained matrices unless rules say otherwise, never what is new."""

import re

import pytest

from ftjax.coefficients import build_table
from ftjax.coefficients.anchors import forces
from ftjax.config import AnchorConfig, CoefficientConfig, Config, OptimizerConfig
from ftjax.durations import Clock
from ftjax.errors import ConfigError

SHAPES = {"stem/patch/kernel": (2, 3), "stem/patch/bias": (3,), "head/kernel": (3, 2), "head/bias": (2,)}


def table(anchor: AnchorConfig, **options: object) -> dict:
    config = Config(optimizer=OptimizerConfig(learning_rate=0.1), anchor=anchor)
    rows = build_table(config, SHAPES, ("stem", "head"), lambda path: path.split("/")[0], Clock(8, 80, 20), **options).rows
    return {row.path: row.anchor for row in rows}


def test_pretrained_matrices_are_held_vectors_and_new_leaves_are_free() -> None:
    assert table(AnchorConfig(pull=1.0)) == {"stem/patch/kernel": 1.0, "stem/patch/bias": 0.0, "head/kernel": 0.0, "head/bias": 0.0}


def test_a_kept_head_is_held_like_any_other_matrix() -> None:
    assert table(AnchorConfig(pull=1.0), new=())["head/kernel"] == 1.0


def test_the_head_may_be_held_with_another_strength() -> None:
    found = table(AnchorConfig(pull=1.0, rules=(("group:head", 0.1), (".*", 2.0))), new=())
    assert found == {"stem/patch/kernel": 2.0, "stem/patch/bias": 2.0, "head/kernel": 0.1, "head/bias": 0.1}


def test_a_rule_for_everything_leaves_new_leaves_out_by_construction() -> None:
    assert table(AnchorConfig(ball=0.1, rules=((".*", 1.0),)))["head/kernel"] == 0.0


@pytest.mark.parametrize(
    ("anchor", "new", "message"),
    [
        (
            AnchorConfig(pull=1.0, rules=(("group:head", 1.0), (".*", 1.0))),
            ("head/kernel", "head/bias"),
            "anchor.rules: rule 1 'group:head' holds head/kernel, head/bias, which have no pretrained value; "
            "give them 0, or weight decay through coefficient.decay_rules",
        ),
        (
            AnchorConfig(select=1.0),
            tuple(SHAPES),
            "anchor.select holds parameters near their pretrained values, and this run has none: every parameter is new",
        ),
        (
            AnchorConfig(rules=((".*", 1.0),)),
            (),
            "anchor.rules is set and nothing reads it; set one of anchor.pull, anchor.ball, anchor.select, anchor.mixout",
        ),
    ],
)
def test_an_anchor_that_would_do_nothing_is_refused(anchor: AnchorConfig, new: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        table(anchor, new=new)


def test_an_anchor_on_what_does_not_train_is_refused() -> None:
    """Only biases train, and those are free unless rules say otherwise."""
    config = Config(
        optimizer=OptimizerConfig(learning_rate=0.1), anchor=AnchorConfig(pull=1.0), coefficient=CoefficientConfig(rules=((".*/bias", 1.0), (".*", 0.0)))
    )
    message = "anchor.pull holds pretrained matrices, and none of that trains; leave it out, or name parameters that train in anchor.rules"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        build_table(config, SHAPES, ("stem", "head"), lambda path: path.split("/")[0], Clock(8, 80, 20))


def test_a_pull_that_overshoots_is_refused_with_the_limit() -> None:
    config = Config(optimizer=OptimizerConfig(learning_rate=1e-3), anchor=AnchorConfig(pull=10_000.0))
    with pytest.raises(ConfigError, match=r"^anchor.pull=10000 overshoots: learning rate x coefficient x pull is 10, .*; below 2e\+03 it is stable here"):
        build_table(config, SHAPES, ("stem", "head"), lambda path: path.split("/")[0], Clock(8, 80, 20))


def test_a_strength_of_0_is_on_because_a_population_may_vary_it() -> None:
    assert forces(AnchorConfig(pull=0.0, mixout=0.5)) == ("pull", "mixout")
