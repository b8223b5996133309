"""Training dynamics: exact over batches with repeats and padding, the same on any mesh and in any parts, and in the checkpoint."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_parts as small
from silent_fit import train
from tiny_text import texts, write_bert, write_table

import ftjax
from ftjax import distribution
from ftjax.config import AugmentConfig, Config, DataConfig, MeshConfig, ModelConfig, TaskConfig, TextConfig, TrainConfig
from ftjax.config_usage import check_used
from ftjax.errors import ConfigError
from ftjax.training.dynamics import cartography, check_dynamics, follow, observe, start_dynamics
from ftjax.training.step import make_step


def test_mean_and_deviation_are_those_of_all_times_also_near_one_and_with_repeats() -> None:
    draw = np.random.default_rng(0)
    dynamics, times = start_dynamics(6), {row: [] for row in range(6)}
    for _ in range(40):
        ids = draw.integers(-1, 5, 8)  # row 5 never comes
        probability = (1 - 1e-4 * draw.random(8)).astype(np.float32)
        right = draw.integers(0, 2, 8) * (ids >= 0)
        dynamics = follow(dynamics, {"id": jnp.asarray(ids), "probability": jnp.asarray(probability), "right": jnp.asarray(right, jnp.int32)})
        for row, p, hit in zip(ids, probability, right):
            if row >= 0:
                times[int(row)].append((p, hit))
    found = cartography(dynamics)
    assert found.seen.tolist() == [len(times[row]) for row in range(6)]
    for row in range(5):
        probability, right = (np.array(values, np.float64) for values in zip(*times[row]))
        assert found.confidence[row] == pytest.approx(probability.mean(), abs=1e-7)
        assert found.variability[row] == pytest.approx(probability.std(), rel=2e-3)
        assert found.correctness[row] == pytest.approx(right.mean(), abs=1e-7)
    assert found.of(5) == {"seen": 0, "confidence": None, "variability": None, "correctness": None}
    assert 5 not in found.hardest(9)
    assert found.hardest(9) == np.argsort(found.confidence[:5]).tolist()
    assert found.ambiguous(2) == np.argsort(-found.variability[:5])[:2].tolist()


def test_padding_and_answers_that_are_not_finite_are_nobodys_and_two_views_are_averaged() -> None:
    logits = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5], [0.6, 0.4]]))
    batch = {"label": jnp.array([0, 7, 0]), "weight": jnp.array([1.0, 0.0, 1.0]), "id": jnp.array([4, -1, 2])}
    seen = jax.device_get(observe(logits, batch, 2))
    assert seen["id"].tolist() == [4, -1, 2]
    np.testing.assert_allclose(seen["probability"], [0.6, 0, 0.4], rtol=1e-6)
    assert seen["right"].tolist() == [1, 0, 0]
    bad = jax.device_get(observe(logits[:3].at[2, 0].set(jnp.nan), batch, 1))
    assert bad["id"].tolist() == [4, -1, -1]


def trained(mesh: Any, microbatches: int, dynamics: bool = True) -> tuple[Any, Any, list[np.ndarray]]:
    """Dynamics and weights after two steps, and the logits of the weights before each."""
    parts, state, hyper, model = small.build(small.config(), depth=1, dtype=jnp.float64, microbatches=microbatches)
    parts = dataclasses.replace(parts, dynamics=dynamics)
    state = state._replace(extra=state.extra | {"dynamics": start_dynamics(64)})
    shardings = distribution.state_shardings(mesh, state, state.params, model.partition_spec, minimum_size=8)
    everywhere = distribution.replicated(mesh)
    step = jax.jit(make_step(parts), in_shardings=(shardings, distribution.batch_sharding(mesh), everywhere), out_shardings=(shardings, everywhere))
    state, hyper = jax.device_put(state, shardings), jax.device_put(hyper, everywhere)
    logits = []
    for number in range(2):
        batch = given(number)
        params = jax.device_get(state.params)
        logits.append(np.asarray(model.apply(params, {}, parts.preprocessing.inputs({"image": jnp.asarray(batch["image"])}))[0]))
        state, _ = step(state, distribution.put_batch(batch, mesh), hyper)
    return jax.device_get(state.extra["dynamics"]), jax.device_get(state.live), logits


def given(number: int) -> dict[str, Any]:
    """A batch with padding, whose rows 0 to 7 come again."""
    weight = np.where(np.arange(32) % 7 == 3, 0, 1)
    batch = small.batch(number, size=32, weight=weight)
    ids = np.where(weight > 0, np.arange(32) if number == 0 else (np.arange(32) + 24) % 56, -1)
    return batch | {"id": ids.astype(np.int32)}


def test_parts_and_devices_see_what_the_model_gave_each_label_before_the_update_and_change_nothing() -> None:
    with jax.enable_x64(True):
        alone = distribution.make_mesh(MeshConfig(data=1), jax.devices()[:1])
        one, live, logits = trained(alone, 1)
        untold, same, _ = trained(alone, 1, dynamics=False)
        many, *_ = trained(distribution.make_mesh(MeshConfig(data=4, fsdp=2)), 2)
    assert not untold["seen"].any()
    for leaf, other in zip(jax.tree.leaves(live), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(leaf, other, atol=1e-12)
    times: dict[int, list[float]] = {}
    for number in range(2):
        batch = given(number)
        shares = np.exp(logits[number]) / np.exp(logits[number]).sum(axis=1, keepdims=True)
        for row, label, share in zip(batch["id"], batch["label"], shares):
            if row >= 0:
                times.setdefault(int(row), []).append(float(share[label]))
    seen = np.array([len(times.get(row, ())) for row in range(64)])
    assert set(seen) == {0, 1, 2}
    for found in (one, many):
        assert found["seen"].tolist() == seen.tolist()
        np.testing.assert_allclose(found["mean"], [np.mean(times.get(row, [0.0])) for row in range(64)], atol=1e-6)
        np.testing.assert_allclose(found["squares"], [np.var(times.get(row, [0.0])) * max(1, seen[row]) for row in range(64)], atol=1e-6)


@pytest.mark.usefixtures("one_device")
def test_a_run_stopped_anywhere_ends_with_the_same_map(tmp_path: Path) -> None:
    write_bert(tmp_path / "bert")
    write_table(tmp_path / "texts.csv", ("text", "label"), texts(60))
    config = Config(
        data=DataConfig(source="table", path=str(tmp_path / "texts.csv"), duplicates="report"),
        text=TextConfig(buckets=1, max_length=32),
        model=ModelConfig(pretrained=str(tmp_path / "bert"), dropout=0.1),
        train=TrainConfig(duration="2.5 epochs", batch_size=8, cartography=True, checkpoint_every="100%", evaluate_every="100%", log_every="2 steps"),
    )
    plan, state = ftjax.prepare(config)
    whole, _ = train(plan, plan.copy(state), tmp_path / "whole")
    part, _ = train(plan, plan.copy(state), tmp_path / "parts", 4)
    assert not part.finished
    rest, _ = train(plan, plan.copy(state), tmp_path / "parts")
    for name, values in whole.state.extra["dynamics"].items():
        np.testing.assert_array_equal(values, rest.state.extra["dynamics"][name], err_msg=name)
    found, rows = cartography(whole.state.extra["dynamics"]), len(plan.dataset.splits["train"])
    assert len(found.seen) == rows
    assert set(found.seen) == {2, 3}, "each once an epoch, padding never"


def test_examples_that_are_blended_or_have_no_one_class_are_not_followed() -> None:
    message = "train.cartography=True reads off each example's own answers, and augment.cutmix=1.0 trains on blends of two; allowed: augment.cutmix=0"
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_dynamics(Config(train=TrainConfig(cartography=True), augment=AugmentConfig(cutmix=1.0)))
    with pytest.raises(ConfigError, match=r"train\.cartography=True is set and nothing reads it: task\.name is 'multi_label'; it is read by 'classification'"):
        check_used(Config(train=TrainConfig(cartography=True), task=TaskConfig(name="multi_label"), data=DataConfig(source="table", path="x")))
