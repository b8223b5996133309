"""Each kind of file is recognised, every tensor finds its leaf, and the loaded model computes what the original library computes."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_files import build, google_vit_state, leaves, loaded_model, target_of, timm_vit_state, write_torch, zeros_of

from ftjax import models, trees
from ftjax.errors import WeightsError
from ftjax.weights import open_weights, plan, recognise, save_safetensors
from ftjax.weights.maps import NAME_MAPS
from ftjax.weights.maps.base import fill, match
from ftjax.weights.maps.mobilenet_keras import WIDTHS, scaled


def open_state(tmp_path, state, metadata=None):
    save_safetensors(tmp_path / "x.safetensors", state, metadata or {})
    return open_weights(str(tmp_path / "x.safetensors"))


def load(source, **options):
    """`(recognised, plan, model, params, extra)`."""
    recognised = recognise(source)
    model = build(recognised)
    target = target_of(model)
    made = plan(source, recognised, target, **options)
    return recognised, made, model, *loaded_model(model, made.apply(zeros_of(target)))


def logits(model, params, extra, images):
    return np.asarray(jax.jit(model.apply)(params, extra, jnp.asarray(images))[0])


def images_of(size, count=2):
    return np.random.default_rng(3).normal(size=(count, *size, 3)).astype(np.float32)


def test_templates_are_read_in_both_directions():
    assert match("blocks.{i}.norm.weight", "blocks.12.norm.weight") == {"i": "12"}
    assert match("blocks.{i}.norm.weight", "blocks.x.norm.weight") is None
    assert match("blocks.{i}.norm.weight", "blocksX1.norm.weight") is None
    assert fill("encoder/block_{i}/scale", {"i": "12"}) == "encoder/block_12/scale"


def test_timm_vit_is_recognised_from_names_and_shapes(tmp_path):
    recognised = recognise(open_state(tmp_path, timm_vit_state(width=128, depth=3, patch=4, grid=5, classes=7)))
    assert recognised.family == "vit"
    assert recognised.options == {"patch": 4, "width": 128, "depth": 3, "heads": 2, "mlp_ratio": 4.0}
    assert (recognised.num_classes, recognised.image_size, recognised.name_map) == (7, (20, 20), "timm ViT")
    assert recognised.why.startswith("2 heads: one per 64 of width, as in every timm ViT")


def test_metadata_win_over_the_rule_for_heads_and_the_square_grid(tmp_path):
    state = timm_vit_state(width=96, grid=4)
    with pytest.raises(
        WeightsError, match=r"cannot tell the number of attention heads: width 96, metadata heads=None; allowed: a width that is a multiple of 64"
    ):
        recognise(open_state(tmp_path, state))
    recognised = recognise(open_state(tmp_path, state, {"heads": "3", "image_size": "8x32"}))
    assert (recognised.options["heads"], recognised.image_size, recognised.why[:23]) == (3, (8, 32), "heads from the metadata")
    with pytest.raises(WeightsError, match="metadata heads='5'"):
        recognise(open_state(tmp_path, state, {"heads": "5"}))
    with pytest.raises(WeightsError, match=r"cannot tell the image size: 16 patches of 4x4 pixels, metadata image_size='9x9'"):
        recognise(open_state(tmp_path, state, {"heads": "3", "image_size": "9x9"}))


def test_a_grid_that_is_not_square_needs_metadata(tmp_path):
    state = timm_vit_state()
    state["pos_embed"] = state["pos_embed"][:, :13]
    with pytest.raises(WeightsError, match="cannot tell the image size: 12 patches"):
        recognise(open_state(tmp_path, state))
    assert recognise(open_state(tmp_path, state, {"image_size": "12x16"})).image_size == (12, 16)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("fc_norm.weight", "average pooling before the head"),
        ("dist_token", "a distillation token"),
        ("reg_token", "register tokens"),
        ("blocks.0.ls1.gamma", "layer scale"),
        ("blocks.0.attn.q_norm.weight", "normalised queries"),
        ("norm_pre.weight", "a norm before the blocks"),
    ],
)
def test_relatives_of_the_timm_vit_are_refused(name, what, tmp_path):
    with pytest.raises(WeightsError, match=f"a timm ViT with {what} .* is not supported; allowed: a plain ViT with a class token"):
        recognise(open_state(tmp_path, timm_vit_state() | {name: np.zeros(3, np.float32)}))


def test_the_fused_qkv_is_split_in_order_and_turned(tmp_path):
    state = timm_vit_state(width=64)
    _, _, _, params, _ = load(open_state(tmp_path, state))
    for index, name in enumerate(("query", "key", "value")):
        attention = params["encoder"]["block_1"]["attention"][name]
        np.testing.assert_array_equal(attention["kernel"], state["blocks.1.attn.qkv.weight"][64 * index : 64 * (index + 1)].T)
        np.testing.assert_array_equal(attention["bias"], state["blocks.1.attn.qkv.bias"][64 * index : 64 * (index + 1)])


def test_a_vit_without_a_head_is_a_backbone(tmp_path):
    state = {name: array for name, array in timm_vit_state().items() if not name.startswith("head.")}
    recognised, made, *_ = load(open_state(tmp_path, state))
    assert recognised.num_classes is None
    assert [(row.target, row.action, row.why) for row in made.rows if row.target.startswith("head")] == [
        ("head/bias", "initialised", "the file has none"),
        ("head/kernel", "initialised", "the file has none"),
    ]


@pytest.mark.parity
@pytest.mark.parametrize("wrapper", [None, "model"])
def test_a_small_timm_vit_computes_the_same_logits(wrapper, timm, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = timm.models.vision_transformer.VisionTransformer(img_size=(12, 20), patch_size=4, embed_dim=128, depth=2, num_heads=2, num_classes=5).eval()
    state = {name: value + 0.05 * torch.randn(value.shape) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    write_torch(tmp_path / "x.pth", {name: value.numpy() for name, value in state.items()}, wrapper)
    source = open_weights(str(tmp_path / "x.pth"))
    source.metadata["image_size"] = "12x20"
    _, _, model, params, extra = load(source, image_size=(12, 20))
    images = images_of((12, 20))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits(model, params, extra, images), expected, atol=1e-5)


@pytest.mark.parametrize("big_vision", [False, True])
def test_google_vits_are_recognised_with_their_heads(big_vision, tmp_path):
    np.savez(tmp_path / "x.npz", **google_vit_state(big_vision))
    recognised, made, *_ = load(open_weights(str(tmp_path / "x.npz")))
    assert recognised.options == {"patch": 4, "width": 96, "depth": 2, "heads": 4, "mlp_ratio": 4.0}
    assert (recognised.num_classes, recognised.image_size) == (5, (16, 16))
    assert recognised.name_map == ("big_vision ViT" if big_vision else "vision_transformer ViT")
    assert not made.ignored
    assert made.counts()["initialised"] == 0


def test_google_vits_that_are_not_plain_are_refused(tmp_path):
    state = google_vit_state(True)
    for name, message in (
        ("params/MAPHead_0/probe", r"attention pooling \(MAPHead\)"),
        ("params/pre_logits/kernel", "a representation layer before the head"),
        ("params/Transformer/encoderblock/LayerNorm_0/scale", "scanned blocks: unstack them first"),
    ):
        np.savez(tmp_path / "x.npz", **state, **{name: np.zeros(1)})
        with pytest.raises(WeightsError, match=f"a Google ViT with {message}"):
            recognise(open_weights(str(tmp_path / "x.npz")))
    np.savez(tmp_path / "x.npz", **{name: array for name, array in state.items() if name != "params/cls"})
    with pytest.raises(WeightsError, match="a Google ViT without a class token"):
        recognise(open_weights(str(tmp_path / "x.npz")))


def test_training_state_beside_google_weights_is_ignored_by_rule(tmp_path):
    np.savez(tmp_path / "x.npz", **google_vit_state(True), **{"opt/mu/head/kernel": np.zeros(3), "step": np.array(7)})
    _, made, *_ = load(open_weights(str(tmp_path / "x.npz")))
    assert made.ignored == (("opt/mu/head/kernel", "training state"), ("step", "training state"))


@pytest.mark.parity
@pytest.mark.parametrize("big_vision", [False, True])
def test_google_vits_compute_the_logits_of_timms_own_npz_loader(big_vision, timm, tmp_path):
    torch = pytest.importorskip("torch")
    np.savez(tmp_path / "x.npz", **google_vit_state(big_vision))
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=96, depth=2, num_heads=4, num_classes=5, no_embed_class=big_vision
    ).eval()
    theirs.load_pretrained(str(tmp_path / "x.npz"))
    _, _, model, params, extra = load(open_weights(str(tmp_path / "x.npz")))
    images = images_of((16, 16))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits(model, params, extra, images), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize(("name", "block", "depths", "size"), [("resnet18", "basic", [2, 2, 2, 2], 64), ("resnet50", "bottleneck", [3, 4, 6, 3], 64)])
def test_torch_resnets_compute_the_same_logits(name, block, depths, size, timm, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=5)
    images = images_of((size, size))
    with torch.no_grad():
        theirs.train()(torch.from_numpy(images).permute(0, 3, 1, 2))
        expected = theirs.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    recognised, made, model, params, extra = load(open_weights(str(tmp_path / "x.pth")))
    assert recognised.options["block"] == block
    assert recognised.options["depths"] == depths
    assert recognised.options["widths"] == [64, 128, 256, 512]
    assert (recognised.num_classes, recognised.image_size, recognised.name_map) == (5, (224, 224), "torchvision ResNet")
    assert {why for _, why in made.ignored} == {"a counter of torch's batch norm, not a weight"}
    np.testing.assert_allclose(logits(model, params, extra, images), expected, atol=1e-4 * np.abs(expected).max())


def akamaster(torch, shortcut: str):
    """A CIFAR ResNet as in Akamaster's repository (`shortcut="A"`) or kuangliu's (`"B"`), of one block a stage."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            self.pad = (outputs - inputs) // 2 if stride != 1 else None
            if stride != 1 and shortcut == "B":
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x):
            out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            if self.pad is not None and shortcut == "A":
                return functional.relu(out + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad)))
            return functional.relu(out + self.shortcut(x))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1))
            self.layer2 = nn.Sequential(Block(16, 32, 2))
            self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x))))))
            return self.linear(x.mean((2, 3)))

    return ResNet()


