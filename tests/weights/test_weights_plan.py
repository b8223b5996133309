"""The load plan: everything explained or refused, the two differences that are allowed, and what is written down."""

import json

import ml_dtypes
import numpy as np
import pytest
from weights_files import build, target_of, timm_vit_state, zeros_of

from ftjax import files
from ftjax.errors import WeightsError
from ftjax.weights import LoadRow, open_weights, plan, recognise, save_safetensors
from ftjax.weights.resize import resize_positions


@pytest.fixture
def saved(tmp_path):
    """A function that saves tensors and opens them."""

    def save(state, metadata=None):
        save_safetensors(tmp_path / "vit.safetensors", state, metadata or {})
        return open_weights(str(tmp_path / "vit.safetensors"))

    return save


def planned(source, num_classes=None, image_size=None, **options):
    recognised = recognise(source)
    target = target_of(build(recognised, num_classes, image_size))
    return plan(source, recognised, target, **options), target


def planned_for(source, image_size):
    recognised = recognise(source)
    target = target_of(build(recognised, None, image_size))
    return plan(source, recognised, target, image_size=image_size), target


def row(made, target) -> LoadRow:
    return next(row for row in made.rows if row.target == target)


def test_every_leaf_has_a_row_and_every_tensor_a_use(saved):
    state = timm_vit_state()
    made, target = planned(saved(state))
    assert [row.target for row in made.rows] == list(target)
    assert {row.source for row in made.rows} == set(state)
    assert made.counts() == {"loaded": 20, "converted": 20, "resized": 0, "initialised": 0, "ignored": 0}
    assert row(made, "norm/scale") == LoadRow("norm/scale", (128,), "norm.weight", (128,), "loaded", "")
    assert row(made, "stem/patch/kernel") == LoadRow(
        "stem/patch/kernel", (4, 4, 3, 128), "patch_embed.proj.weight", (128, 3, 4, 4), "converted", "OIHW -> HWIO"
    )
    np.testing.assert_array_equal(made.apply(zeros_of(target))["stem/patch/kernel"], state["patch_embed.proj.weight"].transpose(2, 3, 1, 0))


def test_a_head_of_another_number_of_classes_is_initialised_because_the_plan_says_so(saved):
    made, target = planned(saved(timm_vit_state(classes=5)), num_classes=3)
    assert row(made, "head/kernel") == LoadRow("head/kernel", (128, 3), None, None, "initialised", "the file's is [128, 5] (5 classes), the model's [128, 3]")
    assert made.ignored == (("head.bias", "head/bias is initialised"), ("head.weight", "head/kernel is initialised"))
    initial = zeros_of(target) | {"head/kernel": np.full((128, 3), 7.0, np.float32)}
    assert (made.apply(initial)["head/kernel"] == 7).all()


def test_a_head_of_the_same_number_of_classes_is_loaded_unless_asked_otherwise(saved):
    source = saved(timm_vit_state(classes=5))
    assert row(planned(source)[0], "head/kernel").action == "converted"
    made, _ = planned(source, fresh=("head",))
    assert (row(made, "head/kernel").action, row(made, "head/kernel").why) == ("initialised", "asked for, whatever the file has")
    assert made.counts()["ignored"] == 2


def test_a_prefix_is_a_whole_part_of_a_path(saved):
    with pytest.raises(WeightsError, match=r"head/kernel \[128, 3\]: 'head.weight' \[5, 128\] has another shape"):
        planned(saved(timm_vit_state(classes=5)), num_classes=3, reinitialise=("hea",))


def test_positions_are_resized_to_any_grid_and_the_plan_says_so(saved):
    state = timm_vit_state(grid=4)
    made, target = planned_for(saved(state), (12, 28))
    assert row(made, "stem/position").action == "resized"
    assert row(made, "stem/position").why == "bicubic from 4x4 to 3x7 patches, class token kept"
    np.testing.assert_array_equal(made.apply(zeros_of(target))["stem/position"], resize_positions(state["pos_embed"], (4, 4), (3, 7)))


