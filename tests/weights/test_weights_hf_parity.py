"""Hugging Face models in and out: logits equal those of transformers, on the golden files and on random weights of the real configurations."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_files import build, loaded_model, target_of, zeros_of

from ftjax import models
from ftjax.weights import Recognised, open_weights, plan, recognise, save_hugging_face

pytestmark = pytest.mark.parity
GOLDEN = ("vit", "vit_transformers4", "r_vit", "r_deit", "r_dinov2", "r_convnext")
REAL = {
    "vit-base-patch16-224": ("ViT", {"hidden_size": 48, "num_attention_heads": 12, "intermediate_size": 192, "num_labels": 5}),
    "deit-base-patch16-224": ("DeiT", {"hidden_size": 48, "num_attention_heads": 12, "intermediate_size": 192, "num_labels": 5}),
    "dinov2-small": ("Dinov2", {"hidden_size": 48, "num_attention_heads": 6, "patch_size": 14, "image_size": 126, "num_labels": 5}),
    "convnext-tiny-224": ("ConvNext", {"hidden_sizes": [8, 16, 24, 32], "depths": [3, 3, 9, 3], "num_labels": 5, "layer_scale_init_value": 0.5}),
    "resnet-50": ("ResNet", {"embedding_size": 8, "hidden_sizes": [32, 64, 96, 128], "depths": [3, 4, 6, 3], "num_labels": 5}),
    "resnet-18": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [2, 2, 2, 2], "layer_type": "basic", "num_labels": 5}),
}


@pytest.fixture(scope="module")
def hf():
    """The package transformers, or a skip."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def ours(folder, images, image_size=None):
    source = open_weights(str(folder))
    recognised = recognise(source)
    model = build(recognised, None, image_size)
    target = target_of(model)
    made = plan(source, recognised, target, reinitialise=(), image_size=image_size)
    params, extra = loaded_model(model, made.apply(zeros_of(target)))
    return np.asarray(jax.jit(model.apply)(params, extra, jnp.asarray(images))[0])


def theirs(model, images, **options):
    import torch

    with torch.no_grad():
        return model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2), **options).logits.numpy()


def images_of(side, count=2):
    return np.random.default_rng(0).normal(size=(count, side, side, 3)).astype(np.float32)


