"""Logits equal those of the libraries the weights come from: timm's ViT and ResNets, MobileNetV2 with Keras' padding, and the CIFAR ResNets' accuracy.

The conversions here are small and local on purpose, so that a mistake in `ftjax.weights` cannot hide one in `ftjax.models`.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import models, trees

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def random_images(height, width, count=2):
    return np.random.default_rng(0).normal(size=(count, height, width, 3)).astype(np.float32)


def torch_logits(network, images):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()


def our_logits(name, flat, images, num_classes=1000):
    """Logits of the named model with weights by path; every path must be there and fit."""
    spec, _ = models.named(name, num_classes, images.shape[1:3])
    model = models.build(spec)
    params, extra = jax.eval_shape(model.init, jax.random.key(0))

    def take(path, leaf):
        value = np.asarray(flat.pop(path))
        assert value.shape == leaf.shape, (path, value.shape, leaf.shape)
        return jnp.asarray(value)

    params = trees.map_with_path(take, params)
    extra = {name: trees.map_with_path(take, tree) for name, tree in extra.items()}
    assert not flat, sorted(flat)
    return np.asarray(jax.jit(model.apply)(params, extra, images)[0])


def randomise(network):
    """Batch statistics and scales away from 0 and 1, so that every one of them matters."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.0), (module.bias, -0.2, 0.2), (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5)):
                tensor.data.uniform_(low, high, generator=generator)
    return network


def vit_from_timm(state):
    flat = {}
    for name, value in state.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)\.(weight|bias)", name)
        leaf = name.rpartition(".")[2]
        ours = "kernel" if leaf == "weight" else "bias"
        if name in ("cls_token", "pos_embed"):
            flat["stem/class_token" if name == "cls_token" else "stem/position"] = value
        elif name.startswith("patch_embed"):
            flat[f"stem/patch/{ours}"] = value.transpose(2, 3, 1, 0) if leaf == "weight" else value
        elif name.startswith("norm."):
            flat[f"norm/{NORM[leaf]}"] = value
        elif name.startswith("head."):
            flat[f"head/{ours}"] = value.T
        elif block[2] == "attn.qkv":
            for role, part in zip(("query", "key", "value"), np.split(value, 3)):
                flat[f"encoder/block_{block[1]}/attention/{role}/{ours}"] = part.T
        elif block[2].startswith("norm"):
            flat[f"encoder/block_{block[1]}/{block[2]}/{NORM[leaf]}"] = value
        else:
            module = {"attn.proj": "attention/out", "mlp.fc1": "mlp/up", "mlp.fc2": "mlp/down"}[block[2]]
            flat[f"encoder/block_{block[1]}/{module}/{ours}"] = value.T
    return flat


def arrays(network):
    return {name: value.numpy() for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}


def convolutional(state, rename):
    """Torch tensors by our paths: `rename` maps a torch module's name to ours."""
    flat = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        ours, is_norm = rename(module), "bn" in module or module.endswith("downsample.1")
        leaf = NORM[leaf] if is_norm else {"weight": "kernel", "bias": "bias"}[leaf]
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        flat[f"{ours}/{leaf}"] = value
    return flat


