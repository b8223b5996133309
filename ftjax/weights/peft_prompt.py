"""A soft prompt out: the folder of peft's PROMPT_TUNING, whose file has one key, `prompt_embeddings` [n width], without any prefix.

peft puts the tokens in front of a text's words, at places 0 to n - 1. That is what ftjax computes where positions are rotary (only distances count), nothing
is windowed and words enter as they are; other decoders, and encoders, are refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ftjax.errors import WeightsError
from ftjax.files import write_text
from ftjax.weights.maps.base import Recognised
from ftjax.weights.peft_config import ADAPTER_CONFIG
from ftjax.weights.peft_reading import ADAPTER_WEIGHTS
from ftjax.weights.readers.safetensors import read_safetensors
from ftjax.weights.saving import save_safetensors
from ftjax.weights.source import LazyTensors

KEY = "prompt_embeddings"


def write_prompt(folder: str | Path, tokens: np.ndarray, held: Recognised, *, base_name: str | None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, and read the tokens back.

    Args:
      folder: made if it is missing.
      tokens: float32 [n width], `stem/prompt/tokens`.
      held: what the base model is.
      base_name: for `base_model_name_or_path`.

    Raises:
      WeightsError: peft would compute something else, or what was read back is not what was written.
    """
    folder, options = Path(folder), held.options
    odd = _otherwise(held)
    if odd:
        raise WeightsError(f"a prompt of peft stands before the words of a decoder with rotary positions, and this model {odd}; allowed: the run's own model/")
    settings = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "num_virtual_tokens": tokens.shape[0],
        "token_dim": tokens.shape[1],
        "num_layers": options["depth"],
        "num_attention_heads": options["heads"],
        "num_transformer_submodules": 1,
    } | ({"base_model_name_or_path": base_name} if base_name else {})
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / ADAPTER_WEIGHTS, {KEY: np.asarray(tokens, np.float32)}, {"format": "pt"})
    write_text(folder / ADAPTER_CONFIG, json.dumps(settings, indent=2, sort_keys=True, allow_nan=False) + "\n")
    if not np.array_equal(LazyTensors(read_safetensors(folder / ADAPTER_WEIGHTS)[0])[KEY], np.asarray(tokens, np.float32)):
        raise WeightsError(f"{folder}: what was read back is not what was written: {KEY}")


def _otherwise(held: Recognised) -> str:
    """In what a model differs from those whose prompts peft computes alike; empty: in nothing."""
    options = held.options
    if held.family != "decoder" or options.get("output") != "language":
        return "does not write"
    if options.get("position") == "learned":
        return "has learned positions"
    if options.get("window"):
        return "has blocks that see a window alone"
    return "scales its words" if options.get("embedding_scale", 1.0) != 1.0 else ""
