"""Hugging Face directories made by hand for the tests: a small ViT in both spellings, whole or in shards, with its JSON files."""

import json
from pathlib import Path

import numpy as np

from ftjax.weights import save_safetensors

CONFIG = {
    "architectures": ["ViTForImageClassification"],
    "hidden_act": "gelu",
    "hidden_size": 8,
    "id2label": {"0": "cat", "1": "dog", "2": "emu"},
    "image_size": 8,
    "intermediate_size": 16,
    "layer_norm_eps": 1e-12,
    "model_type": "vit",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 4,
    "qkv_bias": True,
    "torch_dtype": "float32",
}
PREPROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.5, 0.75],
    "image_processor_type": "ViTImageProcessor",
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"height": 8, "width": 8},
}
_DISK = {"q": "attention.attention.query", "k": "attention.attention.key", "v": "attention.attention.value", "o": "attention.output.dense"}
_DISK |= {"up": "intermediate.dense", "down": "output.dense"}
_INSIDE = {"q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj", "o": "attention.o_proj", "up": "mlp.fc1", "down": "mlp.fc2"}


def vit_state(inside: bool = False, prefix: str = "vit.", width: int = 8, hidden: int = 16, depth: int = 2, classes: int = 3) -> dict[str, np.ndarray]:
    """A random ViT with the names on disk, or those inside transformers from 5.9 on; the same numbers in both."""
    rng = np.random.default_rng(0)
    names = _INSIDE if inside else _DISK
    shapes = {
        f"{prefix}embeddings.cls_token": (1, 1, width),
        f"{prefix}embeddings.position_embeddings": (1, 5, width),
        f"{prefix}embeddings.patch_embeddings.projection.weight": (width, 3, 4, 4),
        f"{prefix}embeddings.patch_embeddings.projection.bias": (width,),
    }
    for index in range(depth):
        block = f"{prefix}layers.{index}" if inside else f"{prefix}encoder.layer.{index}"
        for norm in ("layernorm_before", "layernorm_after"):
            shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
        for role, outputs, inputs in (*((role, width, width) for role in "qkvo"), ("up", hidden, width), ("down", width, hidden)):
            shapes |= {f"{block}.{names[role]}.weight": (outputs, inputs), f"{block}.{names[role]}.bias": (outputs,)}
    shapes |= {f"{prefix}layernorm.weight": (width,), f"{prefix}layernorm.bias": (width,)}
    shapes |= {"classifier.weight": (classes, width), "classifier.bias": (classes,)} if classes else {}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_hf(folder: Path, state: dict[str, np.ndarray], config: dict | None = None, preprocessor: dict | None = None, shards: int = 1) -> Path:
    """A directory as transformers writes it; with `shards` the tensors are dealt out over several files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    if shards == 1:
        save_safetensors(folder / "model.safetensors", state, {"format": "pt"})
        return folder
    files = [f"model-{index + 1:05d}-of-{shards:05d}.safetensors" for index in range(shards)]
    placed = {name: files[index % shards] for index, name in enumerate(sorted(state))}
    for file in files:
        save_safetensors(folder / file, {name: array for name, array in state.items() if placed[name] == file}, {"format": "pt"})
    total = sum(array.nbytes for array in state.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": placed}))
    return folder
