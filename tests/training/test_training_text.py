"""Training on texts: few programs, exact sums over parts and devices, every text once an epoch, resume bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from silent_fit import train
from tiny_text import texts, write_bert, write_table

import ftjax
from ftjax import Config, DataConfig, EvaluationConfig, MeshConfig, ModelConfig, OptimizerConfig, ReportConfig, TaskConfig, TextConfig, TrainConfig, trees
from ftjax.errors import ConfigError, DataError

ONE = MeshConfig(data=1, tensor=8)
"""All fake devices share one part of the batch."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bert/` and `texts.csv` with 96 rows of three classes."""
    folder = tmp_path_factory.mktemp("texts")
    write_bert(folder / "bert", num_hidden_layers=1)
    write_table(folder / "texts.csv", ("text", "label"), texts(96))
    return folder


def settings(files: Path, **changes: Any) -> Config:
    values: dict[str, Any] = {
        "data": DataConfig(source="table", path=str(files / "texts.csv"), duplicates="report"),
        "text": TextConfig(buckets=2, max_length=32),
        "model": ModelConfig(pretrained=str(files / "bert"), dropout=0.0),
        "optimizer": OptimizerConfig(learning_rate=1e-3),
        "train": TrainConfig(duration="12 steps", batch_size=8, checkpoint_every="100%", evaluate_every="6 steps", log_every="2 steps"),
        "evaluation": EvaluationConfig(baselines=(), batch_size=16),
        "report": ReportConfig(progress="none"),
        "mesh": ONE,
    }
    return Config(**values | changes)


def test_training_meets_as_many_shapes_as_there_are_buckets_and_every_text_once_an_epoch(files: Path) -> None:
    plan, state = ftjax.prepare(settings(files))
    feed = plan.feed(plan.stages[0], state)
    steps = plan.clock.epoch
    batches = [plan.host_batch(step) for step in range(int(steps))]
    assert steps.denominator == 1
    assert {batch["tokens"].shape for batch in batches} <= {shape["tokens"] for shape in map(dict, feed.programs)}
    assert len(feed.programs) == 2
    seen = np.concatenate([batch["id"][batch["weight"] > 0] for batch in batches])
    assert sorted(seen) == list(range(len(plan.dataset.splits["train"])))


def test_batches_of_tokens_hold_no_more_than_they_say(files: Path) -> None:
    plan, _ = ftjax.prepare(settings(files, train=TrainConfig(duration="2 epochs", batch_tokens=256)))
    batches = [plan.host_batch(step) for step in range(plan.steps)]
    assert {batch["tokens"].shape[0] for batch in batches} == {256 // length for length in plan.dataset.splits["train"].buckets}
    assert max(batch["tokens"].size for batch in batches) <= 256
    assert sum(int((batch["weight"] > 0).sum()) for batch in batches) == 2 * len(plan.dataset.splits["train"])


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (TrainConfig(batch_size=8, batch_tokens=256), "train.batch_size and train.batch_tokens are both set"),
        (TrainConfig(batch_tokens=16), "train.batch_tokens=16"),
    ],
)
def test_impossible_batches_of_tokens_are_refused(files: Path, train: TrainConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ftjax.prepare(settings(files, train=train))


Ends = tuple[list[float], Any]


def six_steps(config: Config) -> Ends:
    """The losses of six steps, and the parameters after them."""
    plan, state = ftjax.prepare(dataclasses.replace(config, optimizer=OptimizerConfig(name="sgd", learning_rate=0.1)))
    losses = []
    for step in range(6):
        state, metrics = plan.step(state, plan.batch(step))
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


@pytest.fixture(scope="module")
def alone(files: Path) -> Ends:
    return six_steps(settings(files))


@pytest.mark.parametrize("changes", [{"mesh": MeshConfig(data=8)}, {"mesh": MeshConfig(data=2, fsdp=2, tensor=2)}, {"microbatches": 4}], ids=str)
def test_parts_and_devices_add_up_to_one(files: Path, alone: Ends, changes: dict[str, Any]) -> None:
    config = settings(files)
    train = dataclasses.replace(config.train, microbatches=changes.get("microbatches", 1))
    ends = alone, six_steps(dataclasses.replace(config, mesh=changes.get("mesh", ONE), train=train))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-5)
    for path, leaf in trees.flatten(ends[0][1]).items():
        np.testing.assert_allclose(trees.flatten(ends[1][1])[path], leaf, rtol=1e-4, atol=2e-6, err_msg=path)


