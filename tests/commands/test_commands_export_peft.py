"""`export --format peft`: a run's adapters alone, as `read_peft` and peft read them, on the base that the run began from."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import AdapterConfig, adapters, files, main, models, trees, weights
from ftjax.training import peft

SPEC = models.ModelSpec("vit", {"patch": 4, "width": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0}, 3, (8, 8))


def finished(folder, kind="lora", began="hf://owner/vit", **options):
    """What a finished run of pictures leaves in `model/`, with adapters moved at random; and the bound parameters."""
    model = models.build(SPEC)
    params = model.init(jax.random.key(0))[0]
    config = AdapterConfig(kind=kind, rank=2, **options)
    bound, rows = adapters.bind(params, config, jax.random.key(1))
    rng = np.random.default_rng(0)
    moved = {path for path in trees.flatten(bound) if path.rpartition("/")[2] in adapters.TRAINED or path.startswith("head/")}
    noise = {path: jnp.asarray(rng.normal(size=leaf.shape, scale=0.1), jnp.float32) for path, leaf in trees.flatten(bound).items() if path in moved}
    bound = trees.map_with_path(lambda path, leaf: leaf + noise[path] if path in moved else leaf, bound)
    flat = {path: np.asarray(leaf) for path, leaf in trees.flatten(bound).items()}
    beside = {path: array for path, array in flat.items() if path not in trees.flatten(params) and path.rpartition("/")[2] not in adapters.BASE}
    beside |= {path: array for path, array in flat.items() if path.startswith("head/")}
    description = {"spec": SPEC.to_json(), "classes": ["a", "b", "c"], "task": "classification", "task_settings": {}, "preprocessing": {}, "input": None}
    files.write_json(folder / "model" / "model.json", description)
    metadata = {"adapter": dataclasses.asdict(config), "base": {"source": began, "sha256": ""}}
    metadata |= {"bound": [dataclasses.asdict(row) | {"fields": dict(row.fields)} for row in rows]}
    metadata = {"format": "ftjax-adapter"} | {key: json.dumps(value) for key, value in metadata.items()}
    weights.save_safetensors(folder / "model" / "adapter" / "adapter.safetensors", beside, metadata)
    return model, params, bound


@pytest.mark.parametrize(
    ("kind", "options"), [("lora", {"scaling": "rslora", "dropout": 0.1}), ("dora", {}), ("pissa", {}), ("ia3", {}), ("lora", {"base": "int8"})]
)
def test_the_adapters_of_a_run_answer_on_their_base_as_the_run_did(kind, options, tmp_path, capsys):
    model, params, bound = finished(tmp_path, kind, **options)
    assert main.main(["export", "--workdir", str(tmp_path), "--format", "peft", "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'out'}\n"
    assert ("8 bits" in shown.err) == ("base" in options)
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["modules_to_save"]) == ("owner/vit", ["classifier"])
    assert (settings.get("use_rslora", False), settings.get("lora_dropout", 0)) == ("scaling" in options, options.get("dropout", 0))
    held = weights.Recognised("vit", dict(model.spec.options), 3, (8, 8), "ftjax", None)
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(params).items()}
    again = peft.put_on(params, weights.read_peft(tmp_path / "out", held, shapes))
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 3)), jnp.float32)
    mine, theirs = (np.asarray(model.apply(tree, {}, images)[0]) for tree in (bound, again))
    np.testing.assert_allclose(theirs, mine, atol=0.05 if options.get("base") else 1e-5)
    assert np.abs(mine - np.asarray(model.apply(params, {}, images)[0])).max() > 0.05


def test_the_names_of_older_transformers_and_another_base_are_flags(tmp_path, capsys):
    finished(tmp_path, began="builtin:digits")
    command = ["export", "--workdir", str(tmp_path), "--format", "peft", "--transformers", "4", "--output", str(tmp_path / "out")]
    assert main.main(command) == 2
    assert "began from builtin:digits, which transformers does not load; name the same weights there with --base" in capsys.readouterr().err
    assert main.main([*command, "--base", "me/digits"]) == 0
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "me/digits"
    assert "attention.attention.query" not in settings["target_modules"]
    assert {"query", "value"} <= set(settings["target_modules"])


def test_a_run_without_adapters_has_none_to_export(tmp_path, capsys):
    finished(tmp_path)
    (tmp_path / "model" / "adapter" / "adapter.safetensors").unlink()
    assert main.main(["export", "--workdir", str(tmp_path), "--format", "peft", "--output", str(tmp_path / "out")]) == 2
    assert "has no adapter of its own, adapter/adapter.safetensors" in capsys.readouterr().err


def test_a_shape_that_peft_does_not_have_is_refused(tmp_path, capsys):
    finished(tmp_path, "oft", block=8)
    assert main.main(["export", "--workdir", str(tmp_path), "--format", "peft", "--output", str(tmp_path / "out")]) == 2
    assert (
        "a PEFT file of OFT is not written; allowed: lora, dora, pissa and ia3, the prompt of a decoder, or merged weights (--format hf)"
        in capsys.readouterr().err
    )
