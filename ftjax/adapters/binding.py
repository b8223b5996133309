"""Bind adapters to the weights of a model: one pure function from parameters to parameters, with rows that say what was bound.

The base is not copied: `w` is the very array that was there. What a leaf starts from is a function of (key, path), whatever else is bound.
"""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ftjax import trees
from ftjax.adapters import targets
from ftjax.adapters.bottleneck import BOTTLENECKS, BRANCH_ENDS, AdaptFormer, Houlsby
from ftjax.adapters.diagonal import IA3, SSF
from ftjax.adapters.int8 import quantise
from ftjax.adapters.leaf import Leaf, dense
from ftjax.adapters.low_rank import DoRA, LoRA, PiSSA, column_norm, principal
from ftjax.adapters.orthogonal import OFT
from ftjax.adapters.prompts import prompts
from ftjax.config import AdapterConfig
from ftjax.errors import ConfigError
from ftjax.trees import Tree

TRAINED = ("a", "b", "a_bias", "b_bias", "magnitude", "gain", "rotation", "tokens")
"""Fields of leaves that train."""
BASE = ("w", "q", "s")
"""Fields that hold what was pretrained."""

DEFAULT_TARGETS: Mapping[str, tuple[str, ...]] = {
    "ia3": ("attention.key", "attention.value", "mlp.down"),
    "adaptformer": ("mlp.down",),
    "houlsby": ("attention.out", "mlp.down"),
}
"""Targets of a kind when nobody names any; all others take "all-linear"."""

_MATRICES_ONLY = ("dora", "pissa", "oft")
_BOTTLENECKS: Mapping[str, Any] = {"adaptformer": AdaptFormer, "houlsby": Houlsby}
_PROMPTS = ("prompt", "vpt")


@dataclasses.dataclass(frozen=True)
class Bound:
    """One weight that became a leaf, or new inputs that a model was given."""

    path: str
    target: str
    """The target that took it; "int8" where the base alone was quantised."""
    kind: str
    shape: tuple[int, ...]
    fields: Mapping[str, tuple[int, ...]]
    """Shape of every array of the leaf but `w`."""
    rank: int | None = None
    alpha: float | None = None
    scale: float | None = None

    @property
    def parameters(self) -> int:
        """Numbers that train."""
        return sum(math.prod(shape) for name, shape in self.fields.items() if name in TRAINED)

    @property
    def merges(self) -> bool:
        """Whether plain arrays of the model's own shapes can stand for it."""
        return self.kind not in ("Prompt", *(leaf.__name__ for leaf in BOTTLENECKS))


def bind(params: Tree, config: AdapterConfig, key: Array) -> tuple[Tree, tuple[Bound, ...]]:
    """Put a leaf where `config.targets` say; `apply` of the result is `apply` of `params` bit for bit (of the rounded base with `base="int8"`).

    Prompts are put beside the parameters, and are the exception: whatever stands in a softmax takes a share of it, so with them `apply` only begins near.

    Args:
      params: nested dict of arrays.
      config: kind, targets and sizes.
      key: what `a` starts from.

    Raises:
      ConfigError: a target or pattern that matches nothing, or a weight that this kind cannot adapt.
    """
    flat = trees.flatten(params)
    shapes = {path: tuple(leaf.shape) for path, leaf in flat.items()}
    asked = DEFAULT_TARGETS.get(str(config.kind), ("all-linear",)) if config.targets is None else config.targets
    chosen = {} if config.kind in _PROMPTS else targets.matched(asked, shapes)
    taken = {path: shapes[path] for path in chosen}
    ranks = dict.fromkeys(taken, config.rank) | targets.first(config.rank_pattern, taken, "adapter.rank_pattern")
    alphas = dict.fromkeys(taken, config.alpha) | targets.first(config.alpha_pattern, taken, "adapter.alpha_pattern")
    whole = set(taken) | ({path for path, shape in shapes.items() if _quantised(path, shape)} if config.base == "int8" else set())
    leaves: dict[str, Any] = {}
    for path in (path for path in flat if path in whole):
        base = quantise(flat[path]) if config.base == "int8" and _quantised(path, shapes[path]) else flat[path]
        if path in taken:
            # A hash of the path, so that a leaf starts alike whatever else is bound.
            drawn = jax.random.fold_in(key, zlib.crc32(path.encode()))
            leaves[path] = _leaf(path, base, shapes[path], config, ranks[path], alphas[path], drawn, flat)
        else:
            leaves[path] = base
    rows = tuple(row_of(path, leaf, shapes[path], chosen.get(path, "int8"), ranks.get(path), alphas.get(path)) for path, leaf in leaves.items())
    new = prompts(flat, config, key) if config.kind in _PROMPTS else {}
    rows += tuple(Bound(path, str(config.kind), "Prompt", tokens.shape, {"tokens": tokens.shape}) for path, tokens in new.items())
    return trees.unflatten(flat | leaves | {f"{path}/tokens": tokens for path, tokens in new.items()}), rows


