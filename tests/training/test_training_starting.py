"""A run that begins from an adapter of peft: it answers as that adapter does before step 1, trains what it is, and says where each number came from."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import adapters, configuration, trees, weights
from ftjax.config import AdapterConfig, Config, DataConfig, EvaluationConfig, ModelConfig, TrainConfig
from ftjax.config_usage import check_used
from ftjax.errors import ConfigError, WeightsError
from ftjax.training.prepare import prepare

pytestmark = pytest.mark.usefixtures("one_device")
QUERY = "encoder/block_0/attention/query/kernel"


def settings(shared: Path, file: Path, head: str = "keep", adapter: str = "vit_lora", **changed) -> Config:
    values = {
        "method": "lora",
        "model": ModelConfig(pretrained=str(shared / "golden/models/vit"), head=head),
        "data": DataConfig(source="npz", path=str(file)),
        "adapter": AdapterConfig(pretrained=str(shared / "golden/adapters" / adapter)),
        "train": TrainConfig(duration="2 steps", batch_size=8),
        "evaluation": EvaluationConfig(baselines=()),
    }
    return Config(**(values | changed))


@pytest.fixture
def three_classes(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "three.npz", images=rng.integers(0, 255, (60, 16, 16, 3), np.uint8), labels=np.arange(60) % 3)
    return tmp_path / "three.npz"


def prepared(config: Config):
    return prepare(configuration.resolve(None, {}, config))


def test_it_answers_as_the_adapter_does_and_trains_on_as_what_it_is(shared_data, three_classes):
    plan, state = prepared(settings(shared_data, three_classes))
    theirs = weights.open_weights(str(shared_data / "golden/adapters/vit_lora/adapter_model.safetensors")).tensors
    base = weights.open_weights(str(shared_data / "golden/models/vit")).tensors
    name = "vit.layers.0.attention.q_proj"
    a, b = (theirs[f"base_model.model.{name}.lora_{factor}.weight"] for factor in "AB")
    w = base["vit.encoder.layer.0.attention.attention.query.weight"] + 8 / 4 * b @ a
    merged = trees.flatten(adapters.merge(state.params))
    np.testing.assert_allclose(merged[QUERY], w.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(merged["head/kernel"], theirs["base_model.model.classifier.weight"].T)
    value = QUERY.replace("query", "value")
    assert set(trees.flatten(state.live)) == {f"{path}/{name}" for path in (QUERY, value) for name in "ab"} | {"head/kernel", "head/bias"}
    assert plan.keeps_head, "so the model has an answer before any training"
    assert {(row.path, row.rank, row.alpha, row.target) for row in plan.bound} == {(path, 4, 8.0, "adapter.pretrained") for path in (QUERY, value)}
    stepped, _ = plan.step(state, plan.batch(0))
    assert not np.array_equal(trees.flatten(stepped.live)[f"{QUERY}/a"], trees.flatten(state.live)[f"{QUERY}/a"])
    told = {row["target"]: row for row in plan.load.to_json()["rows"]}
    assert told[f"{QUERY}/a"]["source"] == f"base_model.model.{name}.lora_A.weight"
    assert told["head/kernel"]["why"].startswith("of the adapter ")
    assert told["head/kernel"]["action"] == "loaded"
    assert "It begins from the lora of" in plan.load.summary()


def test_a_head_that_nobody_vouches_for_is_left_out_and_named(shared_data, three_classes):
    plan, state = prepared(settings(shared_data, three_classes, head="auto"))
    assert not plan.keeps_head
    assert {row.path for row in plan.table.rows if row.new and row.group == "head"} == {"head/kernel", "head/bias"}
    left = {row["source"]: row["why"] for row in plan.load.to_json()["adapter"]["ignored"]}
    assert left["base_model.model.classifier.weight"].startswith("the run has a new head; model.head='keep' takes this one")
    assert bool(jnp.isfinite(state.params["head"]["kernel"]).all())


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"method": "dora"}, ConfigError, r"adapter\.pretrained=.*vit_lora' holds a lora, and method='dora'; set method='lora'"),
        (
            {"adapter": "nothing"},
            WeightsError,
            r"nothing: no folder of a PEFT adapter; allowed: one with adapter_config\.json and adapter_model\.safetensors, or hf",
        ),
        ({"adapter": "bert_lora"}, WeightsError, r"unexpected 'base_model\.model\.bert\.encoder\.layer\.0.*': the base, a Hugging Face ViT"),
        ({"model": ModelConfig(pretrained="builtin:digits", head="new")}, WeightsError, r"missing base_model.*layers\.1.*; is the adapter of another base\?"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(shared_data, three_classes, changed, error, message):
    with pytest.raises(error, match=message):
        prepared(settings(shared_data, three_classes, **changed))


def test_what_the_file_decides_may_not_be_set():
    for changed in ({"rank": 4}, {"targets": ("mlp",)}, {"base": "int8"}):
        folder = "my_adapter"
        with pytest.raises(ConfigError, match=f"adapter.{next(iter(changed))}=.* is set and nothing reads it: adapter.pretrained is 'on'; it is read by 'off'"):
            check_used(Config(method="lora", adapter=AdapterConfig(pretrained=folder, **changed)))
    with pytest.raises(ConfigError, match=r"adapter\.pretrained='x' is set and nothing reads it: method is 'vpt'; it is read by 'lora' and 'dora' and 'ia3'"):
        check_used(Config(method="vpt", adapter=AdapterConfig(pretrained="x")))
