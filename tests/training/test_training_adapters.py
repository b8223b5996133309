"""Adapters in training: what is live, what a step costs, what a checkpoint holds, and that meshes and populations change no numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from silent_fit import train
from training_parts import CLASSES, CLOCK, batch

from ftjax import adapters, coefficients, configuration, distribution, models, trees
from ftjax.coefficients import build_table, chain, default_hyper
from ftjax.config import AdapterConfig, CoefficientConfig, Config, DataConfig, EvaluationConfig, MeshConfig, ModelConfig, OptimizerConfig, TrainConfig
from ftjax.data import ImageFormat, Normalize, Preprocessing
from ftjax.errors import CheckpointError
from ftjax.models import ModelSpec
from ftjax.tables import adapters as adapted_only
from ftjax.tasks import Classification
from ftjax.training.checkpoint import Checkpoints
from ftjax.training.prepare import prepare
from ftjax.training.state import create_state
from ftjax.training.step import StepParts, make_step


def build(adapter: AdapterConfig | None, *, microbatches: int = 1, width: int = 32, depth: int = 1, patch: int = 8):
    """(parts, state, hyper, model, rows) of a small ViT; without an adapter everything trains."""
    settings = Config(
        optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, warmup="0%"),
        coefficient=adapted_only() if adapter else CoefficientConfig(),
        adapter=adapter or AdapterConfig(),
    )
    model = models.build(ModelSpec("vit", {"patch": patch, "width": width, "depth": depth, "heads": 4, "mlp_ratio": 4.0}, len(CLASSES), (16, 16)))
    params, extra = model.init(jax.random.key(0))
    params, rows = adapters.bind(params, adapter, jax.random.key(1)) if adapter else (params, ())
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(params).items()}
    table = build_table(settings, shapes, model.groups, model.group_of, CLOCK)
    parts = StepParts(
        model,
        Classification(CLASSES),
        Preprocessing(ImageFormat((16, 16)), Normalize((0.5,) * 3, (0.5,) * 3), (), None),
        chain(table, settings, CLOCK),
        microbatches,
        adapter_dropout=bool(adapter and adapter.dropout),
        bounded=coefficients.bounded(table, settings, CLOCK),
    )
    return parts, create_state(params, extra, table.live_paths, parts.optimizer), default_hyper(settings), model, rows


LORA = AdapterConfig(kind="lora", rank=4, base="float32")


def test_a_step_of_lora_costs_less_than_a_step_of_everything_and_its_moments_are_small():
    """The gradients of frozen weights are a third of the work, and nothing is kept of them."""
    costs = {}
    for name, adapter in (
        ("full", None),
        ("lora", dataclasses.replace(LORA, rank=1)),
        ("top", dataclasses.replace(LORA, rank=1, targets=("encoder/block_1/.*",))),
    ):
        parts, state, hyper, *_ = build(adapter, width=64, depth=2, patch=4)
        compiled = jax.jit(make_step(parts)).lower(state, batch(), hyper).compile()
        costs[name] = (compiled.cost_analysis()["flops"], trees.nbytes(state.opt_state))
    assert costs["lora"][0] < 0.8 * costs["full"][0]
    assert costs["top"][0] < 0.75 * costs["lora"][0], "nothing flows below the lowest live leaf"
    assert costs["lora"][1] < 0.1 * costs["full"][1]


@pytest.mark.parametrize(
    "kind", ["dora", "oft", "adaptformer", "vpt", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pissa", "ia3", "houlsby", "prompt"))]
)
def test_every_kind_learns_and_leaves_its_base_alone(kind):
    parts, state, hyper, _, rows = build(AdapterConfig(kind=kind, rank=2, block=8, units=4, tokens=4))
    step, after = jax.jit(make_step(parts)), state
    losses = []
    for _ in range(4):
        after, metrics = step(after, batch(), hyper)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, after.still, state.still))
    moved = trees.flatten(after.live)
    assert {f"{row.path}/{name}" for row in rows for name in row.fields if name in adapters.TRAINED} | {"head/kernel", "head/bias"} == set(moved)
    assert all(not np.array_equal(moved[path], leaf) for path, leaf in trees.flatten(state.live).items() if not path.endswith("key/bias"))


def test_microbatches_and_meshes_change_no_numbers():
    expected = None
    for parts_of_batch, mesh_config in ((1, None), (2, None), (1, MeshConfig(data=2, fsdp=2, tensor=2))):
        parts, state, hyper, model, rows = build(LORA, microbatches=parts_of_batch)
        given = batch()
        if mesh_config is not None:
            mesh = distribution.make_mesh(mesh_config)
            rule = adapters.partition_spec(rows, model.partition_spec)
            shardings = distribution.state_shardings(mesh, state, state.params, rule, minimum_size=8)
            up = shardings.still["encoder"]["block_0"]["mlp"]["up"]["kernel"]
            live = shardings.live["encoder"]["block_0"]["mlp"]["up"]["kernel"]
            assert (up.w.spec, live.b.spec[1], live.a.spec) == (jax.P("fsdp", "tensor"), "tensor", jax.P("fsdp"))
            state, given = distribution.shard_tree(state, shardings), distribution.put_batch(given, mesh)
        step = jax.jit(make_step(parts))
        for _ in range(3):
            state, metrics = step(state, given, hyper)
        found = jax.device_get((state.live, metrics["loss"]))
        expected = found if expected is None else expected
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4), found, expected)


def test_a_population_of_prompts_shares_the_model():
    parts, state, hyper, *_ = build(AdapterConfig(kind="vpt", tokens=4))
    rates = jnp.array([1e-2, 1e-3])
    found = jax.jit(jax.vmap(lambda rate: make_step(parts)(state, batch(), hyper | {"learning_rate": rate})[0].live))(rates)
    for member in range(2):
        alone, _ = jax.jit(make_step(parts))(state, batch(), hyper | {"learning_rate": rates[member]})
        jax.tree.map(lambda a, b, m=member: np.testing.assert_allclose(a[m], b, rtol=1e-4, atol=1e-5), found, alone.live)


@pytest.mark.slow
def test_a_population_over_scale_and_learning_rate_shares_the_base():
    parts, state, hyper, *_ = build(LORA)
    scales, rates = jnp.array([0.5, 4.0]), jnp.array([1e-2, 1e-3])
    spread = {path for path in trees.flatten(state.still) if path.endswith("/scale") and path.startswith("encoder") and "kernel" in path}
    still = trees.map_with_path(lambda path, leaf: scales if path in spread else leaf, state.still)
    many = state._replace(still=still)
    axes = jax.tree.map(lambda _: None, state)._replace(still=trees.map_with_path(lambda path, _: 0 if path in spread else None, state.still))
    outs = jax.tree.map(lambda _: 0, state)._replace(still=axes.still)
    population = jax.vmap(lambda s, rate: make_step(parts)(s, batch(), hyper | {"learning_rate": rate}), in_axes=(axes, 0), out_axes=(outs, 0))
    stepped, _ = jax.jit(population)(many, rates)
    assert stepped.still["encoder"]["block_0"]["mlp"]["up"]["kernel"].w.ndim == 2, "one base for all"
    single = jax.jit(make_step(parts))
    for member in range(2):
        one = state._replace(still=trees.map_with_path(lambda path, leaf, m=member: scales[m] if path in spread else leaf, state.still))
        alone, _ = single(one, batch(), hyper | {"learning_rate": rates[member]})
        jax.tree.map(lambda a, b, m=member: np.testing.assert_allclose(a[m], b, rtol=1e-4, atol=1e-5), stepped.live, alone.live)


def test_adapter_dropout_is_traced_and_in_training_alone():
    parts, state, hyper, *_ = build(dataclasses.replace(LORA, dropout=0.5))
    step = jax.jit(make_step(parts))
    first = step(state, batch(), hyper)[0]
    none, some = (step(first, batch(), hyper | {"adapter_dropout": jnp.array(rate)})[1]["loss"] for rate in (0.0, 0.5))
    assert step._cache_size() == 2, "one for the state as it was made, one for a state of the step, none for a rate"
    plain, *_ = build(LORA)
    off = jax.jit(make_step(plain))(first, batch(), {name: value for name, value in hyper.items() if name != "adapter_dropout"})[1]["loss"]
    np.testing.assert_allclose(none, off, rtol=1e-5)
    assert abs(float(some) - float(off)) > 1e-6


def settings(**changed) -> Config:
    values = {
        "method": "lora",
        "model": ModelConfig(pretrained="builtin:digits"),
        "data": DataConfig(source="digits", fraction=0.1),
        "adapter": AdapterConfig(rank=2, targets=("attention.query", "mlp.down")),
        "train": TrainConfig(duration="4 steps", batch_size=16, log_every="2 steps", evaluate_every="2 steps", checkpoint_every="2 steps"),
        "evaluation": EvaluationConfig(baselines=()),
    }
    return Config(**(values | changed))


def prepared(**changed):
    return prepare(configuration.resolve(None, {}, settings(**changed)))


@pytest.mark.usefixtures("one_device")
def test_a_run_keeps_only_what_the_pretrained_file_does_not_have_and_goes_on_exactly(tmp_path: Path):
    plan, state = prepared()
    base = plan.base(state)
    assert {"stem/position", "head/kernel", "encoder/block_0/attention/query/kernel/w", "encoder/block_0/mlp/up/kernel"} <= set(base)
    assert not {path for path in base if path.endswith(("/a", "/b", "kernel/scale"))}
    plan.travel(state, state.extra["anchor"])
    whole, _ = train(plan, state, tmp_path / "whole", base=base)

    plan, state = prepared()
    train(plan, state, tmp_path / "cut", stop_after=2, base=base)
    stored = sum(path.stat().st_size for path in (tmp_path / "cut" / "last").rglob("d/*"))
    assert stored < 0.5 * trees.nbytes(state.params), "neither the base nor its moments"
    plan, state = prepared()
    again, log = train(plan, state, tmp_path / "cut", base=plan.base(state))
    assert jax.tree.all(jax.tree.map(np.array_equal, again.state, whole.state))
    assert again.best_step == whole.best_step

    travel = next(values for step, split, values in log.lines if split == "travel" and step == 4)
    now, start = (trees.flatten(adapters.merge(tree)) for tree in (again.state.params, again.state.theta0))
    paths = [f"encoder/block_1/{name}/kernel" for name in ("attention/query", "mlp/down")]
    distance, norm = (
        np.sqrt(sum(float(jnp.square(value).sum()) for value in values)) for values in ([now[p] - start[p] for p in paths], [start[p] for p in paths])
    )
    assert travel["travel/block_1"] == pytest.approx(distance / norm, rel=1e-4)

    changed = base | {"stem/position": "0" * 16}
    with pytest.raises(CheckpointError, match="was saved beside other pretrained weights, which it does not hold: stem/position; restore the file"):
        Checkpoints(tmp_path / "cut", base=changed).restore(plan.stages[0].abstract)
