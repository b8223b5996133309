"""After training: the best on validation is exported, ties go to the best checkpoint, and a killed run chooses the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest_commands import small_config
from safetensors.numpy import load_file

import ftjax
from ftjax import Config, EvaluationConfig, ModelConfig, TrainConfig, configuration, evaluation, files, trees
from ftjax.commands import baselines
from ftjax.config import AfterConfig
from ftjax.errors import ConfigError
from ftjax.evaluation import Records
from ftjax.training import after
from ftjax.training.checkpoint import Checkpoints, Restored
from ftjax.training.loop import best_of
from ftjax.training.plan import Plan

EVERY_KIND = ("ema", "swa", "wise_ft", "lines", "uniform_soup", "greedy_soup")
NAMES = {"best_checkpoint", "ema", "swa", "uniform_soup", "greedy_soup", *(f"{kind}({share})" for kind in ("wise_ft", "lines") for share in ("0", "0.5"))}
TRAIN = TrainConfig(duration="8 steps", batch_size=16, evaluate_every="2 steps", log_every="4 steps", checkpoint_every="3 steps")


def tuning(pretrained: Path, candidates: tuple = EVERY_KIND, **changes: Any) -> Config:
    """A short fine-tuning with a new head."""
    read_by = {"ema": {"ema_decay": 0.5}, "swa": {"swa_from": "50%"}, "uniform_soup": {"soup": 2}}
    values: dict[str, Any] = {key: value for name in candidates for key, value in read_by.get(name, {}).items()}
    asked = AfterConfig(candidates=candidates, alphas=(0.0, 0.5, 1.0), **values)
    return small_config(**({"method": "full", "model": ModelConfig(pretrained=str(pretrained), head="new"), "train": TRAIN, "after": asked} | changes))


@pytest.fixture(scope="module")
def tuned(pretrained, tmp_path_factory) -> ftjax.commands.workdir.Run:
    return ftjax.finetune(tuning(pretrained), tmp_path_factory.mktemp("after") / "tuned")


@pytest.fixture(scope="module")
def prepared(pretrained):
    """A plan with candidates of every kind, its state at step 0, and made-up weights that have moved everywhere."""
    plan, state = ftjax.prepare(tuning(pretrained))
    params = jax.tree.map(
        lambda leaf: jax.device_put(leaf + 0.05 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), leaf.sharding), state.params
    )
    return plan, state, after.Weights(params=params, batch_stats=state.extra["batch_stats"])


class Judge:
    """Stands for `Plan.evaluate`: remembers what was measured and answers by what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, right: Any = lambda params: 1) -> None:
        self.seen: list[tuple[Any, Any]] = []
        self.right = right
        monkeypatch.setattr(Plan, "evaluate", self.evaluate)

    def evaluate(self, params: Any, batch_stats: Any, split: str, **_: Any) -> Records:
        assert split == "validation"
        self.seen.append((params, batch_stats))
        labels = np.zeros(10, np.int32)
        return Records.from_logits(np.eye(10, dtype=np.float32)[np.where(np.arange(10) < self.right(params), 0, 1)], labels)


def kept_weights(weights: after.Weights, values: dict[int, float]) -> list[Restored]:
    """Checkpoints that differ by step / 100 everywhere."""
    shifted = {step: jax.tree.map(lambda leaf, step=step: leaf + step / 100, weights) for step in values}
    return [Restored(step, shifted[step], {"metrics": {"accuracy": value}}) for step, value in values.items()]


def test_the_best_on_validation_is_chosen_and_its_numbers_are_those_of_the_result(tuned):
    told = files.read_json(tuned.workdir / "after.json")
    assert {candidate["name"] for candidate in told["candidates"]} == NAMES
    assert told["candidates"][0]["name"] == "best_checkpoint"
    best = max(told["candidates"], key=lambda candidate: candidate["value"])
    assert told["chosen"] == best["name"]
    assert tuned.result["after"] == {"candidates": told["candidates"], "chosen": told["chosen"]}
    assert tuned.result["splits"]["validation"] == best["metrics"]
    assert tuned.result["best_step"] == told["candidates"][[c["name"] for c in told["candidates"]].index("greedy_soup")]["steps"][0]


def test_the_curve_starts_at_the_pretrained_body_and_ends_at_the_best_checkpoint(tuned):
    told = files.read_json(tuned.workdir / "after.json")
    by_name = {candidate["name"]: candidate for candidate in told["candidates"]}
    assert [point["alpha"] for point in told["curve"]] == [0, 0.5, 1]
    distances = [point["distance"] for point in told["curve"]]
    assert distances[0] == 0
    assert distances[1] == pytest.approx(distances[2] / 2, rel=1e-4)
    for point, name in zip(told["curve"], ("wise_ft(0)", "wise_ft(0.5)", "best_checkpoint"), strict=True):
        candidate = by_name[name]
        assert (point["accuracy"], point["log_loss"], point["distance"]) == (candidate["value"], candidate["metrics"]["log_loss"], candidate["distance"])