def kinds_of(rows: tuple[Bound, ...]) -> dict[str, int]:
    """How many weights each target took, in the order of the model."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.target] = counts.get(row.target, 0) + 1
    return counts


def _quantised(path: str, shape: tuple[int, ...]) -> bool:
    """Matrices of the blocks; embeddings, convolutions and the head keep their floats."""
    return len(shape) == 2 and re.fullmatch(targets.ROLES["all-linear"], path) is not None


def _leaf(path: str, base: Any, shape: tuple[int, ...], config: AdapterConfig, rank: int, alpha: float, key: Array, flat: Mapping[str, Any]) -> Leaf:
    """The leaf of one weight, at its start."""
    kind, where = config.kind, f"adapter.kind={config.kind!r}"
    lookup = path.rpartition("/")[2] == "embedding"
    if lookup and kind != "lora":
        raise ConfigError(f"{where}: {path} is a table of embeddings, which only lora adapts; leave it out of adapter.targets")
    if kind in _MATRICES_ONLY and len(shape) != 2:
        raise ConfigError(f"{where}: {path} is a convolution {list(shape)}; {', '.join(_MATRICES_ONLY)} adapt matrices, and lora, ia3 and ssf convolutions too")
    if kind in _BOTTLENECKS:
        return _bottleneck(path, base, shape, config, key, flat)
    if kind == "ia3":
        return _ia3(path, base, shape, flat)
    if kind == "ssf":
        if path.rpartition("/")[0] + "/bias" not in flat:
            raise ConfigError(f"{where}: {path} has no bias, and ssf trains a gain and a bias; use ia3, or leave it out of adapter.targets")
        return SSF(base, jnp.ones(shape[-1]))
    if kind == "oft":
        return OFT(base, _no_turn(path, shape, config.block))
    if len(shape) == 4 and shape[2] == 1 and shape[3] > 1:
        raise ConfigError(f"{where}: {path} {list(shape)} is a depthwise convolution, which has no matrix of a lower rank; leave it out of adapter.targets")
    return _low_rank(path, base, shape, config, rank, alpha, key, lookup)


def _low_rank(path: str, base: Any, shape: tuple[int, ...], config: AdapterConfig, rank: int, alpha: float, key: Array, lookup: bool) -> Leaf:
    """LoRA, DoRA or PiSSA, of rank 1 or more. As in peft a is uniform up to 1 / sqrt(inputs) and b is 0; of an embedding a is 0 and b is normal."""
    if rank < 1 or alpha <= 0:
        raise ConfigError(f"adapter.rank_pattern, adapter.alpha_pattern: {path} has rank {rank} and alpha {alpha}; allowed: numbers above 0")
    value = scaling(rank, alpha, config.scaling)
    scale, bound = jnp.asarray(value, jnp.float32), 1 / math.sqrt(math.prod(shape[:-1]))
    if lookup:
        return LoRA(base, jnp.zeros((shape[0], rank)), jax.random.normal(key, (rank, shape[1])), scale)
    a, b = jax.random.uniform(key, (*shape[:-1], rank), minval=-bound, maxval=bound), jnp.zeros((rank, shape[-1]))
    if config.kind == "lora":
        return LoRA(base, a, b, scale)
    w = dense(base)
    if config.kind == "dora":
        norm = column_norm(w)
        if not bool((norm > 0).all()):
            raise ConfigError(f"adapter.kind='dora': {path} has a column of zeros, which has no direction; leave it out of adapter.targets")
        return DoRA(base, a, b, scale, jnp.array(norm, copy=True), norm)
    if rank > min(shape):
        raise ConfigError(f"adapter.kind='pissa': {path} {list(shape)} has {min(shape)} singular vectors and the rank is {rank}; set adapter.rank")
    a0, b0 = principal(w, rank, value)
    return PiSSA(base, jnp.array(a0, copy=True), jnp.array(b0, copy=True), scale, a0, b0)


def scaling(rank: int, alpha: float, way: str) -> float:
    """alpha / r, or alpha / sqrt(r).

    >>> scaling(16, 8.0, "standard"), scaling(16, 8.0, "rslora")
    (0.5, 2.0)
    """
    return alpha / (math.sqrt(rank) if way == "rslora" else rank)


def _ia3(path: str, base: Any, shape: tuple[int, ...], flat: Mapping[str, Any]) -> IA3:
    """A gain on what enters the second layer of an MLP, and on what leaves any other layer."""
    if path.endswith("mlp/down/kernel"):
        return IA3(base, jnp.ones(shape[-2]), None, "input")
    bias = flat.get(path.rpartition("/")[0] + "/bias")
    return IA3(base, jnp.ones(shape[-1]), None if bias is None else jnp.array(bias, copy=True), "output")


def _bottleneck(path: str, base: Any, shape: tuple[int, ...], config: AdapterConfig, key: Array, flat: Mapping[str, Any]) -> Leaf:
    """r units at the end of a branch. As in AdaptFormer's code a is uniform up to 1 / sqrt(inputs), and b and the biases are 0; Houlsby's scale is 1."""
    if not path.endswith(BRANCH_ENDS):
        raise ConfigError(f"adapter.kind={config.kind!r}: {path} ends no branch of a block; allowed are paths that end in {', '.join(BRANCH_ENDS)}")
    # What enters a branch is as wide as what leaves it.
    width, units, bound = shape[-1], config.units, 1 / math.sqrt(shape[-1])
    a = jax.random.uniform(key, (width, units), minval=-bound, maxval=bound)
    fields = {"a": a, "b": jnp.zeros((units, width)), "a_bias": jnp.zeros(units), "b_bias": jnp.zeros(width)}
    if config.kind == "adaptformer":
        return AdaptFormer(base, **fields, scale=jnp.asarray(config.units_scale, jnp.float32))
    bias = flat.get(path.rpartition("/")[0] + "/bias")
    return Houlsby(base, **fields, scale=jnp.asarray(1.0), bias=None if bias is None else jnp.array(bias, copy=True))


def _no_turn(path: str, shape: tuple[int, ...], block: int) -> Array:
    if block < 2 or shape[0] % block:
        sizes = [size for size in range(2, min(shape[0], 256) + 1) if shape[0] % size == 0]
        raise ConfigError(f"adapter.block={block}: {path} has {shape[0]} inputs, which blocks of that size do not fill; sizes that do: {sizes}")
    return jnp.zeros((shape[0] // block, block * (block - 1) // 2))


def row_of(path: str, leaf: Leaf, shape: tuple[int, ...], target: str, rank: int | None, alpha: float | None) -> Bound:
    """What is told of a leaf on a weight of this shape; rank and alpha count for low-rank ones alone."""
    fields = {name.removeprefix("w/"): tuple(array.shape) for name, array in trees.flatten(leaf).items() if name != "w"}
    low = "scale" in fields and not isinstance(leaf, BOTTLENECKS)
    scale = float(leaf.scale) if low else None  # type: ignore[attr-defined]
    return Bound(path, target, type(leaf).__name__, shape, fields, rank if low else None, alpha if low else None, scale)
