"""Which model, from which weights, computed how."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args


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
    remat: Literal["none", "blocks", "dots"] | bool = "none"
    """What the backward pass computes again, to save memory: nothing, the inside of every block, or all of it but matrix products with weights ("dots").
    True is "blocks", False "none"."""
    scan: bool = False
    """Trace one block and repeat it: quicker to trace where there are many blocks, slower to run on CPUs; for models whose blocks are alike."""
    pool: Literal["pooler", "first", "mean"] | None = None
    """Text: what the head sees: BERT's pooler, the first token, or the mean over tokens; None: what the weights were made for."""


AdapterKind = Literal["lora", "dora", "pissa", "ia3", "ssf", "oft", "adaptformer", "houlsby", "prompt", "vpt"]
"""Shapes of the displacement that are smaller than the weight, new hidden units, and new inputs; each is also a method."""


ADAPTERS: tuple[AdapterKind, ...] = get_args(AdapterKind)
"""Methods that are adapters."""


APART: tuple[AdapterKind, ...] = ("adaptformer", "houlsby", "prompt", "vpt")
"""Those that add hidden units or inputs: no array of the model's own shapes stands for them, so they are never merged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Which weights move in a smaller shape than their own, and in which (`docs/adapters.md`). Read by the methods that are adapters."""

    kind: AdapterKind | None = None
    """The shape; None: the method's."""
    pretrained: str | None = None
    """A folder of the library peft, or `hf://owner/name`, that the run begins from (lora, dora, ia3); it decides targets, ranks and scales."""
    targets: tuple[str, ...] | None = None
    """Roles ("attention.query", "mlp.up", "attention", "mlp", "all-linear", "conv", "embedding", "patch") or regular expressions for whole paths;
    None: all-linear; for ia3 keys, values and the second layers of the MLPs, for adaptformer the latter, for houlsby the ends of both branches.
    prompt and vpt have none."""
    rank: int = 8
    """Of lora, dora and pissa."""
    alpha: float = 16.0
    """The displacement is multiplied by alpha / rank."""
    scaling: Literal["standard", "rslora"] = "standard"
    """alpha / rank, or alpha / sqrt(rank), which keeps the size of a step the same at every rank (Kalajdzievski 2023)."""
    dropout: float = 0.0
    """Of what enters a low-rank adapter, and of a bottleneck's units; 0 leaves it out of the program."""
    rank_pattern: tuple[tuple[str, int], ...] = ()
    """Ranks of single targets, as (role or expression, rank); the first that matches wins."""
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    """The same for alpha."""
    block: int = 32
    """Inputs that oft turns together."""
    units: int = 64
    """Hidden units of a bottleneck (adaptformer, houlsby)."""
    units_scale: float = 0.1
    """What adaptformer's units are multiplied with."""
    tokens: int = 20
    """Learned tokens of prompt (before the first block) and vpt (anew before every block)."""
    base: Literal["float32", "int8"] = "float32"
    """How the frozen matrices of the blocks are held: 8 bits take a quarter of the memory, and theta0 is then the rounded weight."""