def test_the_artefact_holds_the_chosen_weights(tuned):
    chosen = files.read_json(tuned.workdir / "after.json")["chosen"]
    predictor = ftjax.load(tuned.workdir)
    dataset = ftjax.data.collect(small_config().data, predictor.preprocessing.image, small_config().seed)
    records = Records.from_logits(predictor.logits(dataset.splits["validation"]), dataset.splits["validation"].labels)
    value = evaluation.metric_named("log_loss")(records)
    assert value == pytest.approx(tuned.result["splits"]["validation"]["log_loss"], abs=1e-5)
    others = [c["metrics"]["log_loss"] for c in tuned.result["after"]["candidates"] if c["name"] == "best_checkpoint" != chosen]
    assert all(value != pytest.approx(other, abs=1e-7) for other in others)


@pytest.mark.slow
def test_without_candidates_the_best_checkpoint_is_exported_bit_for_bit_and_the_curve_is_there(pretrained, tmp_path):
    run = ftjax.finetune(tuning(pretrained, candidates=()), tmp_path / "plain")
    exported = load_file(run.workdir / "model" / "weights.safetensors")
    _, state = ftjax.prepare(tuning(pretrained, candidates=()))
    store = Checkpoints(run.workdir / "checkpoints")
    restored = store.restore_best({"params": state.params, "batch_stats": state.extra["batch_stats"]})
    store.close()
    assert restored is not None
    best = trees.flatten(restored.tree["params"])
    assert best.keys() == exported.keys()
    assert all(np.asarray(best[path]).tobytes() == exported[path].tobytes() for path in best)
    told = files.read_json(run.workdir / "after.json")
    assert [candidate["name"] for candidate in told["candidates"]] == ["best_checkpoint"]
    assert [point["alpha"] for point in told["curve"]] == [0, 0.5, 1]
    assert not (run.workdir / "checkpoints" / "soup").exists()


def test_a_run_from_random_weights_has_no_curve(finished):
    assert files.read_json(finished.workdir / "after.json")["curve"] == []
    assert finished.result["after"]["chosen"] == "best_checkpoint"
    assert finished.result["after"]["candidates"][0]["distance"] is None


@pytest.mark.slow
def test_a_run_killed_in_training_and_again_while_it_chooses_keeps_the_same_weights_and_chooses_the_same(tuned, pretrained, tmp_path, monkeypatch):
    save = Checkpoints.save

    def killed(*_: Any) -> None:
        raise SystemError("killed")

    def killed_at_6(self: Checkpoints, step: int, *rest: Any) -> None:
        killed() if step == 6 else save(self, step, *rest)

    # Weights of steps 4 and 6 are kept by then, and the newest checkpoint is that of step 3.
    for crash in ((Checkpoints, "save", killed_at_6), (after._Contest, "score_of", killed)):
        with monkeypatch.context() as patched:
            patched.setattr(*crash)
            with pytest.raises(SystemError, match="killed"):
                ftjax.finetune(tuning(pretrained), tmp_path / "run")
    resumed = ftjax.finetune(tuning(pretrained), tmp_path / "run")

    def found(workdir: Path) -> tuple:
        members = sorted(path.name for path in (workdir / "checkpoints" / "soup").iterdir())
        return members, files.read_json(workdir / "after.json"), (workdir / "model" / "weights.safetensors").read_bytes()

    assert found(resumed.workdir) == found(tuned.workdir)
    assert resumed.result["splits"] == tuned.result["splits"]
    assert len(found(resumed.workdir)[0]) == 2


@pytest.mark.slow
def test_weights_for_a_soup_that_cannot_be_read_are_left_out_and_named(tuned, pretrained, tmp_path, monkeypatch):
    restore = Checkpoints.restore_soup
    monkeypatch.setattr(Checkpoints, "restore_soup", lambda self, step, like: None if step == tuned.result["best_step"] else restore(self, step, like))
    run = ftjax.finetune(tuning(pretrained, candidates=("uniform_soup",)), tmp_path / "run")
    assert f"weights of step {tuned.result['best_step']} are left out of the soup: they are no longer on disk" in run.result["warnings"]
    assert len(run.result["after"]["candidates"][1]["steps"]) == 1


def test_all_candidates_go_through_one_compiled_evaluation(prepared):
    plan, state, best = prepared
    chosen = after.choose(plan, state, best, state.extra["batch_stats"], kept_weights(best, {2: 0.5, 4: 0.4}))
    assert {candidate.name for candidate in chosen.candidates} == NAMES
    assert plan.evaluator._step._cache_size() == 1
    assert jax.tree.structure(chosen.params) == jax.tree.structure(best["params"])


