"""The classics as tables: each gives every family the coefficients that its paper gives, and a configuration that uses them loads without JAX."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftjax import models, tables, trees
from ftjax.coefficients import Table, build_table, coefficient, evaluate, partition
from ftjax.coefficients.schedules import on_clock
from ftjax.config import CoefficientConfig, Config, OptimizerConfig
from ftjax.durations import Clock, add
from ftjax.errors import ConfigError

FAMILIES = ("vit_digits", "resnet20_cifar", "mobilenet_v2_0.35")
CLOCK = Clock(batch_size=10, examples_per_epoch=100, total_steps=100)


@functools.cache
def described(family: str) -> tuple[models.Model, dict[str, tuple[int, ...]]]:
    model = models.build(models.named(family, 10)[0])
    params = jax.eval_shape(model.init, jax.random.key(0))[0]
    return model, {path: leaf.shape for path, leaf in trees.flatten(params).items()}


def table_of(coefficients: CoefficientConfig, family: str = "vit_digits") -> Table:
    model, shapes = described(family)
    config = Config(coefficient=coefficients, optimizer=OptimizerConfig(learning_rate=1e-3))
    return build_table(config, shapes, model.groups, model.group_of, CLOCK)


def at(table: Table, step: int) -> dict[str, float]:
    return {row.path: float(coefficient(row, jnp.array(step), table.hyper)) for row in table.rows}


def live_body(coefficients: CoefficientConfig, family: str) -> set[str]:
    paths = table_of(coefficients, family).live_paths
    assert {"head/kernel", "head/bias"} <= paths
    return {path for path in paths if not path.startswith("head/")}


@pytest.mark.parametrize("family", FAMILIES)
def test_probe_bitfit_and_norms_pick_the_same_parts_of_every_family(family: str) -> None:
    paths = {path for path in described(family)[1] if not path.startswith("head/")}
    assert live_body(tables.probe(), family) == set()
    assert live_body(tables.bitfit(), family) == {path for path in paths if path.endswith("/bias")}
    norms = {path for path in paths if "norm" in path.split("/")[-2]}
    assert norms
    assert live_body(tables.norms_only(), family) == norms


def test_attention_only_trains_attention_and_refuses_a_model_without() -> None:
    assert live_body(tables.attention_only(), "vit_digits") == {path for path in described("vit_digits")[1] if "/attention/" in path}
    with pytest.raises(ConfigError, match=r"^coefficient.rules: rule 2 '\(\.\*/\)\?attention/\.\*' matches no parameter; "):
        table_of(tables.attention_only(), "resnet20_cifar")


@pytest.mark.parametrize("family", FAMILIES)
def test_surgical_and_partial_are_each_others_complement(family: str) -> None:
    body = {path for path in described(family)[1] if not path.startswith("head/")}
    upper = live_body(tables.partial("stem", "block_[01]"), family)
    lower = live_body(tables.surgical("stem", "block_[01]", "head"), family)
    assert upper | lower == body
    assert not upper & lower
    assert live_body(tables.freeze_embeddings(), family) == {path for path in body if not path.startswith("stem/")}


def test_surgical_and_partial_without_a_group_say_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"^surgical\(\) needs a group besides the head, such as 'block_0'; the head alone is probe\(\)$"):
        tables.surgical("head")
    with pytest.raises(ConfigError, match=r"^partial\(\) needs a group to freeze, such as 'stem'$"):
        tables.partial()


def test_lp_ft_holds_the_body_until_the_border_and_ramps_to_one() -> None:
    table = table_of(tables.lp_ft("30%", "10%"))
    found = {step: at(table, step) for step in (0, 30, 35, 40, 99)}
    assert {path: c for path, c in found[0].items() if c} == {"head/kernel": 30.0, "head/bias": 30.0}
    assert [found[step]["stem/patch/kernel"] for step in found] == pytest.approx([0, 0, 0.5, 1, 1])
    assert [found[step]["head/kernel"] for step in found] == [30.0, 1.0, 1.0, 1.0, 1.0]


def test_lp_ft_adds_durations_of_one_unit_only() -> None:
    assert tables.lp_ft().rules == (("group:head", (("0%", 30.0), ("33%", 30.0), ("33%", 1.0))), (".*", (("33%", 0.0), ("38%", 1.0))))
    assert add("33%", "0 steps") == "33%"
    with pytest.raises(ConfigError, match=r"^lp_ft: '1 epochs' and '5%' have different units; write both in 'epochs' or both in '%'$"):
        tables.lp_ft("1 epochs", "5%")


def test_layer_decay_counts_as_its_two_papers_do() -> None:
    beit, electra = (at(table_of(tables.layer_decay(0.5, convention)), 0) for convention in ("beit", "electra"))
    paths = ("head/kernel", "norm/scale", "encoder/block_3/norm1/scale", "encoder/block_0/norm1/scale", "stem/position")
    assert [beit[path] for path in paths] == [1, 1, 0.5, 0.5**4, 0.5**5]
    assert [electra[path] for path in paths] == [1, 1, 0.5**2, 0.5**5, 0.5**6]


def test_each_group_is_slower_than_the_one_above_by_ulmfits_factor() -> None:
    found = at(table_of(tables.discriminative()), 0)
    assert [found[f"encoder/block_{block}/mlp/up/kernel"] for block in (3, 2, 1)] == pytest.approx([2.6**-1, 2.6**-2, 2.6**-3])


def test_tables_compose_by_replacing_fields() -> None:
    mixed = dataclasses.replace(tables.bitfit(), layer_decay=0.5, head_factor=tables.head_factor(10).head_factor)
    found = at(table_of(mixed), 0)
    assert found["head/bias"] == 10
    assert found["encoder/block_3/mlp/up/bias"] == 0.5
    assert found["encoder/block_3/mlp/up/kernel"] == 0
    assert tables.gradual_unfreeze("2 epochs") == CoefficientConfig(unfreeze_every="2 epochs")
    assert tables.auto_rgn("5 epochs") == CoefficientConfig(auto="rgn", auto_every="5 epochs")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class LowRank:
    w: Any
    a: Any
    b: Any


def test_lora_plus_trains_b_faster_than_a_and_leaves_the_base_still() -> None:
    params = {
        "stem": {"kernel": LowRank(jnp.ones((3, 3)), jnp.ones((3, 1)), jnp.zeros((1, 3)))},
        "head": {"kernel": jnp.ones((3, 2)), "lora_b": jnp.ones((1, 2))},
    }
    shapes = {path: leaf.shape for path, leaf in trees.flatten(params).items()}
    config = Config(coefficient=tables.lora_plus(16), optimizer=OptimizerConfig(learning_rate=1e-3))
    table = build_table(config, shapes, ("stem", "head"), lambda path: path.split("/")[0], CLOCK)
    assert at(table, 0) == {"head/kernel": 1, "head/lora_b": 16, "stem/kernel/w": 0, "stem/kernel/a": 1, "stem/kernel/b": 16}
    live, still = partition(params, table.live_paths)
    assert trees.flatten(still).keys() == {"stem/kernel/w"}
    assert len(trees.flatten(live)) == 4


def values(points: Any, steps: int) -> np.ndarray:
    clock = dataclasses.replace(CLOCK, total_steps=steps)
    return np.asarray(evaluate(on_clock(points, clock, "c"), jnp.arange(steps + 1)))


def test_a_schedule_of_straight_lines_becomes_its_own_kinks() -> None:
    ramp = optax.join_schedules([optax.linear_schedule(0, 1, 20), optax.constant_schedule(1.0), optax.constant_schedule(0.5)], [20, 60])
    points = tables.sampled(ramp, 100)
    assert points == (("0 steps", 0.0), ("20 steps", 1.0), ("59 steps", 1.0), ("60 steps", 0.5), ("100 steps", 0.5))
    np.testing.assert_allclose(values(points, 100), [ramp(step) for step in range(101)], atol=1e-6)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_a_curved_schedule_is_met_within_the_tolerance_by_few_points(tolerance: float) -> None:
    curve = optax.warmup_cosine_decay_schedule(0.0, 2.0, 30, 300)
    points = tables.sampled(curve, 300, tolerance)
    assert isinstance(points, tuple)
    assert 5 <= len(points) < 60
    np.testing.assert_allclose(values(points, 300), jax.vmap(curve)(jnp.arange(301)), atol=2 * tolerance + 1e-6)


def test_a_sampled_schedule_is_a_rule_of_a_configuration() -> None:
    rules = (("group:stem", tables.sampled(optax.cosine_decay_schedule(1.0, 100), 100)), (".*", 1.0))
    assert at(table_of(CoefficientConfig(rules=rules)), 50)["stem/position"] == pytest.approx(0.5, abs=1e-3)


def test_importing_tables_does_not_import_jax() -> None:
    script = "from ftjax import tables; import sys; tables.lp_ft(); tables.sampled(lambda t: 1.0, 3); print({'jax', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout == "set()\n"