@pytest.mark.parity
@pytest.mark.slow
def test_vit_with_the_real_weights_equals_timm(timm, shared_data):
    safetensors = pytest.importorskip("safetensors.torch")
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    network.load_state_dict(safetensors.load_file(shared_data / "weights" / "vit_tiny_patch16_224" / "model.safetensors"))
    images = random_images(224, 224)
    np.testing.assert_allclose(our_logits("vit_tiny_patch16_224", vit_from_timm(arrays(network)), images), torch_logits(network, images), atol=1e-4)


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize(("name", "depths"), [("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))])
def test_resnets_equal_timm_on_even_and_odd_images(timm, name, depths):
    network = randomise(timm.create_model(name, pretrained=False))

    def rename(module):
        if module in ("conv1", "bn1", "fc"):
            return {"conv1": "stem/conv", "bn1": "stem/norm", "fc": "head"}[module]
        stage, index, inner = re.fullmatch(r"layer(\d)\.(\d+)\.(.*)", module).groups()
        inner = inner.replace("downsample.0", "shortcut/conv").replace("downsample.1", "shortcut/norm").replace("bn", "norm")
        return f"encoder/block_{sum(depths[: int(stage) - 1]) + int(index)}/{inner}"

    for size in ((64, 64), (49, 70)):
        images = random_images(*size)
        expected = torch_logits(network, images)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(our_logits(name, convolutional(arrays(network), rename), images) / scale, expected / scale, atol=1e-4)


@pytest.mark.parity
@pytest.mark.slow
def test_mobilenet_equals_timms_with_keras_padding_and_epsilon(timm):
    network = randomise(timm.create_model("mobilenetv2_035", pretrained=False, pad_type="same", bn_eps=1e-3))
    starts = (0, 1, 3, 6, 10, 13, 16)

    def rename(module):
        outer = {"conv_stem": "stem/conv", "bn1": "stem/norm", "conv_head": "top/conv", "bn2": "top/norm", "classifier": "head"}
        if module in outer:
            return outer[module]
        stage, index, inner = re.fullmatch(r"blocks\.(\d)\.(\d+)\.(.*)", module).groups()
        names = {"conv_pw": "expand", "bn1": "expand_norm", "conv_dw": "depthwise", "bn2": "depthwise_norm", "conv_pwl": "project", "bn3": "project_norm"}
        if stage == "0":
            names = {"conv_dw": "depthwise", "bn1": "depthwise_norm", "conv_pw": "project", "bn2": "project_norm"}
        return f"encoder/block_{starts[int(stage)] + int(index)}/{names[inner]}"

    for size in ((64, 64), (63, 50)):
        images = random_images(*size)
        expected = torch_logits(network, images)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(our_logits("mobilenet_v2_0.35", convolutional(arrays(network), rename), images) / scale, expected / scale, atol=1e-4)


def cifar_from_flax(tree, preact):
    """The UvA course's names; a pre-activation shortcut's norm comes last (`BatchNorm_2`)."""
    flat = {}
    for path, value in trees.flatten(tree).items():
        path = re.sub(r"^(params|batch_stats)/", "", path)
        path = re.sub(r"^Conv_0", "stem/conv", path)
        path = re.sub(r"^BatchNorm_0", "stem/norm", path)
        path = re.sub(r"^Dense_0", "head", path)
        path = re.sub(r"^(PreAct)?ResNetBlock_", "encoder/block_", path)
        path = path.replace("/Conv_0/", "/conv1/").replace("/Conv_1/", "/conv2/").replace("/Conv_2/", "/shortcut/conv/")
        path = path.replace("/BatchNorm_0/", "/norm1/").replace("/BatchNorm_1/", "/norm2/").replace("/BatchNorm_2/", "/shortcut/norm/")
        flat[path] = value
    return flat


def cifar_accuracy(folder, name, flat):
    from PIL import Image

    files = [(file, label) for label, kind in enumerate(CIFAR10) for file in sorted((folder / "images" / "cifar10_jpg" / "test" / kind).iterdir())]
    _, pixels = models.named(name, 10)
    images = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) for file, _ in files])
    images = (images / 255 - np.float32(pixels.mean).reshape(1, 1, 1, 3)) / np.float32(pixels.std).reshape(1, 1, 1, 3)
    logits = our_logits(name, flat, images, 10)
    return len(files), float((logits.argmax(-1) == np.array([label for _, label in files])).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "expected"), [("resnet20_cifar", "ResNet", 0.805), ("preact_resnet20_cifar", "PreActResNet", 0.8)])
def test_cifar_resnets_have_their_known_accuracy_on_jpeg_copies(shared_data, name, file, expected):
    serialization = pytest.importorskip("flax.serialization")
    tree = serialization.msgpack_restore((shared_data / "weights" / "cifar10_flax" / f"{file}.ckpt").read_bytes())
    tree = {key: tree[key] for key in ("params", "batch_stats")}
    count, accuracy = cifar_accuracy(shared_data, name, cifar_from_flax(tree, name.startswith("preact")))
    assert count == 1000
    assert accuracy == pytest.approx(expected, abs=0.002 if name == "resnet20_cifar" else 0.03), json.dumps({name: accuracy})
