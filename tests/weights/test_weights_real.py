"""The real pretrained files: every tensor accounted for, and the models see what they were trained to see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from weights_files import build, loaded_model, target_of, zeros_of

from ftjax.weights import open_weights, plan, recognise

VIT, MOBILENET = "vit_tiny_patch16_224", "mobilenet_v2_0.35_notop"
RESNET, PREACT = "cifar10_flax/ResNet.ckpt", "cifar10_flax/PreActResNet.ckpt"


def load(path, num_classes=None):
    """`(source, recognised, plan, model, params, extra)` of a real file."""
    source = open_weights(str(path))
    recognised = recognise(source)
    model = build(recognised, num_classes)
    target = target_of(model)
    made = plan(source, recognised, target)
    return source, recognised, made, model, *loaded_model(model, made.apply(zeros_of(target)))


@pytest.mark.parametrize(
    ("name", "tensors", "classes", "initialised"), [(VIT, 152, 1000, 0), (MOBILENET, 260, None, 2), (RESNET, 101, 10, 0), (PREACT, 103, 10, 0)]
)
def test_every_tensor_of_the_real_files_is_used(name, tensors, classes, initialised, shared_data):
    source, recognised, made, *_ = load(shared_data / "weights" / name)
    assert len(source.tensors) == tensors
    assert {row.source for row in made.rows if row.source} == set(source.tensors)
    assert made.ignored == ()
    assert recognised.num_classes == classes
    assert made.counts()["initialised"] == initialised


def test_the_real_options_are_recognised(shared_data):
    found = {name: recognise(open_weights(str(shared_data / "weights" / name))) for name in (VIT, MOBILENET, RESNET, PREACT)}
    assert found[VIT].options == {"patch": 16, "width": 192, "depth": 12, "heads": 3, "mlp_ratio": 4.0}
    assert found[MOBILENET].options == {"alpha": 0.35}
    assert {name: value.image_size for name, value in found.items()} == {VIT: (224, 224), MOBILENET: (224, 224), RESNET: (32, 32), PREACT: (32, 32)}
    for name, block, shortcut in ((RESNET, "basic", "conv_bias"), (PREACT, "preact", "norm_conv")):
        options = found[name].options
        assert (options["block"], options["shortcut"], options["widths"], options["depths"]) == (block, shortcut, [16, 32, 64], [3, 3, 3])


def test_recognised_options_and_input_are_those_of_the_named_models(shared_data):
    from ftjax import models

    for path, name in ((VIT, "vit_tiny_patch16_224"), (MOBILENET, "mobilenet_v2_0.35"), (RESNET, "resnet20_cifar"), (PREACT, "preact_resnet20_cifar")):
        recognised = recognise(open_weights(str(shared_data / "weights" / path)))
        spec, inputs = models.named(name, 10)
        assert build(recognised, 10).spec == spec
        assert models.InputSpec.from_json(recognised.input) == inputs


def test_a_language_model_is_recognised(shared_data):
    held = recognise(open_weights(str(shared_data / "weights" / "stories260K")))
    assert (held.family, held.name_map, held.options["depth"], held.options["vocabulary"]) == ("decoder", "Hugging Face decoder", 5, 512)


def imagenet(folder) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as timm evaluates them (bicubic to 248, centre 224) in -1..1, and their classes."""
    paths = sorted(path for path in folder.iterdir() if path.name[0].isdigit())
    pictures = []
    for path in paths:
        with Image.open(path) as file:
            picture = file.convert("RGB")
        scale = 248 / min(picture.size)
        picture = picture.resize((max(248, int(picture.width * scale)), max(248, int(picture.height * scale))), Image.Resampling.BICUBIC)
        left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
        pictures.append(np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 127.5 - 1)
    return np.stack(pictures), np.array([int("".join(ch if ch.isdigit() else " " for ch in path.name).split()[0]) for path in paths])


@pytest.mark.slow
def test_the_real_vit_is_right_on_most_imagenet_pictures(shared_data):
    *_, model, params, extra = load(shared_data / "weights" / VIT)
    images, labels = imagenet(shared_data / "images" / "imagenet_sample")
    apply = jax.jit(lambda x: model.apply(params, extra, x)[0].argmax(-1))
    predictions = np.concatenate([apply(jnp.asarray(images[start : start + 20])) for start in range(0, len(images), 20)])
    assert (predictions == labels).mean() >= 0.75


@pytest.mark.slow
@pytest.mark.parity
def test_the_real_vit_computes_timms_logits(shared_data, timm):
    import torch
    from safetensors.torch import load_file

    *_, model, params, extra = load(shared_data / "weights" / VIT)
    theirs = timm.create_model("vit_tiny_patch16_224").eval()
    theirs.load_state_dict(load_file(shared_data / "weights" / VIT / "model.safetensors"))
    images = imagenet(shared_data / "images" / "imagenet_sample")[0][:16]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    ours = np.asarray(jax.jit(model.apply)(params, extra, jnp.asarray(images))[0])
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [(RESNET, 0.78), (PREACT, 0.75)])
def test_the_real_cifar_resnets_see_most_of_the_lossy_test_pictures(name, least, shared_data):
    _, recognised, _, model, params, extra = load(shared_data / "weights" / name)
    folder = next(path for path in (shared_data / "images" / "cifar10_jpg").iterdir() if path.name.startswith("test"))
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    images, labels = [], []
    for path in sorted(folder.rglob("*.jp*g")):
        with Image.open(path) as file:
            images.append(np.asarray(file.convert("RGB"), np.float32) / 255)
        labels.append(classes.index(path.parent.name))
    pixels = (np.stack(images) - np.float32(recognised.input["mean"])) / np.float32(recognised.input["std"])
    logits = jax.jit(lambda x: model.apply(params, extra, x)[0])(jnp.asarray(pixels))
    assert (np.asarray(logits).argmax(-1) == np.array(labels)).mean() >= least


@pytest.mark.slow
def test_the_real_mobilenet_tells_pictures_apart(shared_data):
    """It came without a head, so the promise is about features: finite, varied, and alike for a picture and its mirror."""
    _, _, _, model, params, extra = load(shared_data / "weights" / MOBILENET)
    images = imagenet(shared_data / "images" / "imagenet_sample")[0][:16]
    features = jax.jit(lambda x: model.features(params, extra, x))
    plain, mirrored = np.asarray(features(jnp.asarray(images))), np.asarray(features(jnp.asarray(images[:, :, ::-1])))
    assert np.isfinite(plain).all()
    distance = np.linalg.norm(plain[:, None] - mirrored[None], axis=-1)
    assert (distance.argmin(1) == np.arange(16)).all()
