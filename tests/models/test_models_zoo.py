"""The zoo: every named model has the promised paths, groups and shapes, and every wrong request says what would do."""

import json

import jax
import jax.numpy as jnp
import pytest

from ftjax import models, trees
from ftjax.errors import ConfigError

PARAMETERS = {
    "vit_tiny_patch16_224": 5_717_416,
    "vit_small_patch16_224": 22_050_664,
    "vit_base_patch16_224": 86_567_656,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "mobilenet_v2_1.0": 3_504_872,
}
"""With 1,000 classes, as published (torchvision, timm, Keras without batch statistics)."""


def abstract(name, num_classes=10, **options):
    spec, _ = models.named(name, num_classes)
    model = models.build(spec, **options)
    return model, *jax.eval_shape(model.init, jax.random.key(0))


@pytest.mark.parametrize("name", models.names())
def test_every_named_model_maps_images_to_float32_logits_and_features(name):
    model, params, extra = abstract(name, 7)
    images = jax.ShapeDtypeStruct((2, *model.spec.image_size, 3), jnp.float32)
    logits, _ = jax.eval_shape(model.apply, params, extra, images)
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
    features = jax.eval_shape(model.features, params, extra, images)
    assert features.shape == (2, trees.flatten(params)["head/kernel"].shape[0])


@pytest.mark.parametrize("name", models.names())
def test_groups_cover_every_path_in_depth_order(name):
    model, params, extra = abstract(name)
    paths = [*trees.flatten(params), *trees.flatten(extra.get("batch_stats", {}))]
    assert {model.group_of(path) for path in paths} == set(model.groups)
    assert model.groups[:2] == ("stem", "block_0")
    assert model.groups[-1] == "head"
    blocks = [group for group in model.groups if group.startswith("block_")]
    assert blocks == [f"block_{index}" for index in range(len(blocks))]


@pytest.mark.parametrize("name", models.names())
def test_partition_specs_fit_every_parameter(name):
    model, params, _ = abstract(name)
    for path, leaf in trees.flatten(params).items():
        assert len(model.partition_spec(path, leaf.shape)) == leaf.ndim


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items())
def test_parameter_counts_are_the_published_ones(name, expected):
    assert trees.count(abstract(name, 1000)[1]) == expected


def test_vit_paths_are_canonical():
    _, params, extra = abstract("vit_digits")
    shapes = {path: leaf.shape for path, leaf in trees.flatten(params).items()}
    block = {
        **{f"attention/{role}/{leaf}": shape for role in ("query", "key", "value", "out") for leaf, shape in (("kernel", (96, 96)), ("bias", (96,)))},
        "mlp/up/kernel": (96, 384),
        "mlp/up/bias": (384,),
        "mlp/down/kernel": (384, 96),
        "mlp/down/bias": (96,),
        **{f"{norm}/{leaf}": (96,) for norm in ("norm1", "norm2") for leaf in ("scale", "bias")},
    }
    assert shapes == {
        "stem/patch/kernel": (4, 4, 3, 96),
        "stem/patch/bias": (96,),
        "stem/class_token": (1, 1, 96),
        "stem/position": (1, 17, 96),
        **{f"encoder/block_{index}/{path}": shape for index in range(4) for path, shape in block.items()},
        "norm/scale": (96,),
        "norm/bias": (96,),
        "head/kernel": (96, 10),
        "head/bias": (10,),
    }
    assert extra == {}


def test_batch_statistics_lie_under_their_norms_paths():
    for name in ("resnet18", "preact_resnet20_cifar", "mobilenet_v2_0.35"):
        _, params, extra = abstract(name)
        norms = {path.removesuffix("/scale") for path in trees.flatten(params) if path.endswith("/scale")}
        assert set(trees.flatten(extra["batch_stats"])) == {f"{norm}/{moment}" for norm in norms for moment in ("mean", "var")}


def test_resnet_and_mobilenet_paths_are_canonical():
    assert {"stem/conv/kernel", "stem/norm/scale", "encoder/block_0/conv3/kernel", "encoder/block_0/shortcut/conv/kernel"} <= set(
        trees.flatten(abstract("resnet50")[1])
    )
    assert "encoder/block_0/shortcut/norm/bias" in trees.flatten(abstract("resnet50")[1])
    assert "encoder/block_3/shortcut/conv/bias" in trees.flatten(abstract("resnet20_cifar")[1])
    mobile = trees.flatten(abstract("mobilenet_v2_0.35")[1])
    assert {"top/conv/kernel", "top/norm/scale", "encoder/block_1/expand/kernel", "encoder/block_1/project_norm/scale"} <= set(mobile)
    assert mobile["encoder/block_1/depthwise/kernel"].shape == (3, 3, 1, 48)
    assert "encoder/block_0/expand/kernel" not in mobile