@pytest.mark.parity
@pytest.mark.parametrize(("shortcut", "ours"), [("A", "subsample"), ("B", "conv_norm")])
def test_torch_cifar_resnets_compute_the_same_logits(shortcut, ours, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.DataParallel(akamaster(torch, shortcut))
    images = images_of((32, 32), 4)
    with torch.no_grad():
        theirs.train()(torch.from_numpy(images).permute(0, 3, 1, 2))
        expected = theirs.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    torch.save({"state_dict": theirs.state_dict(), "best_prec1": 91.7}, tmp_path / "x.th")
    recognised, _, model, params, extra = load(open_weights(str(tmp_path / "x.th")))
    assert recognised.options == {
        "stem": "cifar",
        "block": "basic",
        "widths": [16, 32, 64],
        "depths": [2, 1, 2],
        "activation": "relu",
        "padding": "symmetric",
        "shortcut": ours,
        "final_norm": False,
    }
    assert (recognised.num_classes, recognised.image_size, recognised.name_map) == (10, (32, 32), "torch CIFAR ResNet")
    np.testing.assert_allclose(logits(model, params, extra, images), expected, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("resnext50_32x4d", r"grouped convolutions \(ResNeXt\)"),
        ("wide_resnet50_2", "wide bottlenecks"),
        ("seresnet18", "squeeze and excitation"),
        ("resnet18d", "a deep stem"),
    ],
)
def test_relatives_of_the_resnet_are_refused(name, what, timm, tmp_path):
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=2).state_dict()
    save_safetensors(tmp_path / "x.safetensors", {key: np.zeros(value.shape, np.float16) for key, value in state.items()}, {})
    with pytest.raises(WeightsError, match=f"a ResNet with {what}.* is not supported; allowed: basic and bottleneck ResNets|of no known model"):
        recognise(open_weights(str(tmp_path / "x.safetensors")))


