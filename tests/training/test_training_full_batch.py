"""`train.batch_size="all"`: one step is the exact gradient over all training rows, computed at once or in parts, for pictures and for texts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_text

import ftjax
from ftjax import trees
from ftjax.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig, TextConfig, TrainConfig
from ftjax.errors import ConfigError

RATE = 0.5
DESCENT = OptimizerConfig(name="sgd", learning_rate=RATE, momentum=0.0, schedule="constant", warmup="0 steps", weight_decay=0.0, clip_norm=None)


def pictures(microbatches: int = 1) -> Config:
    return Config(
        method="scratch",
        data=DataConfig(source="digits", labels_per_class=4),
        model=ModelConfig(name="vit_digits"),
        optimizer=DESCENT,
        train=TrainConfig(duration="2 steps", batch_size="all", microbatches=microbatches),
        mesh=MeshConfig(data=1, tensor=8),
    )


def one_step(config: Config):
    """The plan, the parameters before and after the first step, and its loss."""
    plan, state = ftjax.prepare(config)
    before = jax.device_get(state.params)
    after, metrics = plan.step(state, plan.batch(0))
    return plan, before, jax.device_get(after.params), float(metrics["loss"])


def expected(plan, before):
    """Loss and parameters after one step of plain gradient descent on the mean loss of all rows, in the order of their ids."""
    split = plan.dataset.splits["train"]
    rows = np.arange(len(split))
    batch = {**split.fields(rows), "label": split.labels, "weight": np.ones(len(rows), np.float32), "id": rows.astype(np.int32)}
    inputs = plan.preprocessing.inputs({key: jnp.asarray(value) for key, value in batch.items()})

    def loss(params):
        outputs, _ = plan.model.apply(params, {}, inputs)
        total, weight, _ = plan.task.loss(outputs, batch, plan.hyper)
        return total / weight

    value, gradient = jax.jit(jax.value_and_grad(loss))(before)
    return float(value), jax.tree.map(lambda leaf, slope: leaf - RATE * slope, before, gradient)


def check(config: Config) -> None:
    plan, before, after, loss = one_step(config)
    assert sorted(np.asarray(plan.batch(1)["id"])) == list(range(len(plan.dataset.splits["train"])))
    wanted_loss, wanted = expected(plan, before)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for path, leaf in trees.flatten(wanted).items():
        np.testing.assert_allclose(trees.flatten(after)[path], leaf, rtol=1e-4, atol=3e-6, err_msg=path)
    assert any(np.abs(leaf - trees.flatten(before)[path]).max() > 1e-3 for path, leaf in trees.flatten(wanted).items())


@pytest.mark.parametrize("microbatches", [1, 4])
def test_a_step_on_pictures_is_the_gradient_over_all_of_them(microbatches: int) -> None:
    check(pictures(microbatches))


def test_parts_that_do_not_come_out_even_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^train\.batch_size=40 cannot be cut into train\.microbatches=7 equal parts$"):
        ftjax.prepare(pictures(7))


@pytest.mark.parametrize("microbatches", [1, 3])
def test_a_step_on_texts_is_the_gradient_over_all_of_them(tmp_path: Path, microbatches: int) -> None:
    tiny_text.write_bert(tmp_path / "bert")
    tiny_text.write_table(tmp_path / "texts.csv", ("text", "label"), tiny_text.texts(48))
    data = DataConfig(source="table", path=str(tmp_path / "texts.csv"), duplicates="report", validation_fraction=0.2)
    train = TrainConfig(duration="2 steps", batch_size="all", microbatches=microbatches)
    model = ModelConfig(pretrained=str(tmp_path / "bert"), dropout=0.0)
    check(dataclasses.replace(pictures(), method="full", data=data, model=model, train=train, text=TextConfig(max_length=32)))
