"""Models out: a directory that transformers loads, written with the same name maps that read one; text models in `hf_text_saving.py`.

What transformers has no model for is refused. The preprocessor of images is its plainest one that keeps a picture's shape (resize the shorter edge, crop the
centre), which is what `ImageFormat` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.errors import WeightsError
from ftjax.files import write_json
from ftjax.weights.hf_text_saving import labels, save_text
from ftjax.weights.maps.base import NameMap, Recognised
from ftjax.weights.maps.hf_conv import HF_CONVNEXT, HF_RESNET
from ftjax.weights.maps.hf_vit import HF_VITS
from ftjax.weights.readers.hf_config import CONFIG, PREPROCESSOR
from ftjax.weights.saving import save_safetensors

_FILTERS = {"bilinear": 2, "bicubic": 3}
_CLASSES = {"vit": "ViTForImageClassification", "deit": "DeiTForImageClassification", "dinov2": "Dinov2ForImageClassification"}


def save_hugging_face(
    folder: str | Path,
    flat: Mapping[str, Any],
    held: Recognised,
    *,
    task: str = "classification",
    tokenizer: Path | None = None,
    max_length: int | None = None,
    carried: Path | None = None,
) -> None:
    """Write `config.json`, `model.safetensors` and, where the input is known, `preprocessor_config.json` or the files of the tokenizer.

    Args:
      folder: the directory, which is made.
      flat: every parameter and batch statistic by its path, with a head.
      held: what they are; its `classes` become `id2label`. Options must be complete.
      task: what a text model was trained for, as `task.name` has it.
      tokenizer: the `tokenizer.json` of a text model.
      max_length: tokens at which a text model's texts are cut; None: as many as it can read.
      carried: the directory that a decoder came from: its generation_config.json, its tokenizer's other files and its special tokens go along.

    Raises:
      WeightsError: transformers has no model of this architecture, a leaf has no name there, or the input is not square.
    """
    folder = Path(folder)
    if held.image_size is None:
        save_text(folder, flat, held, task, tokenizer, max_length, carried)
        return
    config, name_map = _config(held)
    tensors = name_map.foreign(flat, held)
    if name_map is HF_RESNET:  # torch's batch norm counts batches, and transformers misses the counters
        counters = [f"{name.removesuffix('running_mean')}num_batches_tracked" for name in tensors if name.endswith("running_mean")]
        tensors |= {name: np.zeros((), np.int64) for name in counters}
    preprocessor = _preprocessor(held) if held.input else None
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    if preprocessor:
        write_json(folder / PREPROCESSOR, preprocessor)
    write_json(folder / CONFIG, config | labels(held) | {"dtype": "float32", "num_channels": 3})


def _config(held: Recognised) -> tuple[dict[str, Any], NameMap]:
    """The architecture as transformers writes it, and the map of its names.

    Raises:
      WeightsError: it has no such model.
    """
    match held.family:
        case "vit":
            return _vit(held)
        case "convnext":
            return _convnext(held.options), HF_CONVNEXT
        case "resnet":
            return _resnet(held.options), HF_RESNET
    raise WeightsError(f"transformers' image classifiers have no {held.family}; allowed: vit, convnext, resnet")


def _vit(held: Recognised) -> tuple[dict[str, Any], NameMap]:
    options = held.options
    variant = (options.get("layer_scale", False), options.get("pool", "token"), options.get("distillation", False))
    kinds = {(False, "token", False): "vit", (False, "token", True): "deit", (True, "token_mean", False): "dinov2"}
    if variant not in kinds:
        raise WeightsError(f"transformers has no vit with layer_scale={variant[0]}, pool={variant[1]!r}, distillation={variant[2]}")
    kind, (height, width) = kinds[variant], held.image_size or (0, 0)
    config = {
        "model_type": kind,
        "architectures": [_CLASSES[kind]],
        "hidden_act": "gelu",
        "hidden_size": options["width"],
        "image_size": height if height == width else [height, width],
        "layer_norm_eps": options.get("epsilon", 1e-6),
        "num_attention_heads": options["heads"],
        "num_hidden_layers": options["depth"],
        "patch_size": options["patch"],
        "qkv_bias": True,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
    }
    if kind == "dinov2":
        return config | {"mlp_ratio": _whole_ratio(options), "use_mask_token": False, "use_swiglu_ffn": False}, HF_VITS[kind]
    return config | {"intermediate_size": round(options["width"] * options["mlp_ratio"])}, HF_VITS[kind]


def _whole_ratio(options: Mapping[str, Any]) -> int:
    if options["mlp_ratio"] != int(options["mlp_ratio"]):
        raise WeightsError(f"transformers' DINOv2 wants a whole mlp_ratio; found {options['mlp_ratio']}")
    return int(options["mlp_ratio"])


def _convnext(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "convnext",
        "architectures": ["ConvNextForImageClassification"],
        "hidden_act": "gelu",
        "hidden_sizes": list(options["widths"]),
        "depths": list(options["depths"]),
        "num_stages": len(options["depths"]),
        "patch_size": options["patch"],
        "layer_norm_eps": options["epsilon"],
        "layer_scale_init_value": options["layer_scale"],
    }


def _resnet(options: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {"stem": "imagenet", "padding": "symmetric", "shortcut": "conv_norm", "final_norm": False}
    odd = [f"{key}={options[key]!r}" for key, value in wanted.items() if options[key] != value]
    activations = {"relu": "relu", "gelu": "gelu", "swish": "silu", "tanh": "tanh"}
    if odd or options["block"] not in ("basic", "bottleneck"):
        raise WeightsError(f"transformers has no resnet with {', '.join(odd) or 'block=' + repr(options['block'])}; allowed: torchvision's layout")
    return {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "hidden_act": activations[options["activation"]],
        "embedding_size": options["widths"][0],
        "hidden_sizes": [width * (4 if options["block"] == "bottleneck" else 1) for width in options["widths"]],
        "depths": list(options["depths"]),
        "layer_type": options["block"],
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def _preprocessor(held: Recognised) -> dict[str, Any]:
    read, (height, width) = held.input or {}, held.input_size or held.image_size or (0, 0)
    if height != width:
        raise WeightsError(f"transformers' processors cannot keep the shape of pictures for an input of {height}x{width}; allowed: a square one")
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": math.floor(height / read["crop_fraction"])},
        "resample": _FILTERS[read["interpolation"]],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(read["mean"]),
        "image_std": list(read["std"]),
        "do_convert_rgb": True,
    }