def test_keras_widths_are_those_of_the_paper_at_alpha_one():
    assert tuple(scaled(width, 1.0) for width in WIDTHS) == WIDTHS
    assert [scaled(width, 0.35) for width in (16, 24, 32, 64, 96, 160, 320)] == [8, 8, 16, 24, 32, 56, 112]


def keras_state(alpha: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random leaves of our MobileNetV2, under Keras' names and under ours."""
    spec, _ = models.named("mobilenet_v2_1.0", 4)
    model = models.build(models.ModelSpec(spec.family, {"alpha": alpha}, 4, (32, 32)))
    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    flat = {path: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32) for path, leaf in leaves(params, extra).items()}
    leaf_names = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
    state = {}
    for path, array in flat.items():
        module, _, leaf = path.rpartition("/")
        block = module.split("/")[1].removeprefix("block_") if module.startswith("encoder") else ""
        prefix = "expanded_conv" if block == "0" else f"block_{block}"
        part = module.rpartition("/")[2]
        if block and part.endswith("_norm"):
            state[f"{prefix}_{part.removesuffix('_norm')}_BN/{leaf_names[leaf]}"] = array
        elif block:
            state[f"{prefix}_{part}/{'depthwise_kernel' if part == 'depthwise' else 'kernel'}"] = array.swapaxes(2, 3) if part == "depthwise" else array
        elif module == "head":
            state[f"predictions/{leaf}"] = array
        else:
            conv, norm = ("Conv1", "bn_Conv1") if module.startswith("stem") else ("Conv_1", "Conv_1_bn")
            state[f"{conv}/kernel" if part == "conv" else f"{norm}/{leaf_names[leaf]}"] = array
    return state, flat


