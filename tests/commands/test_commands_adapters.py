"""Merged adapters are compared with the adapters themselves before anything is exported."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import (
    AdapterConfig,
    AfterConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    ReportConfig,
    TrainConfig,
    adapters,
    finetune,
    load,
    prepare,
    trees,
    weights,
)
from ftjax.commands import verify
from ftjax.commands.export import export
from ftjax.errors import ConfigError, TrainingFailed, WeightsError

pytestmark = pytest.mark.usefixtures("one_device")


def plan_of(outputs: dict[str, np.ndarray], output: str = "sequence", precision: str = "float32") -> SimpleNamespace:
    """A plan whose model answers what it is told, for adapted ("a") and for merged ("m") parameters."""
    return SimpleNamespace(
        plain=lambda params: "m",
        eval_batches=lambda split: iter(()),
        evaluator=SimpleNamespace(parts=lambda params, extra, batches, logits: iter([{"logits": outputs[params], "weight": np.array([1.0, 1.0, 0.0])}])),
        task=SimpleNamespace(output=output),
        config=SimpleNamespace(model=SimpleNamespace(precision=precision)),
    )


def test_a_merge_that_changes_answers_is_measured_and_refused():
    one = np.array([[1.0, 2.0], [3.0, 2.9999], [0.0, 0.0]], np.float32)
    other = one + np.array([[0.0, 0.0], [-0.001, 0.001], [9.0, 0.0]], np.float32)
    found = verify.merged(plan_of({"a": one, "m": other}), {"params": "a", "batch_stats": {}})
    assert (found["flipped"], found["answers"]) == (1, 2)
    assert found["largest_difference"] == pytest.approx(0.001, rel=1e-3)
    assert found["allowed"] == pytest.approx(0.003)
    with pytest.raises(
        TrainingFailed, match=r"merging the adapters changes the outputs by up to 0.0\d+ \(allowed 0.003\), and 1 of 2 answers; nothing is exported"
    ):
        verify.merged(plan_of({"a": one, "m": one + 50 * (other - one)}), {"params": "a", "batch_stats": {}})
    with pytest.raises(TrainingFailed, match="nothing is exported"):
        verify.merged(plan_of({"a": one, "m": one * np.nan}), {"params": "a", "batch_stats": {}})


def test_of_tokens_the_log_probabilities_are_compared():
    one = np.array([[[-1.0, 1.0]], [[-2.0, 0.0]], [[0.0, 0.0]]], np.float32)
    other = np.array([[[-1.0005, 0.0]], [[-2.0, 0.0]], [[0.0, 0.0]]], np.float32)
    found = verify.merged(plan_of({"a": one, "m": other}, "next_token"), {"params": "a", "batch_stats": {}})
    assert (found["flipped"], found["answers"]) == (1, 2)
    assert found["largest_difference"] == pytest.approx(0.0005, rel=1e-2)


@pytest.mark.slow
def test_the_story_of_an_adapted_run_ends_in_a_model_of_its_own_and_its_adapter(tmp_path):
    config = Config(
        method="dora",
        model=ModelConfig(pretrained="builtin:digits", head="new"),
        data=DataConfig(source="digits", fraction=0.3),
        adapter=AdapterConfig(rank=4, dropout=0.1),
        train=TrainConfig(duration="10 steps", evaluate_every="5 steps"),
        evaluation=EvaluationConfig(baselines=("scratch",)),
        after=AfterConfig(candidates=("ema",), alphas=(0.5,)),
        report=ReportConfig(progress="none"),
    )
    result = finetune(config, tmp_path).result
    assert result["merge"]["largest_difference"] <= result["merge"]["allowed"]
    assert all(0 < distance < 1 for group, distance in result["travel"].items() if group.startswith("block_"))
    assert [point["alpha"] for point in json.loads((tmp_path / "after.json").read_text())["curve"]] == [0.5, 1.0]
    merged = trees.flatten(load(tmp_path).params)
    assert not [path for path in merged if path.endswith(("/a", "/w"))]
    if result["after"]["chosen"] == "best_checkpoint":
        source = weights.open_weights(str(tmp_path / "model" / "adapter" / "adapter.safetensors"))
        start = trees.flatten(weights_of_digits())
        held = {path: np.asarray(source.tensors[path]) for path in source.tensors}
        assert not held.keys() & start.keys() - {"head/kernel", "head/bias"}
        path = "encoder/block_1/mlp/up/kernel"
        scale = {path: float(held[f"{path}/scale"])}
        fields = {f"{path}/{name}": held[f"{path}/{name}"] for name in ("a", "b", "magnitude")}
        again = adapters.merge(adapters.assembled({"encoder": {"block_1": {"mlp": {"up": {"kernel": jnp.asarray(start[path])}}}}}, fields, scale, {}))
        np.testing.assert_allclose(trees.flatten(again)[path], merged[path], rtol=1e-5, atol=1e-6)


def test_a_run_with_prompts_ends_in_a_model_of_its_own_that_no_other_library_has(tmp_path):
    config = Config(
        method="vpt",
        model=ModelConfig(pretrained="builtin:digits"),
        data=DataConfig(source="digits", fraction=0.1),
        adapter=AdapterConfig(tokens=4),
        train=TrainConfig(duration="2 steps", evaluate_every="2 steps"),
        evaluation=EvaluationConfig(baselines=("pretrained",)),
        report=ReportConfig(progress="none"),
    )
    result = finetune(config, tmp_path / "run").result
    assert "merge" not in result, "there is nothing to merge"
    assert not (json.loads((tmp_path / "run" / "after.json").read_text())["curve"]), "no line leads back to the pretrained weights"
    assert set(result["travel"]) == {f"block_{index}" for index in range(4)}
    plan, state = prepare(dataclasses.replace(config, method="bitfit", adapter=AdapterConfig()))
    came = plan.measures.compute_all(plan.evaluate(state.params, state.extra["batch_stats"], "test", logits=True))["accuracy"]
    assert result["baselines"]["pretrained"]["accuracy"]["value"] == pytest.approx(came), "the model as it came has no prompts"
    assert load(tmp_path / "run").params["encoder"]["block_3"]["prompt"]["tokens"].shape == (4, 96)
    with pytest.raises(WeightsError, match=r"the model has 4 x Prompt \(first encoder/block_0/prompt\), which no weight of transformers' model stands for"):
        export(tmp_path / "run", tmp_path / "out")
    with pytest.raises(WeightsError, match="holds weights with Prompt of their own, which a run cannot begin from; begin from what that run began from"):
        finetune(dataclasses.replace(config, model=ModelConfig(pretrained=str(tmp_path / "run"))), tmp_path / "next")
    with pytest.raises(ConfigError, match=r"after.candidates asks for 'wise_ft', which goes back towards pretrained weights, and method='vpt' moves none"):
        finetune(dataclasses.replace(config, after=AfterConfig(candidates=("wise_ft",))), tmp_path / "after")


def weights_of_digits():
    source = weights.open_weights("builtin:digits")
    return trees.unflatten({path: np.asarray(source.tensors[path]) for path in source.tensors})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(adapter=AdapterConfig(rank=4)), "adapter.rank=4 is set and nothing reads it: method is 'full'; it is read by 'lora' and 'dora' and 'pissa'"),
        (Config(method="ia3", adapter=AdapterConfig(dropout=0.1)), "adapter.dropout=0.1 is set and nothing reads it: method is 'ia3'"),
        (Config(method="lora", adapter=AdapterConfig(kind="dora")), "adapter.kind='dora' and method='lora' are two shapes; leave adapter.kind open"),
    ],
)
def test_settings_that_nothing_reads_are_refused(config, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        finetune(config, tmp_path)
