"""Bases and adapters made by hand for the tests of the PEFT format."""

import json
from pathlib import Path

import numpy as np
from weights_files import build, target_of

from ftjax.weights import Recognised, open_weights, recognise, save_safetensors

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query", "value"], "modules_to_save": ["classifier"], "bias": "none"}
BERT = {"vocabulary": 20, "positions": 8, "position_offset": 0, "segments": 2, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "epsilon": 1e-12}
BERT |= {"activation": "gelu", "pool": "pooler", "head": "linear", "output": "sequence"}


def shapes_of(held: Recognised) -> dict[str, tuple[int, ...]]:
    """Shape of every leaf by path."""
    return {path: tuple(shape) for path, (shape, _) in target_of(build(held)).items()}


def base_of(folder: Path) -> tuple[Recognised, dict[str, tuple[int, ...]]]:
    """A Hugging Face directory as the base of an adapter."""
    held = recognise(open_weights(str(folder)))
    return held, shapes_of(held)


def tiny_bert(**options) -> tuple[Recognised, dict[str, tuple[int, ...]]]:
    """A BERT that exists only by its shapes."""
    held = Recognised("bert", BERT | options, 8 if options.get("output") == "embedding" else 3, None, "Hugging Face BERT", None)
    return held, shapes_of(held)


def lora_state(modules=("query", "value"), prefix="bert.", depth=2, rank=2, width=8) -> dict[str, np.ndarray]:
    """LoRA of attention layers and a head, random, with the names of BERT."""
    rng = np.random.default_rng(0)
    shapes = {"classifier.weight": (3, width), "classifier.bias": (3,)}
    for index in range(depth):
        for module in modules:
            name = f"{prefix}encoder.layer.{index}.attention.self.{module}"
            shapes |= {f"{name}.lora_A.weight": (rank, width), f"{name}.lora_B.weight": (width, rank)}
    return {f"base_model.model.{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_adapter(folder: Path, config: dict, state: dict[str, np.ndarray]) -> Path:
    """The two files of a PEFT folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_safetensors(folder / "adapter_model.safetensors", state, {"format": "pt"})
    return folder
