"""From a Hugging Face directory to trained steps: what it says of classes and input reaches the run, and what is exported loads again."""

import json

import jax
import numpy as np
import pytest
from hf_files import CONFIG, PREPROCESSOR, vit_state, write_hf
from PIL import Image

import ftjax
from ftjax import models, trees
from ftjax.config import Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig, TrainConfig
from ftjax.weights import open_weights, recognise, save_safetensors


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures of each of the three classes that the tiny ViT's config.json names, told apart by their colour."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for channel, name in enumerate(CONFIG["id2label"].values()):
        (folder / name).mkdir()
        for index in range(12):
            pixels = rng.integers(0, 120, (8, 8, 3), np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def config_of(pretrained, photos):
    return Config(
        data=DataConfig(source="image_folder", path=str(photos)),
        model=ModelConfig(pretrained=str(pretrained)),
        train=TrainConfig(duration="2 steps", batch_size=8),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        evaluation=EvaluationConfig(batch_size=8),
    )


def test_the_head_stays_where_the_data_have_the_files_own_classes(photos, tmp_path):
    plan, state = ftjax.prepare(config_of(write_hf(tmp_path, vit_state(), preprocessor=PREPROCESSOR), photos))
    head = vit_state()["classifier.weight"].T
    np.testing.assert_array_equal(np.asarray(state.params["head"]["kernel"]), head)
    assert plan.load.counts()["initialised"] == 0
    assert plan.preprocessing.to_json()["normalize"]["mean"] == tuple(PREPROCESSOR["image_mean"])


def test_other_classes_get_a_new_head(photos, tmp_path):
    names = {"0": "cat", "1": "dog", "2": "fox"}
    plan, _ = ftjax.prepare(config_of(write_hf(tmp_path, vit_state(), CONFIG | {"id2label": names}), photos))
    assert [row.target for row in plan.load.rows if row.source is None] == ["head/bias", "head/kernel"]


def test_steps_from_a_directory_move_the_weights_and_the_result_loads_as_the_same_model(photos, tmp_path):
    plan, state = ftjax.prepare(config_of(write_hf(tmp_path / "hf", vit_state()), photos))
    before = jax.device_get(trees.flatten(state.params))
    for step in range(2):
        state, metrics = plan.step(state, plan.batch(step))
        assert np.isfinite(float(metrics["loss"]))
    after = trees.flatten(jax.device_get(state.params))
    assert all(np.abs(after[path] - before[path]).max() > 0 for path in ("stem/patch/kernel", "encoder/block_1/mlp/up/kernel", "head/kernel"))
    spec = plan.model.spec
    save_safetensors(tmp_path / "own.safetensors", after, {"format": "ftjax", "spec": json.dumps(spec.to_json())})
    recognised = recognise(open_weights(str(tmp_path / "own.safetensors")))
    assert models.build(models.ModelSpec(recognised.family, recognised.options, 3, recognised.image_size)).spec == spec
    assert spec.options["epsilon"] == 1e-12