def test_a_run_on_texts_stopped_anywhere_goes_on_bit_for_bit(files: Path, tmp_path: Path) -> None:
    config = settings(files, model=ModelConfig(pretrained=str(files / "bert"), dropout=0.1))
    plan, state = ftjax.prepare(config)
    whole, _ = train(plan, plan.copy(state), tmp_path / "whole")
    part, _ = train(plan, plan.copy(state), tmp_path / "parts", 4)
    assert not part.finished
    rest, _ = train(plan, plan.copy(state), tmp_path / "parts")
    assert rest.finished
    for path, leaf in trees.flatten(whole.state).items():
        np.testing.assert_array_equal(leaf, trees.flatten(rest.state)[path], err_msg=path)


def test_a_probe_of_texts_trains_on_features_computed_once(files: Path) -> None:
    plan, state = ftjax.prepare(settings(files, method="probe"))
    assert plan.stages[0].head_only
    feed = plan.feed(plan.stages[0], state)
    assert {name for name, _ in next(iter(feed.programs))} == {"features", "id", "label", "weight"}
    split = plan.dataset.splits["train"]
    rows = np.arange(len(split))
    inputs = {name: jnp.asarray(array) for name, array in split.fields(rows).items()}
    expected = plan.model.features(state.params, {}, inputs)
    np.testing.assert_allclose(feed.split.fields(rows)["features"], expected, rtol=1e-4, atol=1e-5)
    with contextlib.closing(plan.train_batches(feed, 0, 5)) as batches:
        assert [batch["id"].tolist() for batch in batches] == [plan.host_batch(step)["id"].tolist() for step in range(5)]


@pytest.mark.parametrize("remedy", ["balanced", "sqrt", "focal", "logit_adjust", "oversample"])
def test_every_remedy_for_rare_classes_trains(files: Path, remedy: str) -> None:
    plan, state = ftjax.prepare(settings(files, task=TaskConfig(imbalance=remedy)))
    after, metrics = plan.step(state, plan.batch(0))
    assert np.isfinite(float(metrics["loss"]))
    assert int(after.step) == 1


def test_two_views_without_noise_are_refused(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.r_drop=1 compares two dropout masks and model\.dropout is 0"):
        ftjax.prepare(settings(files, method="probe", model=ModelConfig(pretrained=str(files / "bert")), task=TaskConfig(r_drop=1.0)))


def test_a_kept_head_of_a_regression_is_refused(files: Path) -> None:
    model = ModelConfig(pretrained=str(files / "bert"), head="keep")
    write_table(files / "scores.csv", ("text", "score"), [(text, str(len(text))) for text, _ in texts(60)])
    data = DataConfig(source="table", path=str(files / "scores.csv"), duplicates="report")
    with pytest.raises(ConfigError, match=r"model\.head='keep': a regression learns its targets in units of their deviation"):
        ftjax.prepare(settings(files, model=model, data=data, task=TaskConfig(name="regression")))


def test_the_head_of_the_same_classes_is_kept_only_on_the_same_pooling(files: Path) -> None:
    for pool, kept in (("pooler", True), ("mean", False)):
        plan, _ = ftjax.prepare(settings(files, model=ModelConfig(pretrained=str(files / "bert"), pool=pool)))  # type: ignore[arg-type]
        assert plan.keeps_head is kept


def test_two_views_differ_by_their_dropout_alone(files: Path) -> None:
    model = ModelConfig(pretrained=str(files / "bert"), dropout=0.1)
    plan, state = ftjax.prepare(settings(files, model=model, task=TaskConfig(r_drop=1.0)))
    strong = plan.step(state, plan.batch(0))[1]["loss"]
    weak = plan.step(state, plan.batch(0), plan.hyper | {"r_drop": jnp.zeros(())})[1]["loss"]
    assert float(strong) > float(weak)


def test_pictures_for_an_encoder_and_texts_for_a_picture_model_are_refused(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"the model \(bert\) reads text, data.source='digits' does not give it; allowed: 'table', 'conll', 'squad'"):
        ftjax.prepare(settings(files, data=DataConfig(source="digits"), text=TextConfig(), model=ModelConfig(pretrained=str(files / "bert"))))
    with pytest.raises(ConfigError, match=r"the model \(vit\) reads images, data.source='table' does not give it"):
        ftjax.prepare(settings(files, model=ModelConfig(pretrained="builtin:digits")))


def test_a_length_that_the_model_cannot_take_is_refused(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"text.max_length=65: .*bert takes at most 64 tokens"):
        ftjax.prepare(settings(files, text=TextConfig(max_length=65)))


def test_a_label_that_is_seen_in_test_only_is_named(files: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "test.csv", ("text", "label"), [*texts(9, seed=5), ("bara bara", "cherry")])
    data = DataConfig(source="table", path=str(files / "texts.csv"), test_path=str(tmp_path / "test.csv"))
    with pytest.raises(DataError, match="class 'cherry' is in test"):
        ftjax.prepare(settings(files, data=data))
