"""Stages: parameters that wait are not there, borders change nothing but who trains, resume inside any phase is exact."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from silent_fit import train

import ftjax
from ftjax import (
    AfterConfig,
    AnchorConfig,
    AugmentConfig,
    CoefficientConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ReportConfig,
    TrainConfig,
    coefficients,
    data,
    models,
    trees,
    weights,
)
from ftjax.errors import ConfigError
from ftjax.training.checkpoint import Checkpoints
from ftjax.training.stage import Feed

pytestmark = pytest.mark.usefixtures("one_device")

BORDER = 8
PROBE_FIRST = (("group:head", 1.0), (".*", (("0 steps", 0.0), (f"{BORDER} steps", 0.0), (f"{BORDER} steps", 1.0))))


@functools.cache
def tiny_weights() -> str:
    """Random weights of two narrow blocks, with a head for digits that is kept."""
    spec = models.ModelSpec("vit", {"patch": 4, "width": 24, "depth": 2, "heads": 2, "mlp_ratio": 2.0}, 10, (16, 16))
    params, _ = models.build(spec).init(jax.random.key(0))
    described = {
        "spec": spec.to_json(),
        "classes": [str(digit) for digit in range(10)],
        "input": models.InputSpec((0.5,) * 3, (0.5,) * 3, "bilinear", 1.0).to_json(),
    }
    path = Path(tempfile.mkdtemp()) / "tiny.safetensors"
    weights.save_safetensors(path, trees.flatten(params), {"format": "ftjax"} | {key: json.dumps(value) for key, value in described.items()})
    return str(path)


def settings(**changes: Any) -> Config:
    """20 steps on digits; the body waits for 8 of them."""
    values: dict[str, Any] = {
        "data": DataConfig(source="digits", labels_per_class=6, validation_fraction=0.05, test_fraction=0.05),
        "model": ModelConfig(pretrained=tiny_weights()),
        "coefficient": CoefficientConfig(rules=PROBE_FIRST),
        "optimizer": OptimizerConfig(learning_rate=3e-3),
        "train": TrainConfig(duration="20 steps", batch_size=16, checkpoint_every="100%", evaluate_every="10 steps", log_every="2 steps"),
        "evaluation": EvaluationConfig(baselines=()),
        "report": ReportConfig(progress="none"),
        "augment": AugmentConfig(brightness=0.01),
    }
    return Config(**values | changes)


def test_the_body_is_not_in_the_first_stage_and_its_moments_begin_in_the_second() -> None:
    plan, state = ftjax.prepare(settings())
    first, second = plan.stages
    assert (first.phase.stop, second.phase.start) == (BORDER, BORDER)
    assert set(trees.flatten(state.live)) == {"head/kernel", "head/bias"}
    assert {path.split("/")[0] for path in trees.flatten(state.extra["anchor"])} == {"head"}
    body = [path for path in trees.flatten(first.abstract.opt_state) if "encoder" in path]
    assert body == []
    assert any("encoder/block_0" in path for path in trees.flatten(second.abstract.opt_state))


def test_stepping_by_hand_enters_the_second_stage_by_itself() -> None:
    plan, state = ftjax.prepare(settings())
    start = trees.flatten(state.params)
    for step in range(BORDER):
        state, _ = plan.step(state, plan.batch(step))
    moved = {path for path, leaf in trees.flatten(state.params).items() if np.any(leaf != start[path])}
    assert moved == {"head/kernel", "head/bias"}
    state, _ = plan.step(state, plan.batch(BORDER))
    assert len(trees.flatten(state.live)) == len(start)
    moved = {path for path, leaf in trees.flatten(state.params).items() if np.any(leaf != start[path])}
    assert len(moved) == len(start)
    assert jax.tree.all(jax.tree.map(lambda a, path_leaf: bool(np.all(a == path_leaf)), trees.flatten(state.theta0), start))


def test_moments_of_what_goes_on_carry_over_and_what_begins_counts_from_its_own_start() -> None:
    plan, state = ftjax.prepare(settings())
    for step in range(BORDER):
        state, _ = plan.step(state, plan.batch(step))
    entered = plan.enter(state)
    before, after = trees.flatten(state.opt_state), trees.flatten(entered.opt_state)
    carried = [path for path in after if "head" in path]
    assert carried
    for path in carried:
        np.testing.assert_array_equal(after[path], before[path])
    counts = sorted(int(leaf) for path, leaf in after.items() if path.endswith("count"))
    assert counts == [0, BORDER]


def test_structure_and_arithmetic_train_alike_until_the_border() -> None:
    """Also under a clip that bites: what rests by arithmetic counts in no norm."""
    clipped = OptimizerConfig(learning_rate=3e-3, clip_norm=0.1)
    structure, state = ftjax.prepare(settings(optimizer=clipped))
    arithmetic, other = ftjax.prepare(settings(optimizer=clipped, coefficient=CoefficientConfig(rules=PROBE_FIRST, phases="arithmetic")))
    assert (len(structure.stages), len(arithmetic.stages)) == (2, 1)
    for step in range(BORDER):
        state, _ = structure.step(state, structure.batch(step))
        other, _ = arithmetic.step(other, arithmetic.batch(step))
    for path, leaf in trees.flatten(state.params).items():
        np.testing.assert_allclose(leaf, trees.flatten(other.params)[path], atol=1e-6, err_msg=path)


EVERYTHING_ON = {
    "coefficient": CoefficientConfig(rules=PROBE_FIRST, auto="rgn", auto_every="5 steps"),
    "anchor": AnchorConfig(mixout=0.3, ball=0.1, select=1.0, pull=1.0),
    "after": AfterConfig(candidates=("ema", "swa"), swa_from="4 steps"),
    "optimizer": OptimizerConfig(learning_rate=3e-3, sam=0.05),
}


@pytest.mark.parametrize(("stop_after", "changes"), [(12, EVERYTHING_ON)])
def test_a_run_stopped_in_any_phase_goes_on_bit_for_bit(tmp_path: Path, stop_after: int, changes: dict) -> None:
    plan, state = ftjax.prepare(settings(**changes))
    whole, log = train(plan, plan.copy(state), tmp_path / "whole")
    part, first = train(plan, plan.copy(state), tmp_path / "parts", stop_after)
    assert not part.finished
    rest, second = train(plan, plan.copy(state), tmp_path / "parts")
    assert rest.finished
    for path, leaf in trees.flatten(whole.state).items():
        np.testing.assert_array_equal(leaf, trees.flatten(rest.state)[path], err_msg=path)
    stopped = int(part.state.step)
    lines = [line for line in first.lines if line[0] <= stopped] + [line for line in second.lines if line[0] > stopped]
    assert [line for line in log.lines if line[1] != "train"] == [line for line in lines if line[1] != "train"]


def flops(feed: Feed) -> float:
    (program,) = feed.programs.values()
    return program.cost_analysis()["flops"]


def test_a_head_only_stage_trains_on_features_as_on_the_pictures() -> None:
    plan, state = ftjax.prepare(settings(augment=AugmentConfig()))
    (first, second) = plan.stages
    assert (first.head_only, second.head_only) == (True, False)
    feed = plan.feed(first, state)
    head, body = (flops(found) for found in (feed, plan.feed(second, jax.eval_shape(lambda: state))))
    assert head < 0.05 * body
    by_hand, fed = state, plan.copy(state)
    for step in range(BORDER):
        by_hand, _ = plan.step(by_hand, plan.batch(step))
        batch = data.batch_at(feed.split, step, plan.batch_size, plan.config.seed)
        fed, _ = feed.advance(fed, plan.put(batch))
    for path, leaf in trees.flatten(by_hand.params).items():
        np.testing.assert_allclose(leaf, trees.flatten(fed.params)[path], atol=2e-5, err_msg=path)


def test_augmentation_or_a_short_phase_keeps_the_pictures() -> None:
    augmented, _ = ftjax.prepare(settings())
    assert not augmented.stages[0].head_only
    more = dataclasses.replace(settings().data, labels_per_class=20)
    short, _ = ftjax.prepare(settings(augment=AugmentConfig(), data=more))
    assert not short.stages[0].head_only


def test_one_traced_step_cannot_take_a_run_through_its_stages_and_says_so() -> None:
    plan, state = ftjax.prepare(settings())
    message = r"this run has 2 stages \(another one begins at step 8\), and one traced step cannot pass from one to the next"
    for step in (plan.pure_step, plan.step):
        with pytest.raises(ConfigError, match=message):
            jax.eval_shape(step, state, plan.batch(0), plan.hyper)
    lowered = jax.eval_shape(plan.stages[0].pure_step, state, plan.batch(0), plan.hyper)
    assert jax.tree.structure(lowered[0]) == jax.tree.structure(state)


def test_hyperparameters_that_nothing_reads_and_foreign_states_are_refused() -> None:
    plan, state = ftjax.prepare(settings(coefficient=CoefficientConfig()))
    with pytest.raises(ConfigError, match=r"hyper\['pull'\]: this run reads no such hyperparameter; .* turn it on, for instance anchor.pull=0.0, to vary it"):
        plan.step(state, plan.batch(0), plan.hyper | {"pull": 1.0})
    with pytest.raises(ConfigError, match=r"hyper\['beta1'\] is missing; change what you want to change, as in plan.hyper \|"):
        plan.pure_step(state, plan.batch(0), {"learning_rate": 1.0})
    with pytest.raises(ValueError, match="this state is not of this plan"):
        plan.pure_step(state._replace(live={"a": jnp.zeros(1)}), plan.batch(0), plan.hyper)


def test_an_average_of_what_begins_late_starts_at_theta0() -> None:
    plan, state = ftjax.prepare(settings(after=AfterConfig(candidates=("ema",), ema_decay=0.5)))
    start = trees.flatten(state.params)
    for step in range(BORDER):
        state, _ = plan.step(state, plan.batch(step))
    entered = trees.flatten(plan.enter(state).extra["averages"]["ema"])
    np.testing.assert_array_equal(entered["encoder/block_0/mlp/up/kernel"], start["encoder/block_0/mlp/up/kernel"])
    np.testing.assert_array_equal(entered["head/kernel"], trees.flatten(state.extra["averages"]["ema"])["head/kernel"])


def test_patience_waits_until_everybody_has_begun(tmp_path: Path) -> None:
    """A probe that has converged is the purpose of the first phase, and no reason to stop."""
    impatient = dataclasses.replace(settings().train, patience=1, evaluate_every="2 steps")
    plan, state = ftjax.prepare(settings(train=impatient, optimizer=OptimizerConfig(learning_rate=1e-9)))
    fitted, _ = train(plan, state, tmp_path)
    assert fitted.finished
    assert BORDER < int(fitted.state.step) < 20


def test_a_schedule_free_run_keeps_its_average_also_when_it_is_stopped_and_goes_on(tmp_path: Path) -> None:
    free = OptimizerConfig(learning_rate=3e-3, schedule="constant", schedule_free=True)
    once = dataclasses.replace(settings().train, evaluate_every="20 steps")
    plan, state = ftjax.prepare(settings(optimizer=free, coefficient=CoefficientConfig(), train=once))
    train(plan, plan.copy(state), tmp_path, stop_after=12)
    fitted, _ = train(plan, state, tmp_path)
    average = coefficients.evaluation_params(fitted.state.opt_state, fitted.state.live, plan.hyper)
    store = Checkpoints(tmp_path)
    best = store.restore_best({"params": fitted.state.params, "batch_stats": fitted.state.extra["batch_stats"]})
    store.close()
    assert best is not None
    for path, leaf in trees.flatten(best.tree["params"]).items():
        np.testing.assert_allclose(leaf, trees.flatten(average)[path], atol=1e-6, err_msg=path)
    assert np.abs(np.asarray(best.tree["params"]["head"]["kernel"]) - np.asarray(fitted.state.params["head"]["kernel"])).max() > 1e-5


def test_a_population_of_several_stages_is_refused() -> None:
    plan, state = ftjax.prepare(settings())
    population = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
    with pytest.raises(ValueError, match=r'a population has one layout for all its members: plan it with coefficient.phases="arithmetic"'):
        plan.enter(population)
