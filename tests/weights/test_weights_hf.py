"""Hugging Face directories in and out: every leaf explained, both spellings, shards, class names, input, and clear messages for bad ones."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from hf_files import CONFIG, PREPROCESSOR, vit_state, write_hf
from weights_files import build, target_of, zeros_of

from ftjax import Config, ModelConfig, files, models
from ftjax.errors import ConfigError, WeightsError
from ftjax.training.select import select
from ftjax.weights import Recognised, open_weights, plan, recognise, save_hugging_face, save_safetensors

GOLDEN = {
    "vit": ("vit", 24, 0),
    "vit_transformers4": ("vit", 24, 0),
    "r_vit": ("vit", 24, 0),
    "r_deit": ("vit", 25, 0),
    "r_dinov2": ("vit", 27, 1),
    "r_convnext": ("convnext", 56, 0),
}


def load(folder, image_size=None, num_classes=None, **options):
    """`(recognised, plan, leaves)` of a directory."""
    source = open_weights(str(folder))
    recognised = recognise(source)
    target = target_of(build(recognised, num_classes, image_size))
    made = plan(source, recognised, target, image_size=image_size, **options)
    return recognised, made, made.apply(zeros_of(target))


def recognised_with(tmp_path, config=None, preprocessor=None, state=None):
    return recognise(open_weights(str(write_hf(tmp_path, vit_state() if state is None else state, CONFIG | (config or {}), preprocessor))))


def refused(tmp_path, **settings) -> str:
    with pytest.raises((WeightsError, ConfigError)) as refusal:
        recognised_with(tmp_path, **settings)
    return str(refusal.value)


def same_tree(one, other):
    assert one.keys() == other.keys()
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path], err_msg=path)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_tensor_of_the_golden_models_is_explained(name, shared_data):
    family, tensors, ignored = GOLDEN[name]
    recognised, made, leaves = load(shared_data / "golden" / "models" / name)
    used = {row.source for row in made.rows}
    assert recognised.family == family
    assert (made.counts()["initialised"], made.counts()["resized"], made.counts()["ignored"]) == (0, 0, ignored)
    assert used | {tensor for tensor, _ in made.ignored} == set(made.source.tensors)
    assert len(made.source.tensors) == tensors
    assert all(np.isfinite(array).all() for array in leaves.values())


def test_files_of_transformers_4_and_5_have_the_same_leaves(shared_data):
    four, five = (load(shared_data / "golden" / "models" / name) for name in ("vit_transformers4", "vit"))
    assert four[0].options == five[0].options
    assert [(row.target, row.source, row.action, row.why) for row in four[1].rows] == [(row.target, row.source, row.action, row.why) for row in five[1].rows]


def test_a_sharded_language_model_opens_and_an_unknown_type_is_refused(shared_data, tmp_path):
    folder = shutil.copytree(shared_data / "golden" / "models" / "sharded", tmp_path / "sharded", copy_function=shutil.copyfile)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    source = open_weights(str(folder))
    assert len(source.tensors) == 21
    with pytest.raises(WeightsError, match=r"config\.json: model_type='mamba' is a language model that is not supported; allowed: llama, qwen2"):
        recognise(source)


def test_a_directory_is_recognised_from_its_config(tmp_path):
    recognised = recognised_with(tmp_path, preprocessor=PREPROCESSOR)
    assert recognised.options == {"patch": 4, "width": 8, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "epsilon": 1e-12}
    assert (recognised.family, recognised.num_classes, recognised.image_size, recognised.classes) == ("vit", 3, (8, 8), ("cat", "dog", "emu"))
    assert recognised.name_map == "Hugging Face ViT"
    assert recognised.input == {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.75], "interpolation": "bicubic", "crop_fraction": 1.0}


def test_both_spellings_and_a_bare_body_give_the_same_tree(tmp_path):
    _, _, disk = load(write_hf(tmp_path / "disk", vit_state()))
    recognised, made, inside = load(write_hf(tmp_path / "inside", vit_state(inside=True)))
    assert recognised.name_map == "Hugging Face ViT (transformers 5.9 inside)"
    assert made.counts()["initialised"] == made.counts()["ignored"] == 0
    same_tree(disk, inside)
    pooler = {"pooler.dense.weight": np.ones((8, 8), np.float32), "pooler.dense.bias": np.ones(8, np.float32)}
    recognised, made, bare = load(write_hf(tmp_path / "bare", vit_state(prefix="", classes=0) | pooler), num_classes=3)
    assert (recognised.num_classes, recognised.classes) == (None, None)
    assert [row.target for row in made.rows if row.source is None] == ["head/bias", "head/kernel"]
    assert dict(made.ignored)["pooler.dense.bias"] == "a pooler, which image classification does not use"
    same_tree({path: array for path, array in disk.items() if not path.startswith("head")}, {path: array for path, array in bare.items() if "head" not in path})


def test_shards_are_the_single_file(tmp_path):
    _, _, one = load(write_hf(tmp_path / "one", vit_state()))
    recognised, _, many = load(write_hf(tmp_path / "many", vit_state(), shards=3))
    assert recognised.classes == ("cat", "dog", "emu")
    same_tree(one, many)


def test_a_bad_index_names_the_file_and_the_tensor(tmp_path):
    folder = write_hf(tmp_path, vit_state(), shards=2)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

    def message(change):
        index.write_text(json.dumps({"weight_map": change(dict(good["weight_map"]))}))
        with pytest.raises(WeightsError) as refusal:
            open_weights(str(folder))
        return str(refusal.value)

    assert good["weight_map"]["classifier.bias"] == first
    assert f"{first}: index and shard disagree about ['absent']: model.safetensors.index.json places 'absent' there, the shard has no such tensor" in message(
        lambda table: table | {"absent": first}
    )
    assert f"the shard holds 'classifier.bias', which model.safetensors.index.json places in '{second}'" in message(
        lambda table: table | {"classifier.bias": second}
    )
    assert "the shard holds 'classifier.bias', which model.safetensors.index.json does not list" in message(
        lambda table: {name: place for name, place in table.items() if name != "classifier.bias"}
    )
    assert "names the shard 'gone.safetensors', which is not in" in message(lambda table: table | {"x": "gone.safetensors"})
    index.write_text('{"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}}')
    with pytest.raises(WeightsError, match=r"index\.json: the name 'x' occurs twice"):
        open_weights(str(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_act": "quick_gelu"}, "config.json: hidden_act='quick_gelu' is not supported; allowed: hidden_act='gelu'"),
        ({"qkv_bias": False}, "config.json: qkv_bias=False is not supported; allowed: qkv_bias=True"),
        ({"num_channels": 1}, "config.json: num_channels=1 is not supported; allowed: num_channels=3"),
        ({"hidden_size": "8"}, "config.json: hidden_size='8'; allowed: a positive whole number"),
        ({"num_attention_heads": 3}, "config.json: num_attention_heads=3; allowed: a divisor of hidden_size=8"),
        ({"patch_size": [4, 2]}, "config.json: patch_size=[4, 2]; allowed: square patches"),
        ({"layer_norm_eps": math.nan}, "config.json: layer_norm_eps=nan; allowed: a number of at least 0"),
        ({"id2label": {"0": "cat"}}, "config.json: id2label names 1 classes (cat, ...), 'classifier.weight' has 3: 0 to 2"),
        ({"id2label": ["cat"]}, "config.json: id2label is not a table of names"),
    ],
)
def test_a_config_that_cannot_be_computed_is_refused_by_its_key(config, message, tmp_path):
    assert message in refused(tmp_path, config=config)


def test_config_and_tensors_that_disagree_are_refused_leaf_by_leaf(tmp_path):
    folder = write_hf(tmp_path, vit_state(), CONFIG | {"num_hidden_layers": 3, "intermediate_size": 32})
    with pytest.raises(WeightsError) as refusal:
        load(folder)
    message = str(refusal.value)
    assert "encoder/block_0/mlp/up/kernel [8, 32]: 'vit.encoder.layer.0.intermediate.dense.weight' [16, 8] has another shape" in message
    assert "no tensor fills it; the file has no 'vit.encoder.layer.2.attention.attention.query.weight'" in message


def test_a_tensor_without_a_place_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"the tensor 'vit\.embeddings\.extra' \[2\] has no place in the model"):
        load(write_hf(tmp_path, vit_state() | {"vit.embeddings.extra": np.zeros(2, np.float32)}))


def test_a_file_without_its_config_says_what_is_missing(tmp_path):
    save_safetensors(tmp_path / "model.safetensors", vit_state(), {})
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(WeightsError, match=r"the names are those of a Hugging Face vit, .*; give the directory that has config\.json beside the weights"):
            recognise(open_weights(str(path)))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "config.json: not JSON"), ("[]", "a list, not a table"), ('{"a": 1, "a": 2}', "the name 'a' occurs twice")]
)
def test_a_broken_config_is_refused(text, message, tmp_path):
    write_hf(tmp_path, vit_state())
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError) as refusal:
        open_weights(str(tmp_path))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "crop", "size"),
    [
        ({"size": 8}, 1.0, (8, 8)),
        ({"size": {"height": 8, "width": 8}}, 1.0, (8, 8)),
        ({"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": True}, 0.8, (8, 8)),
        ({"size": {"height": 16, "width": 16}, "crop_size": 8}, 0.5, (8, 8)),
        ({"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": False}, 1.0, (10, 10)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 0.875, (224, 224)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 1.0, (384, 384)),
    ],
)
def test_the_spellings_of_size_become_size_and_crop(change, crop, size, tmp_path):
    from ftjax.weights.maps.base import input_spec
    from ftjax.weights.maps.hf import input_of

    preprocessor = {key: value for key, value in PREPROCESSOR.items() if key != "size"} | change
    source = open_weights(str(write_hf(tmp_path, vit_state(), preprocessor=preprocessor)))
    read, found, _ = input_of(source, input_spec((0.5,) * 3, (0.5,) * 3, "bilinear", 1.0))
    assert (read["crop_fraction"], found, read["interpolation"]) == (pytest.approx(crop), size, "bicubic")


def test_other_rescaling_becomes_mean_and_deviation_of_pixels_in_0_to_1(tmp_path):
    """(p f - m) / s = (p / 255 - m / (255 f)) / (s / (255 f))."""
    half = recognised_with(tmp_path, preprocessor=PREPROCESSOR | {"rescale_factor": 2 / 255}).input
    assert half["mean"] == pytest.approx([0.25, 0.2, 0.15])
    assert half["std"] == pytest.approx([0.125, 0.25, 0.375])
    raw = recognised_with(tmp_path, preprocessor=PREPROCESSOR | {"do_rescale": False}).input
    assert raw["std"] == pytest.approx([0.25 / 255, 0.5 / 255, 0.75 / 255])
    plain = recognised_with(tmp_path, preprocessor=PREPROCESSOR | {"do_normalize": False}).input
    assert (plain["mean"], plain["std"]) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 1}, "preprocessor_config.json: resample=1; allowed: 2 (bilinear), 3 (bicubic); change it in the file"),
        ({"image_std": [0.5, 0, 0.5]}, "preprocessor_config.json: image_std=[0.5, 0, 0.5]; allowed: three positive numbers"),
        ({"image_mean": [0.5]}, "preprocessor_config.json: image_mean=[0.5]; allowed: three numbers, of red, green and blue"),
        ({"size": {"longest_edge": 8}}, "preprocessor_config.json: size={'longest_edge': 8}; allowed: a number of pixels"),
        ({"rescale_offset": True}, "preprocessor_config.json: rescale_offset=True is not supported; allowed: rescale_offset=False"),
        ({"rescale_factor": 0}, "preprocessor_config.json: rescale_factor=0; allowed: a positive number"),
    ],
)
def test_an_input_that_cannot_be_made_is_refused_by_its_key(change, message, tmp_path):
    assert message in refused(tmp_path, preprocessor=PREPROCESSOR | change)


def test_without_a_preprocessor_the_input_is_the_convention_and_says_so(tmp_path):
    recognised = recognised_with(tmp_path)
    assert recognised.input == {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "crop_fraction": 1.0}
    assert recognised.why == "no preprocessor_config.json: mean, deviation and filter by convention"


def test_class_names_reach_the_selection_and_placeholders_do_not(tmp_path):
    named, numbered = write_hf(tmp_path / "named", vit_state()), tmp_path / "numbered"
    write_hf(numbered, vit_state(), CONFIG | {"id2label": {str(index): f"LABEL_{index}" for index in range(3)}})
    assert select(Config(model=ModelConfig(pretrained=str(named)))).classes == ("cat", "dog", "emu")
    assert select(Config(model=ModelConfig(pretrained=str(numbered)))).classes is None


def test_dinov2_sees_pictures_of_the_preprocessors_size(tmp_path, shared_data):
    golden = shared_data / "golden" / "models" / "r_dinov2"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((golden / name).read_bytes())
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}, "do_center_crop": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({key: value for key, value in PREPROCESSOR.items() if key != "size"} | size))
    selection = select(Config(model=ModelConfig(pretrained=str(tmp_path))))
    assert (selection.image_size, selection.recognised.image_size, selection.input.crop_fraction) == ((28, 28), (14, 14), 0.875)
    _, made, _ = load(tmp_path, image_size=(28, 28))
    assert next(row.why for row in made.rows if row.target == "stem/position") == "bicubic from 2x2 to 4x4 patches, class token kept"


def test_a_deit_with_a_teachers_head_loads_its_body_and_says_why_not_the_heads(tmp_path):
    state = {name.replace("vit.", "deit."): array for name, array in vit_state(classes=0).items()}
    rng = np.random.default_rng(1)
    state |= {"deit.embeddings.distillation_token": rng.normal(size=(1, 1, 8)), "deit.embeddings.position_embeddings": rng.normal(size=(1, 6, 8))}
    for head in ("cls_classifier", "distillation_classifier"):
        state |= {f"{head}.weight": rng.normal(size=(3, 8)), f"{head}.bias": rng.normal(size=3)}
    folder = write_hf(tmp_path, {name: array.astype(np.float32) for name, array in state.items()}, CONFIG | {"model_type": "deit"})
    recognised, made, leaves = load(folder, image_size=(16, 8), num_classes=4)
    assert (recognised.num_classes, recognised.options["distillation"]) == (None, True)
    assert "the mean of two heads on two tokens" in dict(made.ignored)["cls_classifier.weight"]
    assert len(made.ignored) == 4
    assert next(row.why for row in made.rows if row.target == "stem/position") == "bicubic from 2x2 to 4x2 patches, class and distillation token kept"
    np.testing.assert_array_equal(leaves["stem/position"][:, :2], state["deit.embeddings.position_embeddings"][:, :2].astype(np.float32))


def test_load_json_of_a_directory_is_strict_json(tmp_path):
    _, made, _ = load(write_hf(tmp_path / "model", vit_state()))
    files.write_json(tmp_path / "load.json", made.to_json())
    assert json.loads((tmp_path / "load.json").read_text())["name_map"] == "Hugging Face ViT"


OUT = {
    "vit": models.ModelSpec("vit", {"patch": 4, "width": 8, "depth": 2, "heads": 2}, 3, (8, 8)),
    "deit": models.ModelSpec("vit", {"patch": 4, "width": 8, "depth": 2, "heads": 2, "distillation": True, "epsilon": 1e-12}, 3, (8, 8)),
    "dinov2": models.ModelSpec("vit", {"patch": 4, "width": 8, "depth": 2, "heads": 2, "layer_scale": True, "pool": "token_mean"}, 3, (8, 8)),
    "convnext": models.ModelSpec("convnext", {"widths": [4, 8], "depths": [1, 2], "layer_scale": 0.5}, 3, (32, 32)),
    "resnet": models.ModelSpec("resnet", {"block": "bottleneck", "widths": [2, 4], "depths": [1, 2]}, 3, (32, 32)),
}
INPUT = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.75], "interpolation": "bicubic", "crop_fraction": 0.5}


def held_by(spec, **changes):
    spec = models.build(spec).spec
    held = Recognised(spec.family, dict(spec.options), spec.num_classes, spec.image_size, "ftjax", INPUT, classes=("cat", "dog", "emu"))
    return dataclasses.replace(held, **changes)


@pytest.mark.parametrize("name", OUT)
def test_what_is_written_for_transformers_reads_back_as_the_same_model(name, tmp_path):
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, (shape, _) in target_of(models.build(OUT[name])).items()}
    save_hugging_face(tmp_path, flat, held_by(OUT[name]))
    recognised, made, leaves = load(tmp_path)
    assert models.build(models.ModelSpec(recognised.family, recognised.options, 3, recognised.image_size)).spec == models.build(OUT[name]).spec
    assert (recognised.input, recognised.classes) == (INPUT, ("cat", "dog", "emu"))
    assert {why for _, why in made.ignored} <= {"a counter of torch's batch norm, not a weight"}
    same_tree(flat, leaves)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vit", {"family": "mobilenet_v2"}, "transformers' image classifiers have no mobilenet_v2; allowed: vit, convnext, resnet"),
        ("vit", {"options": {"layer_scale": True}}, "transformers has no vit with layer_scale=True, pool='token', distillation=False"),
        ("vit", {"classes": ("cat", "dog")}, "3 classes need as many different names; found 2"),
        ("vit", {"num_classes": None}, "a model without a head is no classifier of transformers"),
        ("vit", {"input_size": (8, 16)}, "cannot keep the shape of pictures for an input of 8x16"),
    ],
)
def test_what_transformers_cannot_compute_is_not_written(name, changes, message, tmp_path):
    with pytest.raises(WeightsError) as refusal:
        save_hugging_face(tmp_path / "out", {}, held_by(OUT[name], **changes))
    assert message in str(refusal.value)
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_cifar_resnet_has_no_home_in_transformers(tmp_path):
    spec = models.named("resnet20_cifar", 3)[0]
    with pytest.raises(WeightsError, match="no resnet with stem='cifar', padding='same', shortcut='conv_bias'; allowed: torchvision's layout"):
        save_hugging_face(tmp_path, {}, held_by(spec))


def test_a_snapshot_of_the_hub_brings_its_config_and_classes(tmp_path, monkeypatch):
    import huggingface_hub

    write_hf(tmp_path, vit_state(), preprocessor=PREPROCESSOR)
    seen = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: seen.update(options) or str(tmp_path))
    assert recognise(open_weights("hf://owner/name")).classes == ("cat", "dog", "emu")
    assert {"config.json", "preprocessor_config.json"} <= set(seen["allow_patterns"])
