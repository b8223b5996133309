"""The options of the decoders: their defaults, what they imply, and which of them cannot be."""

from __future__ import annotations

import math
from typing import Any

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models import layers
from ftjax.models.family import Options
from ftjax.models.rotary import SCALINGS
from ftjax.models.spec import ModelSpec, Option

DEFAULTS: dict[str, Option] = {
    "vocabulary": 32000,
    "positions": 2048,
    "width": 768,
    "depth": 12,
    "heads": 12,
    "kv_heads": 0,
    "head_size": 0,
    "hidden": 2048,
    "epsilon": 1e-5,
    "activation": "silu",
    "norm": "rms",
    "position": "rotary",
    "theta": 10000.0,
    "local_theta": 0.0,
    "rope_scaling": "none",
    "rope_factor": 1.0,
    "rope_low": 1.0,
    "rope_high": 4.0,
    "rope_original": 8192,
    "gated": True,
    "qkv_bias": False,
    "out_bias": False,
    "mlp_bias": False,
    "qk_norm": False,
    "post_norms": False,
    "tied": True,
    "embedding_scale": 1.0,
    "query_scale": 0.0,
    "attention_cap": 0.0,
    "logit_cap": 0.0,
    "window": 0,
    "windowed": [],
    "output": "language",
}
"""Llama's. `kv_heads` 0: as many as heads; `head_size` 0: width / heads; `query_scale` 0: 1 / sqrt(head_size); a cap, a window or a `local_theta` of 0: none.

`windowed` has a 1 for each block that sees only `window` tokens back (itself among them); left empty, all do where there is a window.
"""
OUTPUTS = ("language", "sequence")
_CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("rms", "rms_one", "layer"),
    "position": ("rotary", "learned"),
    "rope_scaling": SCALINGS,
    "activation": tuple(layers.ACTIVATIONS),
    "output": OUTPUTS,
}
_NATURALS = ("vocabulary", "positions", "width", "depth", "heads", "kv_heads", "head_size", "hidden", "rope_original")
_NOT_NEGATIVE = ("local_theta", "query_scale", "attention_cap", "logit_cap", "window")
_POSITIVE = ("epsilon", "rope_factor", "rope_low", "embedding_scale")


def complete(options: dict[str, Option]) -> dict[str, Option]:
    """The sizes of heads and the blocks with a window, where they are left open."""
    heads = options["heads"]
    size = options["head_size"] or (options["width"] // heads if heads > 0 else 0)
    windowed = list(options["windowed"]) or [int(options["window"] > 0)] * max(options["depth"], 0)
    return {**options, "kv_heads": options["kv_heads"] or heads, "head_size": size, "windowed": windowed}


def check(spec: ModelSpec) -> None:
    """Values that fit together.

    Raises:
      ConfigError: they do not; it names the option.
    """
    options = spec.options
    for name, allowed in _CHOICES.items():
        if options[name] not in allowed:
            raise ConfigError(f"decoder: {name} {options[name]!r}: {did_you_mean(str(options[name]), allowed)}")
    for names, least in ((_NATURALS, 1), (_NOT_NEGATIVE, 0)):
        for name in names:
            if not least <= options[name] < math.inf:
                raise ConfigError(f"decoder: {name} {options[name]} must be {'positive' if least else 'at least 0'}")
    for name in _POSITIVE:
        if not 0 < options[name] < math.inf:
            raise ConfigError(f"decoder: {name} {options[name]} must be positive")
    _check_attention(options)
    if options["output"] == "language" and spec.num_classes != options["vocabulary"]:
        raise ConfigError(f"decoder: the next token is one of the vocabulary's {options['vocabulary']}; num_classes is {spec.num_classes}")


def _check_attention(options: Options) -> None:
    if options["heads"] % options["kv_heads"]:
        raise ConfigError(f"decoder: heads {options['heads']} is not a multiple of kv_heads {options['kv_heads']}")
    if options["position"] == "rotary" and (options["head_size"] % 2 or options["theta"] <= 1):
        raise ConfigError(f"decoder: head_size {options['head_size']} must be even and theta {options['theta']} above 1, for rotary positions turn pairs")
    if options["rope_high"] <= options["rope_low"]:
        raise ConfigError(f"decoder: rope_high {options['rope_high']} must be above rope_low {options['rope_low']}")
    windowed: Any = options["windowed"]
    if len(windowed) != options["depth"] or not all(type(value) is int and value in (0, 1) for value in windowed):
        raise ConfigError(f"decoder: windowed {windowed} must have a 0 or a 1 for each of {options['depth']} blocks")
    if any(windowed) and not options["window"]:
        raise ConfigError("decoder: windowed names blocks that see a window; window must be positive")


def blocks_of(options: Options) -> tuple[bool, ...]:
    """Which blocks see a window only."""
    return tuple(bool(value) for value in options["windowed"])


def groups(spec: ModelSpec) -> tuple[str, ...]:
    """Depth order; a tied head has no group of its own, it is the stem's."""
    tied = spec.options["output"] == "language" and spec.options["tied"]
    return ("stem", *(f"block_{index}" for index in range(spec.options["depth"])), "norm", *(() if tied else ("head",)))


def for_output(options: Options, output: str, pool: str | None) -> Options:
    """The same body with another end.

    Raises:
      ConfigError: there is no such end, or a pool is asked for.
    """
    if output not in OUTPUTS:
        raise ConfigError(f"decoder: output {output!r}: {did_you_mean(output, OUTPUTS)}")
    if pool is not None:
        raise ConfigError(f"decoder: model.pool={pool!r}: a text is its last token here; allowed: None")
    return {**options, "output": output}