def test_the_same_number_of_patches_in_another_shape_is_resized_too(saved):
    made, _ = planned_for(saved(timm_vit_state(grid=4)), (8, 32))
    assert row(made, "stem/position").why == "bicubic from 4x4 to 2x8 patches, class token kept"


def test_a_square_grid_needs_no_image_size_and_another_does(saved):
    source = saved(timm_vit_state(grid=4))
    recognised = recognise(source)
    assert row(plan(source, recognised, target_of(build(recognised, None, (24, 24)))), "stem/position").action == "resized"
    with pytest.raises(WeightsError, match=r"a grid of 4x4 patches and a class token do not make the 22 positions of the model; give image_size"):
        plan(source, recognised, target_of(build(recognised, None, (12, 28))))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_a_change_of_type_counts_as_converted(dtype, saved):
    state = {name: array.astype(dtype) for name, array in timm_vit_state().items()}
    made, target = planned(saved(state))
    assert made.counts()["loaded"] == 0
    assert row(made, "norm/scale").why == f"{np.dtype(dtype)} -> float32"
    assert row(made, "head/kernel").why == f"(out, in) -> (in, out), {np.dtype(dtype)} -> float32"
    applied = made.apply(zeros_of(target))
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in applied.values())
    np.testing.assert_array_equal(applied["norm/scale"], state["norm.weight"].astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value, saved):
    state = timm_vit_state()
    state["blocks.1.mlp.fc1.weight"][3, 4] = value
    with pytest.raises(WeightsError, match=r"vit\.safetensors: 'blocks\.1\.mlp\.fc1\.weight' holds 1 of 65536 numbers that are not finite as float32"):
        planned(saved(state))


def test_a_number_too_large_for_the_models_type_is_refused(saved):
    state = timm_vit_state() | {"norm.weight": np.full(128, 1e300)}
    with pytest.raises(WeightsError, match=r"'norm\.weight' holds 128 of 128 numbers that are not finite as float32"):
        planned(saved(state))


def test_whole_numbers_are_no_weights(saved):
    with pytest.raises(WeightsError, match=r"norm/scale: 'norm\.weight' is of type int8, not a floating point number"):
        planned(saved(timm_vit_state() | {"norm.weight": np.ones(128, np.int8)}))


def test_a_missing_tensor_is_refused_with_the_name_it_should_have(saved):
    state = timm_vit_state()
    del state["blocks.1.norm2.bias"]
    with pytest.raises(WeightsError, match=r"encoder/block_1/norm2/bias \[128\]: no tensor fills it; the file has no 'blocks\.1\.norm2\.bias'"):
        planned(saved(state))


def test_an_unexplained_tensor_is_refused_with_the_nearest_leaf(saved):
    with pytest.raises(WeightsError, match=r"the tensor 'norm\.scale' \[128\] has no place in the model; nearest leaf: 'norm/scale'"):
        planned(saved(timm_vit_state() | {"norm.scale": np.ones(128, np.float32)}))


def test_a_shape_that_differs_elsewhere_is_refused(saved):
    state = timm_vit_state() | {"norm.weight": np.ones(64, np.float32), "blocks.0.norm1.bias": np.ones((128, 1), np.float32)}
    with pytest.raises(WeightsError) as refusal:
        planned(saved(state))
    assert "norm/scale [128]: 'norm.weight' [64] has another shape" in str(refusal.value)
    assert "encoder/block_0/norm1/bias [128]: 'blocks.0.norm1.bias' [128, 1] has another shape" in str(refusal.value)


def test_a_tensor_with_too_few_axes_is_refused(saved):
    with pytest.raises(WeightsError, match=r"'blocks\.0\.mlp\.fc2\.weight' \[65536\] has another shape"):
        planned(saved(timm_vit_state() | {"blocks.0.mlp.fc2.weight": np.ones(65536, np.float32)}))


