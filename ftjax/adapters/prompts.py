"""New inputs: learned tokens before the first block (prompt) or anew before every block (vpt), as arrays `.../prompt/tokens` of their own.

A block meets them in one place (`models/modules.py:prompt_of`): it looks whether there are any beside its parameters. They are the one shape of x that is not
0 at its start: whatever stands in a softmax takes a share of it, so a model with fresh prompts is near theta0 and not at it.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
from jax import Array

from ftjax import trees
from ftjax.config import AdapterConfig
from ftjax.errors import ConfigError
from ftjax.trees import Tree

NAME = "prompt"
"""What a dict of parameters calls the tokens beside it; the array in it is `tokens` [n width]."""
STEM = f"stem/{NAME}"
WORDS = "stem/word/embedding"


def places(flat: Mapping[str, Any], kind: str) -> dict[str, int]:
    """Where a model takes prompts, and how wide they are there.

    Args:
      flat: arrays of the model by path.
      kind: "prompt" (before block 0) or "vpt" (before every block).

    Raises:
      ConfigError: a model without attention, in which nothing would read them.
    """
    keys = {match[1]: flat[path].shape[0] for path in flat if (match := re.fullmatch(r"(encoder/block_\d+)/attention/key/kernel", path))}
    if not keys:
        raise ConfigError(f"adapter.kind={kind!r}: this model has no attention, so nothing would read new tokens; allowed for transformers")
    if kind == "prompt":
        return {STEM: next(iter(keys.values()))}
    return {f"{block}/{NAME}": width for block, width in keys.items()}


def prompts(flat: Mapping[str, Any], config: AdapterConfig, key: Array) -> dict[str, Array]:
    """The tokens at their start, by the path of their dict.

    Where words enter blocks as they are (decoders) they are rows of the table of words, drawn at random (Lester et al. 2021, arXiv 2104.08691); elsewhere
    uniform up to sqrt(6 / (fan + width)), the fan being a patch's pixels (Jia et al. 2022, arXiv 2203.12119) or the width.

    Raises:
      ConfigError: as `places`.
    """
    made = {}
    for path, width in places(flat, str(config.kind)).items():
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        if WORDS in flat and "stem/norm/scale" not in flat:
            made[path] = flat[WORDS][jax.random.choice(own, flat[WORDS].shape[0], (config.tokens,), replace=config.tokens > flat[WORDS].shape[0])]
        else:
            fan = math.prod(flat["stem/patch/kernel"].shape[:-1]) if "stem/patch/kernel" in flat else width
            bound = math.sqrt(6 / (fan + width))
            made[path] = jax.random.uniform(own, (config.tokens, width), minval=-bound, maxval=bound)
    return made


def without_prompts(params: Tree) -> Tree:
    """The parameters without new inputs: what the pretrained model is, where `params` are those before step 0."""
    if not isinstance(params, dict):
        return params
    return {name: without_prompts(value) for name, value in params.items() if name != NAME}


def has_prompts(params: Tree) -> bool:
    """Whether there are new inputs."""
    return any(f"/{NAME}/" in path for path in trees.flatten(params))