def test_ties_go_to_the_best_checkpoint(prepared, monkeypatch):
    plan, state, best = prepared
    judge = Judge(monkeypatch)
    chosen = after.choose(plan, state, best, state.extra["batch_stats"], kept_weights(best, {2: 0.1}))
    assert chosen.name == "best_checkpoint"
    assert chosen.params is best["params"]
    # The best checkpoint, two of each line (alpha 1 is the best checkpoint), two averages, two soups of which the greedy one has nothing to try.
    assert len(judge.seen) == 1 + 2 + 2 + 2 + 2


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", 1), ("log_loss", -1)])
def test_the_chosen_one_is_the_best_whichever_way_the_metric_goes(prepared, monkeypatch, metric, sign):
    plan, state, best = prepared
    config = dataclasses.replace(plan.config, evaluation=EvaluationConfig(metric=metric))
    plan = dataclasses.replace(plan, resolved=dataclasses.replace(plan.resolved, config=config))
    start = trees.flatten(state.params)["norm/bias"]
    Judge(monkeypatch, lambda params: 9 if bool((trees.flatten(params)["norm/bias"] == start).all()) else 3)
    chosen = after.choose(plan, state, best, state.extra["batch_stats"])
    assert chosen.name == "wise_ft(0)"
    assert sign * chosen.metrics[metric] == max(sign * candidate.value for candidate in chosen.candidates)
    assert np.array_equal(trees.flatten(chosen.params)["norm/bias"], start)


def test_a_new_head_is_never_scaled_and_a_kept_one_is(prepared, pretrained, monkeypatch):
    plan, state, best = prepared
    head = trees.flatten(best["params"])["head/kernel"]
    judge = Judge(monkeypatch)
    wise_ft = dataclasses.replace(plan.config, after=AfterConfig(candidates=("wise_ft", "lines"), alphas=(0.0, 0.3)))
    after.choose(dataclasses.replace(plan, resolved=dataclasses.replace(plan.resolved, config=wise_ft)), state, best, {})
    assert len(judge.seen) == 5
    assert all(np.array_equal(trees.flatten(params)["head/kernel"], head) for params, _ in judge.seen)
    assert not any(
        np.array_equal(trees.flatten(params)["stem/patch/kernel"], trees.flatten(best["params"])["stem/patch/kernel"]) for params, _ in judge.seen[1:]
    )
    kept, _ = ftjax.prepare(tuning(pretrained, model=ModelConfig(pretrained=str(pretrained), head="keep")))
    judge.seen.clear()
    after.choose(dataclasses.replace(kept, resolved=dataclasses.replace(kept.resolved, config=wise_ft)), state, best, {})
    heads = [trees.flatten(params)["head/kernel"] for params, _ in judge.seen]
    assert np.array_equal(heads[1], trees.flatten(state.params)["head/kernel"])
    assert np.array_equal(heads[3], head)  # LiNeS: the head comes after the last block, which keeps all of its displacement


def test_batch_statistics_are_interpolated_and_averaged_like_parameters(prepared, monkeypatch):
    plan, state, best = prepared
    judge = Judge(monkeypatch)
    start, now = {"norm": {"scale": jnp.zeros(3)}}, {"norm": {"scale": jnp.full(3, 4.0)}}
    weights = after.Weights(params=best["params"], batch_stats=now)
    state = state._replace(extra=state.extra | {"batch_stats": now})
    chosen = after.choose(plan, state, weights, start, kept_weights(weights, {100: 0.5, 300: 0.5}))
    measured = {candidate.name: float(stats["norm"]["scale"][0]) for candidate, (_, stats) in zip(chosen.candidates, [s for s in judge.seen if s])}
    assert [measured[name] for name in ("best_checkpoint", "wise_ft(0)", "wise_ft(0.5)", "ema", "swa", "uniform_soup")] == [4, 0, 2, 4, 4, 6]


def test_the_steps_kept_for_a_soup_are_the_best_and_the_earlier_of_equals():
    seen, kept = [(2, 0.5), (4, 0.7), (6, 0.5), (8, 0.7), (10, 0.6)], []
    for item in seen:
        kept = best_of([*kept, item], 3, True)
    assert kept == [(4, 0.7), (8, 0.7), (10, 0.6)]
    assert best_of(seen, 2, False) == [(2, 0.5), (6, 0.5)]
    assert best_of(seen, 0, True) == []


def test_going_back_to_pretrained_weights_is_refused_where_there_are_none():
    with pytest.raises(ConfigError, match=r"after\.candidates asks for 'wise_ft', which goes back towards pretrained weights, and method='scratch' has none"):
        ftjax.prepare(small_config(after=AfterConfig(candidates=("ema", "wise_ft"))))


def test_the_scratch_baseline_is_not_asked_to_go_back_to_pretrained_weights(pretrained):
    scratch = baselines.from_scratch(configuration.resolve(None, {}, tuning(pretrained)))
    assert not {"wise_ft", "lines"} & set(scratch.config.after.candidates)