def test_vit_splits_over_the_tensor_axis_as_megatron_does():
    model, *_ = abstract("vit_digits")
    assert model.partition_spec("encoder/block_0/attention/query/kernel", (96, 96)) == (None, "tensor")
    assert model.partition_spec("encoder/block_0/mlp/up/bias", (384,)) == ("tensor",)
    assert model.partition_spec("encoder/block_0/mlp/down/kernel", (384, 96)) == ("tensor", None)
    assert model.partition_spec("encoder/block_0/attention/out/bias", (96,)) == (None,)
    assert model.partition_spec("head/kernel", (96, 10)) == (None, None)


def test_specs_survive_json():
    for name in models.names():
        spec, pixels = models.named(name, 3)
        assert models.ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert models.InputSpec.from_json(json.loads(json.dumps(pixels.to_json()))) == pixels
        assert hash(spec) == hash(models.ModelSpec.from_json(spec.to_json()))


def test_a_spec_may_leave_options_out():
    model = models.build(models.ModelSpec("vit", {"depth": 2}, 10, (32, 64)))
    assert model.spec.options == {"patch": 16, "width": 192, "depth": 2, "heads": 3, "mlp_ratio": 4.0}
    assert trees.flatten(jax.eval_shape(model.init, jax.random.key(0))[0])["stem/position"].shape == (1, 1 + 2 * 4, 192)


def _spec(family="vit", size=(224, 224), classes=10, **options):
    return models.ModelSpec(family, options, classes, size)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda: models.named("vit_tiny_patch16", 10), "model.name 'vit_tiny_patch16' is unknown; did you mean 'vit_tiny_patch16_224'"),
        (
            lambda: models.build(_spec("vits")),
            "model family 'vits' is unknown; did you mean 'vit'? allowed: 'bert', 'bert4rec', 'convnext', "
            "'decoder', 'gru4rec', 'matrix_factorisation', 'mobilenet_v2', 'modernbert', 'resnet', 'sasrec', 'two_tower', 'vit'",
        ),
        (lambda: models.build(_spec(dept=3)), "vit: unknown option 'dept'; did you mean 'depth'?"),
        (lambda: models.build(_spec(depth="12")), "vit: option depth '12' is of type str; allowed: int"),
        (lambda: models.build(_spec("resnet", depths=2)), "resnet: option depths 2 is of type int; allowed: list"),
        (lambda: models.build(_spec(width=100)), "vit: width 100 is not a multiple of heads 3"),
        (lambda: models.named("vit_tiny_patch16_224", 10, (224, 100)), "the width 100 is not a multiple of the patch size 16; the nearest is 96 or 112"),
        (lambda: models.named("vit_tiny_patch16_224", 10, (8, 32)), "the height 8 is not a multiple of the patch size 16; the nearest is 16"),
        (lambda: models.build(_spec(classes=0)), "vit: num_classes 0 and image_size (224, 224) must be positive"),
        (lambda: models.build(_spec("resnet", block="botleneck")), "resnet: option block 'botleneck': did you mean 'bottleneck'?"),
        (lambda: models.build(_spec("resnet", depths=[2])), "resnet: widths [64, 128, 256, 512] and depths [2] need one entry for each stage"),
        (lambda: models.build(_spec("resnet", final_norm=True)), "resnet: final_norm belongs to block 'preact'; the others end normalised"),
        (lambda: models.build(_spec("mobilenet_v2", alpha=0)), "mobilenet_v2: alpha 0: the width multiplier must be positive"),
        (lambda: models.build(_spec(), precision="float16"), "model.precision 'float16': did you mean 'bfloat16' or 'float32'?"),
        (lambda: models.build(_spec(), batch_statistics="auto"), "model.batch_statistics 'auto': allowed: 'frozen', 'updated'"),
        (lambda: models.build(_spec(), dropout=1.0), "model.dropout 1.0: a rate of at least 0 and below 1 is allowed"),
        (
            lambda: abstract("vit_digits")[0].group_of("encoder/block_4/norm1/scale"),
            "vit: path 'encoder/block_4/norm1/scale' belongs to no group; did you mean",
        ),
        (lambda: abstract("vit_digits")[0].group_of("block_0/norm1/scale"), "path 'block_0/norm1/scale' belongs to no group"),
        (lambda: abstract("vit_digits")[0].group_of("top/conv/kernel"), "path 'top/conv/kernel' belongs to no group"),
        (lambda: models.ModelSpec.from_json({"family": "vit"}), "ModelSpec: key 'options' is missing from ['family']"),
        (
            lambda: models.InputSpec.from_json({**models.named("resnet18", 2)[1].to_json(), "crop": 1}),
            "InputSpec: unknown key 'crop'; allowed: 'crop_fraction', 'interpolation', 'mean', 'std'",
        ),
    ],
)
def test_a_wrong_request_says_what_would_do(request_, message):
    with pytest.raises(ConfigError) as error:
        request_()
    assert message in str(error.value)
