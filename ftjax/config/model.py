"""Which model, from which weights, computed how."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, from which weights, computed how."""

    name: str | None = None
    """A model of the zoo (`ftjax.models.names()`); None: what the pretrained files hold."""
    pretrained: str | None = None
    """`builtin:digits`, a file or directory, or `hf://owner/name`; None only with `method="scratch"`."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels that the model sees; None: what the weights were trained with."""
    head: Literal["auto", "keep", "new"] = "auto"
    """The pretrained head: kept (you vouch that its classes are yours, in the same order), or new. auto: kept only where the file names your classes."""
    batch_statistics: Literal["frozen", "updated"] | None = None
    """Batch norm's mean and variance: kept from pretraining, or followed."""
    drop_path: float = 0.0
    """Stochastic depth: drop rate of the last block, linear from 0 at the first."""
    dropout: float | None = None
    """None: 0 for pictures; 0.1 for text, as encoders are pretrained and fine-tuned everywhere."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of operands; parameters, accumulation and the loss stay float32."""
    remat: bool = False
    """Recompute activations block by block in the backward pass, to save memory."""
    scan: bool = False
    """Trace one block and repeat it: quicker to trace where there are many blocks, slower to run on CPUs; for models whose blocks are alike."""
    pool: Literal["pooler", "first", "mean"] | None = None
    """Text: what the head sees: BERT's pooler, the first token, or the mean over tokens; None: what the weights were made for."""