def randomised(model):
    """Every parameter and statistic at random, so that nothing hides behind an initial 0 or 1."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                noise = torch.randn(value.shape, generator=generator)
                fan = max(value[0].numel(), 1) if value.ndim > 1 and "token" not in name and "position" not in name else 25
                value.copy_(1 + 0.1 * noise.abs() if name.endswith("running_var") else noise / fan**0.5 + (name.endswith("weight") and value.ndim == 1))
    return model


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_models_give_transformers_logits(name, hf, shared_data):
    folder = shared_data / "golden" / "models" / name
    model = hf.AutoModelForImageClassification.from_pretrained(folder)
    images = images_of(64 if name == "r_convnext" else model.config.image_size)
    np.testing.assert_allclose(ours(folder, images), theirs(model, images), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", REAL)
def test_random_weights_of_the_real_structure_give_transformers_logits(name, hf, tmp_path):
    family, options = REAL[name]
    model = randomised(getattr(hf, f"{family}ForImageClassification")(getattr(hf, f"{family}Config")(**options)))
    model.save_pretrained(tmp_path)
    images = images_of(getattr(model.config, "image_size", 64) if family in ("ViT", "DeiT", "Dinov2") else 64)
    expected = theirs(model, images)
    assert expected.std() > 0.01
    np.testing.assert_allclose(ours(tmp_path, images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["ViT", "DeiT", "Dinov2"])
def test_positions_of_another_grid_are_those_that_transformers_interpolates(family, hf, tmp_path):
    options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56, "patch_size": 8}
    model = randomised(getattr(hf, f"{family}ForImageClassification")(getattr(hf, f"{family}Config")(**options)))
    model.save_pretrained(tmp_path)
    for side in (24, 96):
        images = images_of(side)
        expected = theirs(model, images, **({} if family == "Dinov2" else {"interpolate_pos_encoding": True}))
        np.testing.assert_allclose(ours(tmp_path, images, (side, side)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("family", "inside"), [("ViT", "vit.layers.0."), ("DeiT", "deit.layers.0."), ("Dinov2", ".q_proj.")])
def test_the_spelling_inside_transformers_gives_the_same_logits(family, inside, hf, tmp_path):
    from safetensors.torch import save_file

    options = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    model = randomised(getattr(hf, f"{family}ForImageClassification")(getattr(hf, f"{family}Config")(**options)))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    if not any(inside in name for name in state):
        pytest.skip(f"transformers {hf.__version__} names them as on disk")
    save_file(state, tmp_path / "model.safetensors")
    model.config.save_pretrained(tmp_path)
    assert recognise(open_weights(str(tmp_path))).name_map.endswith("(transformers 5.9 inside)")
    images = images_of(16)
    expected = theirs(model, images)
    np.testing.assert_allclose(ours(tmp_path, images), expected, atol=1e-5, rtol=0)


def test_shards_that_transformers_wrote_are_the_single_file(hf, tmp_path):
    model = randomised(hf.ViTForImageClassification(hf.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)))
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())["weight_map"]) > 10
    images = images_of(32)
    np.testing.assert_array_equal(ours(tmp_path / "one", images), ours(tmp_path / "many", images))


def test_a_body_without_head_gives_transformers_features(hf, tmp_path):
    """A bare DINOv2, as it is published: no prefix in its names, and the head sees class token and mean patch."""
    import torch

    model = randomised(hf.Dinov2Model(hf.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28))).eval()
    model.save_pretrained(tmp_path)
    images = images_of(28)
    with torch.no_grad():
        hidden = model(torch.from_numpy(images).permute(0, 3, 1, 2)).last_hidden_state.numpy()
    source = open_weights(str(tmp_path))
    recognised = recognise(source)
    assert recognised.num_classes is None
    built = build(recognised, 3)
    target = target_of(built)
    params, extra = loaded_model(built, plan(source, recognised, target).apply(zeros_of(target)))
    expected = np.concatenate([hidden[:, 0], hidden[:, 1:].mean(1)], axis=1)
    np.testing.assert_allclose(np.asarray(built.features(params, extra, jnp.asarray(images))), expected, atol=1e-5, rtol=0)


OUT = {
    "vit": models.ModelSpec("vit", {"patch": 4, "width": 16, "depth": 2, "heads": 2}, 3, (16, 16)),
    "deit": models.ModelSpec("vit", {"patch": 4, "width": 16, "depth": 2, "heads": 2, "distillation": True}, 3, (16, 16)),
    "dinov2": models.ModelSpec("vit", {"patch": 4, "width": 16, "depth": 2, "heads": 2, "layer_scale": True, "pool": "token_mean"}, 3, (16, 16)),
    "convnext": models.ModelSpec("convnext", {"widths": [4, 8], "depths": [1, 2], "layer_scale": 0.5}, 3, (32, 32)),
    "resnet": models.ModelSpec("resnet", {"block": "bottleneck", "widths": [2, 4], "depths": [1, 2]}, 3, (32, 32)),
}


@pytest.mark.parametrize("name", OUT)
def test_transformers_loads_what_we_write_whole_and_gives_our_logits(name, hf, tmp_path):
    model = models.build(OUT[name])
    rng = np.random.default_rng(0)
    flat = {path: rng.uniform(0.1, 0.9, shape).astype(np.float32) / max(np.prod(shape[:-1]), 1) for path, (shape, _) in target_of(model).items()}
    spec, read = model.spec, {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_fraction": 0.875}
    held = Recognised(spec.family, dict(spec.options), 3, spec.image_size, "ftjax", read, classes=("cat", "dog", "emu"))
    save_hugging_face(tmp_path, flat, held)
    loaded, told = hf.AutoModelForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert loaded.config.id2label == {0: "cat", 1: "dog", 2: "emu"}
    images = images_of(spec.image_size[0])
    params, extra = loaded_model(model, flat)
    np.testing.assert_allclose(np.asarray(jax.jit(model.apply)(params, extra, jnp.asarray(images))[0]), theirs(loaded, images), atol=1e-5, rtol=0)
