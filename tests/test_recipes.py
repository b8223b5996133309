"""Every method's recipe: complete, reasoned, beaten by whatever the user says, and buildable on real models."""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from ftjax import adapters, configuration, models, recipes, trees
from ftjax.coefficients import Table, build_table
from ftjax.commands.baselines import from_scratch
from ftjax.config import ADAPTERS, AnchorConfig, CoefficientConfig, Config, Method, OptimizerConfig, TrainConfig
from ftjax.configuration import Resolved, resolve
from ftjax.durations import Clock, to_steps
from ftjax.errors import ConfigError

METHODS = typing.get_args(Method)
FAMILIES = ("vit_digits", "resnet20_cifar", "mobilenet_v2_0.35")
SIZES = (20, 200, 5000)
OFF = {"adapter.kind", "coefficient.layer_decay", "coefficient.unfreeze_every", "coefficient.decay_rules", "anchor.rules"} | {
    f"anchor.{name}" for name in ("pull", "ball", "select", "mixout")
}
"""Keys whose None means "off", and not "nobody has decided"."""


@functools.cache
def described(family: str) -> tuple[models.Model, dict[str, tuple[int, ...]]]:
    model = models.build(models.named(family, 10)[0])
    params = jax.eval_shape(model.init, jax.random.key(0))[0]
    return model, {path: leaf.shape for path, leaf in trees.flatten(params).items()}


def facts(family: str = "vit_digits", examples: int = 200, **changed: Any) -> recipes.Facts:
    usual = {"photos": False, "keeps_head": False, "batch_devices": 1}
    return recipes.Facts(examples=examples, text=False, items=False, metric="accuracy", groups=described(family)[0].groups, **(usual | changed))


def filled(config: Config, flags: dict[str, str] | None = None, **about: Any) -> Resolved:
    return recipes.fill(resolve(None, flags or {}, config), facts(**about))


def value(resolved: Resolved, key: str) -> Any:
    return dict(configuration.keys(resolved.config))[key]


def clock_of(config: Config, examples: int) -> Clock:
    clock = Clock(batch_size=typing.cast(int, config.train.batch_size), examples_per_epoch=examples)
    return dataclasses.replace(clock, total_steps=to_steps(config.train.duration or "", clock, minimum=1))


def table_of(config: Config, family: str, examples: int) -> Table:
    model, shapes = described(family)
    if config.method in ADAPTERS:
        ones = trees.unflatten({path: jnp.ones(shape) for path, shape in shapes.items()})
        bound = trees.flatten(adapters.bind(ones, config.adapter, jax.random.key(0))[0])
        shapes = {path: leaf.shape for path, leaf in bound.items()}
    return build_table(config, shapes, model.groups, model.group_of, clock_of(config, examples))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_leaves_nothing_open_and_gives_its_reasons(method: Method, family: str) -> None:
    for examples in SIZES:
        for about in ({}, {"photos": True}, {"keeps_head": True}):
            done = filled(Config(method=method), family=family, examples=examples, **about)
            undecided = {key for key in recipes._SUGGESTIONS if value(done, key) is None} - OFF
            assert not undecided
            for key in recipes._SUGGESTIONS:
                origin, why = done.origins[key]
                assert origin in ("default", "recipe")
                assert origin == "default" or len(why) > 10
                assert (origin == "default") == (value(done, key) == value(resolve(None, {}, Config(method=method)), key))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES[:2])
def test_the_filled_table_builds_on_real_shapes(method: Method, family: str) -> None:
    config = filled(Config(method=method), family=family, examples=20 if family == "vit_digits" else 5000).config
    if method == "attention" and family != "vit_digits":
        with pytest.raises(ConfigError, match=r"^coefficient.rules: rule 2 '\(\.\*/\)\?attention/\.\*' matches no parameter; "):
            table_of(config, family, 5000)
        return
    if method in ADAPTERS and family != "vit_digits":
        target = {"ia3": "attention.key", "houlsby": "attention.out", "adaptformer": "mlp.down"}.get(method, "all-linear")
        why = rf"^adapter.targets: '{target}' matches no weight of this model"
        if method in ("prompt", "vpt"):
            why = rf"^adapter.kind='{method}': this model has no attention"
        with pytest.raises(ConfigError, match=why):
            table_of(config, family, 5000)
        return
    table = table_of(config, family, 20 if family == "vit_digits" else 5000)
    assert {"head/kernel", "head/bias"} <= table.live_paths
    everything = {row.path for row in table.rows}
    if method in ADAPTERS:
        own = {path for path in everything if path.endswith(tuple(f"/{name}" for name in adapters.TRAINED))}
        shifts = {path for path in everything if method == "ssf" and path.endswith(("bias", "scale"))}
        assert own
        assert table.live_paths == own | shifts | {"head/kernel", "head/bias"}
    elif method in ("probe", "bitfit", "norms", "attention", "partial"):
        assert table.live_paths < everything
    else:
        assert table.live_paths == everything