def test_two_tensors_for_one_leaf_are_refused(tmp_path):
    from weights_files import google_vit_state

    state = google_vit_state(True)
    np.savez(tmp_path / "x.npz", **state, **{"head/bias": state["params/head/bias"]})
    with pytest.raises(WeightsError, match="both 'params/head/bias' and 'head/bias' would become head/bias"):
        planned(open_weights(str(tmp_path / "x.npz")))


def test_weights_of_another_architecture_are_refused_naming_both(saved):
    from ftjax import models

    source = saved(timm_vit_state(depth=2))
    recognised = recognise(source)
    cases = {
        "resnet20_cifar": "the model is a resnet of 9 blocks, stem [3, 3, 3, 16]",
        "mobilenet_v2_0.35": "the model is a mobilenet_v2 of 17 blocks, stem [3, 3, 3, 16]",
        "vit_digits": "the model is a vit of 4 blocks, patch 4, width 96",
    }
    for name, model in cases.items():
        target = target_of(models.build(models.named(name, 5)[0]))
        with pytest.raises(WeightsError) as refusal:
            plan(source, recognised, target)
        message = str(refusal.value)
        assert "vit.safetensors holds a vit (patch=4, width=128, depth=2, heads=2, mlp_ratio=4.0; timm ViT names)" in message
        assert model in message
        assert "they do not fit:" in message
        assert len(message.splitlines()) <= 14


def test_the_plan_of_one_model_is_not_applied_to_another(saved):
    made, target = planned(saved(timm_vit_state()))
    with pytest.raises(WeightsError, match="the plan was made for another model; they differ in head/bias, other"):
        made.apply({path: array for path, array in zeros_of(target).items() if path != "head/bias"} | {"other": np.zeros(1)})


def test_load_json_is_strict_json_with_every_row(saved, tmp_path):
    source = saved(timm_vit_state(classes=5), {"k": "v"})
    made, _ = planned(source, num_classes=3)
    files.write_json(tmp_path / "load.json", made.to_json())
    content = json.loads((tmp_path / "load.json").read_text())
    assert list(content) == ["source", "format", "sha256", "name_map", "metadata", "rows", "ignored", "summary"]
    assert (content["format"], content["sha256"], content["name_map"], content["metadata"]) == ("safetensors", source.sha256, "timm ViT", {"k": "v"})
    assert content["summary"] == {"loaded": 19, "converted": 19, "resized": 0, "initialised": 2, "ignored": 2}
    assert len(content["rows"]) == 40
    assert content["rows"][-1] == {
        "target": "stem/position",
        "shape": [1, 17, 128],
        "source": "pos_embed",
        "source_shape": [1, 17, 128],
        "action": "loaded",
        "why": "",
    }
    assert content["ignored"] == [
        {"source": "head.bias", "why": "head/bias is initialised"},
        {"source": "head.weight", "why": "head/kernel is initialised"},
    ]


def test_the_summary_is_a_paragraph_with_counts_and_reasons(saved):
    made, _ = planned(saved(timm_vit_state(classes=5)), num_classes=3)
    digest = made.source.sha256[:12]
    assert made.summary().endswith(
        f"vit.safetensors (safetensors, timm ViT names, sha256 {digest}): 19 loaded, 19 converted, 2 initialised, 2 ignored. "
        "head/bias is initialised: the file's is [5] (5 classes), the model's [3]. "
        "head/kernel is initialised: the file's is [128, 5] (5 classes), the model's [128, 3]."
    )


def test_the_table_has_a_line_for_each_leaf_and_each_ignored_tensor(saved):
    made, _ = planned(saved(timm_vit_state(classes=5)), num_classes=3)
    lines = made.lines()
    assert len(lines) == 42
    assert [" ".join(line.split()) for line in lines if line.startswith(("head/kernel", "norm/scale"))] == [
        "head/kernel initialised 128x3 (the file's is [128, 5] (5 classes), the model's [128, 3])",
        "norm/scale loaded 128 <- norm.weight",
    ]
    assert lines[-1] == "head.weight  ignored: head/kernel is initialised"
