"""The forgetting meter: the pretrained model's own answers at step 0, and every change of the body afterwards."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import ftjax
from ftjax import Config, DataConfig, ModelConfig, TrainConfig, evaluation, models, trees, weights
from ftjax.config import EvaluationConfig, ForgettingConfig, OptimizerConfig
from ftjax.errors import ConfigError, DataError
from ftjax.models import InputSpec, ModelSpec
from ftjax.training.forgetting import Meter, prepare_meter, resolve_labels
from ftjax.training.select import select

pytestmark = pytest.mark.usefixtures("one_device")

SPEC = ModelSpec("vit", {"patch": 8, "width": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}, 3, (16, 16))
INPUT = InputSpec((0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
CLASSES = ("dark", "grey", "light")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A small vision transformer with three classes, as an artefact holds it."""
    params, _ = models.build(SPEC).init(jax.random.key(3))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    draw = np.random.default_rng(0)
    flat = {name: np.asarray(leaf) + 0.1 * draw.normal(size=leaf.shape).astype(np.float32) for name, leaf in trees.flatten(params).items()}
    metadata = {"format": "ftjax", "spec": json.dumps(SPEC.to_json()), "input": json.dumps(INPUT.to_json()), "classes": json.dumps(CLASSES)}
    weights.save_safetensors(path, flat, metadata)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten photos of each pretrained class."""
    folder = tmp_path_factory.mktemp("source")
    draw = np.random.default_rng(1)
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for index in range(10):
            Image.fromarray((draw.integers(0, 80, (16, 16, 3)) + 80 * place).astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def settings(pretrained, path, *, method="full", examples=24, **changes):
    values = {
        "method": method,
        "data": DataConfig(source="digits", labels_per_class=4),
        "model": ModelConfig(pretrained=str(pretrained)),
        "train": TrainConfig(duration="6 steps", batch_size=16),
        "evaluation": EvaluationConfig(batch_size=16),
        "optimizer": OptimizerConfig(learning_rate=3e-2, warmup="0 steps"),
        "forgetting": ForgettingConfig(path=None if path is None else str(path), examples=examples),
    }
    return Config(**(values | changes))


def measure(plan, state):
    assert plan.meter is not None
    return plan.meter.measure(state.params, state.extra["batch_stats"])


def test_without_a_path_nothing_is_measured(pretrained):
    assert prepare_meter(settings(pretrained, None), None, None, None, None) is None


@pytest.fixture(scope="module")
def trained(pretrained, photos):
    """Plan, and the measurements before every step and after the last of a run that learns fast."""
    plan, state = ftjax.prepare(settings(pretrained, photos))
    found = [measure(plan, state)]
    for step in range(4):
        state, _ = plan.step(state, plan.batch(step))
        found.append(measure(plan, state))
    return plan, state, found


def test_at_step_0_the_answers_are_the_pretrained_models(trained, pretrained, photos):
    plan, _, found = trained
    assert found[0] == plan.meter.before
    assert found[0]["source_divergence"] == 0
    model = models.build(SPEC)
    source = weights.open_weights(str(pretrained))
    shapes = {path: (leaf.shape, "float32") for path, leaf in trees.flatten(jax.eval_shape(model.init, jax.random.key(0))[0]).items()}
    loaded = weights.plan(source, weights.recognise(source), shapes).apply({path: np.zeros(shape) for path, (shape, _) in shapes.items()})
    ids = [photos / name for name in plan.meter.examples.ids]
    images = np.stack([np.asarray(Image.open(path)) for path in ids])
    logits, _ = model.apply(trees.unflatten(loaded), {}, images / np.float32(127.5) - 1)
    records = evaluation.Records.from_logits(np.asarray(logits), np.array([CLASSES.index(path.parent.name) for path in ids], np.int32))
    plain = evaluation.compute_all(records, 3, 1)
    assert found[0]["source_accuracy"] == plain["accuracy"]
    assert found[0]["source_loss"] == pytest.approx(plain["log_loss"], abs=1e-5)


def test_a_body_that_moves_far_forgets(trained):
    _, _, found = trained
    divergence = [values["source_divergence"] for values in found]
    assert divergence[0] == 0
    assert min(divergence[1:]) > 1e-3
    assert divergence[-1] > 0.05
    assert all(np.isfinite(value) for values in found for value in values.values())


def test_the_meter_is_compiled_once_with_the_parameters_as_arguments(trained):
    plan, state, _ = trained
    assert plan.meter.evaluator._step._cache_size() == 1
    lowered = plan.meter.evaluator._step.lower(
        {**state.params, "head": plan.meter.head}, {}, {name: value[:16] for name, value in plan.put(next(plan.eval_batches("test"))).items()}
    )
    assert len(lowered.as_text()) < 200_000


def test_the_same_examples_are_followed_and_no_more_than_asked(trained):
    plan, _, _ = trained
    assert len(plan.meter.examples) == 24
    assert plan.meter.reference == "labels"
    assert [CLASSES[label] for label in plan.meter.labels] == [name.split("/")[0] for name in plan.meter.examples.ids]
    assert plan.meter.compare(*_variables(trained[1])).keys() == {"before", "after", "reference", "examples"}


def _variables(state):
    return state.params, state.extra["batch_stats"]


def test_a_frozen_body_forgets_nothing_at_any_step(pretrained, photos):
    plan, state = ftjax.prepare(settings(pretrained, photos, method="probe"))
    start = np.asarray(state.params["head"]["kernel"])
    for step in range(4):
        state, _ = plan.step(state, plan.batch(step))
        assert measure(plan, state) == plan.meter.before
    assert not np.array_equal(start, state.params["head"]["kernel"])


def test_without_labels_the_loss_is_taken_against_the_pretrained_answers(pretrained, photos, tmp_path):
    for index, path in enumerate(sorted(photos.rglob("*.png"))[::3]):
        (tmp_path / f"photo{index}.png").write_bytes(path.read_bytes())
    plan, state = ftjax.prepare(settings(pretrained, tmp_path))
    before = measure(plan, state)
    assert plan.meter.reference == "pretrained answers"
    assert before.keys() == {"source_loss", "source_divergence"}
    entropy = before["source_loss"]
    for step in range(2):
        state, _ = plan.step(state, plan.batch(step))
    after = measure(plan, state)
    assert after["source_loss"] - entropy == pytest.approx(after["source_divergence"])


def test_an_archive_is_followed_too_and_needs_no_class_names(pretrained, tmp_path):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "source.npz", images=draw.integers(0, 255, (9, 20, 20), dtype=np.uint8), labels=np.arange(9) % 3)
    plan, _ = ftjax.prepare(settings(pretrained, tmp_path / "source.npz"))
    assert plan.meter.labels.tolist() == (np.arange(9) % 3).tolist()


def test_labels_that_the_pretrained_model_cannot_tell_are_warned_of():
    answers = np.log(np.tile([0.98, 0.01, 0.01], (20, 1)))
    meter = Meter(examples=None, labels=np.ones(20, np.int32), answers=answers, head={}, evaluator=None, batch_size=1)
    assert meter.warnings == (
        "forgetting.path: the pretrained model gives 0.0% of these examples the class that their folder or file name says: is it one of its classes, "
        "and does it know pictures of this model.image_size? What it does not know it cannot forget; read the divergence instead",
    )
    assert dataclasses.replace(meter, labels=np.zeros(20, np.int32)).warnings == ()
    assert dataclasses.replace(meter, labels=None).warnings == ()


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (["b", "a"], ("a", "b"), [1, 0]),
        (["1", "0"], ("1", "0"), [0, 1]),
        (["0002", "1"], ("a", "b", "c"), [2, 1]),
        (["3"], ("a", "b", "c"), None),
        (["a", None], ("a", "b"), None),
        (["a", "1"], ("a", "b"), None),
        (["-1"], None, None),
    ],
)
def test_labels_resolve_all_or_not_at_all(names, classes, expected):
    found = resolve_labels(names, classes, 3)
    assert (None if found is None else found.tolist()) == expected


def test_a_wrong_path_is_named(pretrained, photos):
    with pytest.raises(DataError, match=r"forgetting\.path=.*sauce0? does not exist"):
        ftjax.prepare(settings(pretrained, photos.parent / "sauce"))


def test_nothing_to_follow_is_refused(pretrained, photos):
    with pytest.raises(ConfigError, match=r"forgetting\.examples=0: allowed is 1 or more"):
        prepare_meter(settings(pretrained, photos, examples=0), None, None, None, None)


def test_a_run_from_scratch_has_nothing_to_forget(photos):
    message = r"forgetting\.path=.*: nothing is pretrained with method='scratch', so nothing can be forgotten; leave forgetting\.path open"
    config = settings(None, photos, method="scratch", model=ModelConfig(name="vit_digits"))
    with pytest.raises(ConfigError, match=message):
        prepare_meter(config, select(config), None, None, None)


def test_a_file_without_a_head_is_refused(shared_data, photos):
    config = settings(shared_data / "weights" / "mobilenet_v2_0.35_notop", photos)
    with pytest.raises(ConfigError, match=r"has no head \(a 'notop' file\), so it has no answers to forget; use weights with their classification head"):
        prepare_meter(config, select(config), None, None, None)


@pytest.mark.slow
def test_imagenet_is_forgotten_by_a_vision_transformer_that_learns_satellites(shared_data):
    """100 photos whose names begin with the number of their class, through the head of ViT-Ti/16."""
    config = settings(
        shared_data / "weights" / "vit_tiny_patch16_224",
        shared_data / "images" / "imagenet_sample",
        examples=40,
        data=DataConfig(source="image_folder", path=str(shared_data / "images" / "eurosat"), labels_per_class=2),
        train=TrainConfig(duration="3 steps", batch_size=8),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup="0 steps"),
    )
    plan, state = ftjax.prepare(config)
    before = measure(plan, state)
    assert plan.meter.reference == "labels"
    assert before["source_divergence"] == 0
    assert before["source_accuracy"] > 0.7
    for step in range(2):
        state, _ = plan.step(state, plan.batch(step))
    after = measure(plan, state)
    assert after["source_divergence"] > 0.1
    assert after["source_accuracy"] < before["source_accuracy"]