def test_a_kept_head_rests_beside_adapters() -> None:
    assert value(filled(Config(method="lora"), keeps_head=True), "coefficient.rules") == (
        (r".*/(a|b|a_bias|b_bias|magnitude|gain|rotation|tokens)", 1.0),
        (".*", 0.0),
    )


def test_filling_twice_changes_nothing() -> None:
    for method in METHODS:
        once = filled(Config(method=method))
        assert recipes.fill(once, facts()) == once


SET = {
    "optimizer.learning_rate": "0.123",
    "optimizer.weight_decay": "0.5",
    "optimizer.schedule": "cosine",
    "coefficient.rules": "(('group:head', 1.0), ('.*', 0.5))",
    "coefficient.layer_decay": "0.9",
    "coefficient.unfreeze_every": "2 steps",
    "coefficient.auto": "none",
    "coefficient.head_factor": "3.0",
    "coefficient.decay_rules": "(('.*', 1.0),)",
    "anchor.pull": "7.0",
    "anchor.ball": "0.5",
    "anchor.select": "2.0",
    "anchor.mixout": "0.1",
    "train.batch_size": "4",
    "train.duration": "7 steps",
    "model.batch_statistics": "updated",
}


@pytest.mark.parametrize("method", METHODS)
def test_a_flag_always_wins_and_keeps_its_origin(method: Method) -> None:
    """Also a flag that says what the default is, such as the cosine schedule under ULMFiT's methods."""
    before = resolve(None, SET, Config(method=method))
    done = recipes.fill(before, facts())
    for key in SET:
        assert value(done, key) == value(before, key)
        assert done.origins[key][0] == "flag"


@pytest.mark.parametrize("method", METHODS)
def test_a_file_always_wins_and_keeps_its_origin(method: Method) -> None:
    theirs = Config(
        method=method,
        optimizer=OptimizerConfig(learning_rate=0.123, weight_decay=0.5, schedule="linear"),
        coefficient=CoefficientConfig(rules=((".*", 0.5),), head_factor=3.0),
        anchor=AnchorConfig(pull=7.0, mixout=0.1),
        train=TrainConfig(duration="7 steps"),
    )
    before = resolve(None, {}, theirs)
    done = recipes.fill(before, facts())
    set_keys = [key for key, (origin, _) in before.origins.items() if origin == "file"]
    assert {"optimizer.schedule", "anchor.pull", "coefficient.rules"} <= set(set_keys)
    for key in set_keys:
        assert value(done, key) == value(before, key)
        assert done.origins[key][0] == "file"


def test_what_was_measured_stays() -> None:
    full = filled(Config(method="full"))
    assert [value(full, key) for key in ("optimizer.learning_rate", "optimizer.weight_decay", "coefficient.head_factor", "train.duration")] == [
        1e-4,
        0.01,
        10.0,
        "48 epochs",
    ]
    assert value(filled(Config(method="layer_decay")), "coefficient.layer_decay") == 0.75
    assert value(filled(Config(method="layer_decay")), "optimizer.weight_decay") == 0.05


@pytest.mark.parametrize(("name", "rate"), [("adamw", 1e-4), ("sgd", 1e-2), ("lion", 2e-5), ("muon", 1e-4), ("adafactor", 1e-4)])
def test_the_rate_follows_the_optimiser(name: Any, rate: float) -> None:
    assert value(filled(Config(optimizer=OptimizerConfig(name=name))), "optimizer.learning_rate") == pytest.approx(rate)