@pytest.mark.parametrize("alpha", [0.35, 0.75, 1.0, 1.4])
def test_keras_mobilenet_is_recognised_and_every_value_finds_its_leaf(alpha, tmp_path):
    state, flat = keras_state(alpha)
    source = open_state(tmp_path, state)
    recognised = recognise(source)
    assert (recognised.family, recognised.options, recognised.num_classes) == ("mobilenet_v2", {"alpha": alpha}, 4)
    made = plan(source, recognised, {path: (array.shape, array.dtype) for path, array in flat.items()})
    assert not made.ignored
    applied = made.apply(flat)
    for path, array in flat.items():
        np.testing.assert_array_equal(applied[path], array)


def test_a_mobilenet_of_unknown_width_is_refused(tmp_path):
    state, _ = keras_state(0.35)
    state["block_3_project/kernel"] = state["block_3_project/kernel"][..., :7]
    with pytest.raises(WeightsError, match=r"which is no known alpha; allowed: 0\.35, 0\.5, 0\.75, 1\.0, 1\.3, 1\.4"):
        recognise(open_state(tmp_path, state))


@pytest.mark.parametrize("name", ["vit_digits", "resnet20_cifar", "preact_resnet20_cifar", "mobilenet_v2_0.35"])
def test_our_own_files_come_back_bit_for_bit(name, tmp_path):
    import json

    spec, inputs = models.named(name, 3)
    model = models.build(spec)
    rng = np.random.default_rng(1)
    flat = {path: rng.normal(size=shape).astype(dtype) for path, (shape, dtype) in target_of(model).items()}
    metadata = {"format": "ftjax", "spec": json.dumps(spec.to_json()), "input": json.dumps(inputs.to_json())}
    save_safetensors(tmp_path / "weights.safetensors", flat, metadata)
    source = open_weights(str(tmp_path))
    recognised = recognise(source)
    found = models.ModelSpec(recognised.family, recognised.options, recognised.num_classes, recognised.image_size)
    assert found == spec
    assert models.InputSpec.from_json(recognised.input) == inputs
    made = plan(source, recognised, target_of(model))
    assert made.counts() == {"loaded": len(flat), "converted": 0, "resized": 0, "initialised": 0, "ignored": 0}
    for path, array in made.apply(flat).items():
        assert array.tobytes() == flat[path].tobytes()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "a file of ftjax has metadata 'spec' with family, num_classes, options, perhaps image_size; found None"),
        ({"spec": "{"}, "the metadata 'spec' is not JSON"),
        ({"spec": '{"family": "vit"}'}, "has metadata 'spec' with family"),
        ({"spec": '{"family":"vit","options":{},"num_classes":"x","image_size":[1,2]}'}, "the metadata 'spec' is not a model"),
        ({"spec": '{"family":"vit","options":{},"num_classes":1,"image_size":[1]}'}, "the metadata 'spec' is not a model"),
    ],
)
def test_broken_metadata_of_our_own_files_are_refused(metadata, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        recognise(open_state(tmp_path, {"head/bias": np.zeros(3, np.float32)}, {"format": "ftjax", **metadata}))


def test_unknown_names_are_refused_with_what_was_seen_and_what_is_known(tmp_path):
    with pytest.raises(
        WeightsError,
        match=r"2 tensors of no known model, the first being model\.embed\.weight, other; known names: ftjax, timm ViT, .*; known formats: safetensors",
    ):
        recognise(open_state(tmp_path, {"model.embed.weight": np.zeros(1), "other": np.zeros(1)}))


def test_flax_trees_of_a_known_model_are_read_from_msgpack_and_orbax_alike(tmp_path):
    from orbax.checkpoint import v1 as ocp

    tree = trees.unflatten(google_vit_state(True))
    (tmp_path / "x.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
    ocp.save(str(tmp_path / "x"), jax.tree.map(jnp.asarray, tree))
    first = load(open_weights(str(tmp_path / "x.msgpack")))
    second = load(open_weights(str(tmp_path / "x")))
    assert first[0].name_map == second[0].name_map == "big_vision ViT"
    jax.tree.map(np.testing.assert_array_equal, first[3], second[3])


def test_every_table_says_what_it_expects():
    assert NAME_MAPS["timm ViT"].expected("encoder/block_3/norm1/scale", None) == "blocks.3.norm1.weight"
    assert NAME_MAPS["Keras MobileNetV2"].expected("top/norm/var", None) == "Conv_1_bn/moving_variance"
    assert NAME_MAPS["ftjax"].expected("head/bias", None) is None