@pytest.mark.parametrize("examples", SIZES)
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_pull_remembers_a_third_of_the_run(examples: int, name: Any) -> None:
    config = filled(Config(method="l2_sp", optimizer=OptimizerConfig(name=name)), examples=examples).config
    memory = 1 / (typing.cast(float, config.optimizer.learning_rate) * typing.cast(float, config.anchor.pull))
    assert memory == pytest.approx(typing.cast(int, clock_of(config, examples).total_steps) / 3, rel=0.01)


def test_l2_sp_decays_a_new_head_alone_and_nothing_where_the_head_is_kept() -> None:
    new = filled(Config(method="l2_sp"))
    decaying = {row.path for row in table_of(new.config, "vit_digits", 200).rows if row.decay}
    assert decaying == {"head/kernel"}
    assert value(new, "optimizer.weight_decay") == 0.01
    kept = filled(Config(method="l2_sp"), keeps_head=True)
    assert value(kept, "optimizer.weight_decay") == 0
    assert value(kept, "coefficient.decay_rules") is None


@pytest.mark.parametrize(("method", "key", "expected"), [("ball", "anchor.ball", 0.05), ("spd", "anchor.select", 1.0), ("mixout", "anchor.mixout", 0.7)])
def test_an_anchored_method_turns_on_its_own_force_and_weight_decay_off(method: Method, key: str, expected: float) -> None:
    done = filled(Config(method=method))
    on = {name: value(done, name) for name in OFF if name.startswith("anchor.") and value(done, name) is not None}
    assert on == {key: expected}
    assert value(done, "optimizer.weight_decay") == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("examples", SIZES)
def test_gradual_unfreezing_is_done_by_the_middle_of_the_run(family: str, examples: int) -> None:
    done = filled(Config(method="gradual"), family=family, examples=examples)
    clock = clock_of(done.config, examples)
    every = to_steps(value(done, "coefficient.unfreeze_every"), clock)
    assert 1 <= every <= to_steps("1 epochs", clock)
    assert (len(facts(family).blocks) + 1) * every <= typing.cast(int, clock.total_steps) / 2


def test_a_long_run_unfreezes_one_group_an_epoch() -> None:
    done = filled(Config(method="gradual", train=TrainConfig(duration="50 epochs")))
    assert value(done, "coefficient.unfreeze_every") == "1 epochs"
    assert value(done, "optimizer.schedule") == "slanted"


def test_ulmfits_schedule_leaves_schedule_free_alone() -> None:
    done = filled(Config(method="gradual", optimizer=OptimizerConfig(schedule_free=True)), {"optimizer.schedule": "constant"})
    assert value(done, "optimizer.schedule") == "constant"
    assert value(filled(Config(method="discriminative", optimizer=OptimizerConfig(schedule_free=True))), "optimizer.schedule") == "cosine"


@pytest.mark.parametrize("method", [method for method in METHODS if method != "scratch"])
def test_the_scratch_baseline_of_any_run_is_a_plain_scratch_run(method: Method) -> None:
    """The same budget, data and averages; nothing is left of the method, its anchor or the way back to pretrained weights."""
    plain = filled(Config(method="scratch"), {"after.candidates": "('ema',)"})
    run = filled(Config(method=method), {"after.candidates": "('ema', 'wise_ft')", "anchor.ball": "0.5", "anchor.ball_norm": "mars"})
    baseline = recipes.fill(from_scratch(run), facts())
    same = {"train.batch_size", "train.duration", "train.evaluate_every", "model.head", "evaluation.baselines"}
    keys = [key for key, _ in configuration.keys(Config()) if key not in same and key.split(".")[0] in ("optimizer", "coefficient", "anchor", "after", "model")]
    assert baseline.config.adapter == plain.config.adapter
    assert {key: value(baseline, key) for key in keys} == {key: value(plain, key) for key in keys}
    assert value(baseline, "train.batch_size") == value(run, "train.batch_size")
    assert value(baseline, "train.duration") == value(run, "train.duration")


def test_the_scratch_baseline_keeps_the_schedule_that_the_user_chose() -> None:
    assert value(from_scratch(filled(Config(method="gradual"), {"optimizer.schedule": "linear"})), "optimizer.schedule") == "linear"
