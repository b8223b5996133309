"""Adapters as plain arrays by path and back: what interchange with other libraries speaks, so that it knows no leaf type."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ftjax import trees
from ftjax.adapters.binding import Bound, row_of
from ftjax.adapters.bottleneck import BOTTLENECKS
from ftjax.adapters.diagonal import IA3
from ftjax.adapters.leaf import Leaf, dense, is_leaf
from ftjax.adapters.low_rank import DoRA, LoRA, PiSSA, column_norm
from ftjax.adapters.orthogonal import OFT
from ftjax.errors import ConfigError
from ftjax.trees import Tree

Side = Literal["output", "input"]


@dataclasses.dataclass(frozen=True)
class Neutral:
    """The adapters of a model without their bases.

    Attributes:
      kind: "lora", "dora", "ia3" or "oft". A pissa is a lora of twice the rank, since a b - a0 b0 = [a - a0, a0] [b; b - b0].
      tensors: `encoder/block_0/attention/query/kernel/a` [in r], `/b` [r out], `/magnitude` [out], `/gain` [out] or [in], `/rotation` [blocks elements].
      scales: what a b is multiplied with, by the path of the weight.
      sides: of a gain, by the path of the weight.
    """

    kind: str
    tensors: dict[str, Array]
    scales: dict[str, float]
    sides: dict[str, Side]


def leaves_of(params: Tree) -> dict[str, Leaf]:
    """Every leaf of `params` that is an adapter or a quantised weight, by the path of its weight."""
    return {trees.path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_leaf) if is_leaf(leaf)}


def neutral(params: Tree) -> Neutral:
    """The adapters of `params`.

    Raises:
      ConfigError: none, several kinds, or one that has no neutral form (ssf).
    """
    made = {path: _taken_apart(path, leaf) for path, leaf in leaves_of(params).items() if hasattr(leaf, "w")}
    kinds = sorted({kind for kind, _ in made.values()})
    if len(kinds) != 1:
        raise ConfigError(f"the parameters hold adapters of {len(kinds)} kinds ({', '.join(kinds) or 'none'}); allowed: one kind")
    tensors = {f"{path}/{name}": array for path, (_, fields) in made.items() for name, array in fields.items()}
    low = {path: leaf for path, leaf in leaves_of(params).items() if isinstance(leaf, LoRA | DoRA | PiSSA)}
    sides = {path: leaf.side for path, leaf in leaves_of(params).items() if isinstance(leaf, IA3)}
    return Neutral(kinds[0], tensors, {path: float(leaf.scale) for path, leaf in low.items()}, sides)


def rows_of(params: Tree, target: str) -> tuple[Bound, ...]:
    """What `bind` would have told of the adapters in `params`, which a file brought; `target` names it."""
    rows = []
    for path, leaf in leaves_of(params).items():
        rank = leaf.b.shape[0] if isinstance(leaf, LoRA | DoRA | PiSSA) else None
        alpha = None if rank is None else float(leaf.scale) * rank  # type: ignore[attr-defined]
        rows.append(row_of(path, leaf, tuple(dense(leaf.w).shape), target, rank, alpha))  # type: ignore[attr-defined]
    return tuple(rows)


def _taken_apart(path: str, leaf: Leaf) -> tuple[str, dict[str, Array]]:
    if isinstance(leaf, PiSSA):
        left, right = leaf.factors()
        return "lora", {"a": left, "b": right}
    for kind, names in ((LoRA, ("a", "b")), (DoRA, ("a", "b", "magnitude")), (IA3, ("gain",)), (OFT, ("rotation",))):
        if type(leaf) is kind:
            return kind.__name__.lower(), {name: getattr(leaf, name) for name in names}
    if isinstance(leaf, BOTTLENECKS):
        raise ConfigError(f"{path} is a {type(leaf).__name__}, which peft has no form for, and no merged weight stands for; use the run's own model/")
    raise ConfigError(f"{path} is a {type(leaf).__name__}, which other libraries have no form for; merge it")


def assembled(params: Tree, tensors: Mapping[str, Any], scales: Mapping[str, float], sides: Mapping[str, Side]) -> Tree:
    """`params` with the leaves that neutral arrays describe; the inverse of `neutral`, whatever the kind.

    Args:
      params: of plain arrays.
      tensors: as `Neutral.tensors`.
      scales: as `Neutral.scales`.
      sides: as `Neutral.sides`; "output" where none is given.

    Raises:
      ConfigError: fields that make no leaf, or a weight that the model does not have.
    """
    flat: dict[str, Any] = trees.flatten(params)
    grouped: dict[str, dict[str, Array]] = {}
    for name, array in tensors.items():
        grouped.setdefault(name.rpartition("/")[0], {})[name.rpartition("/")[2]] = jnp.asarray(np.asarray(array))
    missing = sorted(grouped.keys() - flat.keys())
    if missing:
        raise ConfigError(f"adapters for weights that the model does not have: {', '.join(missing[:4])}")
    made = {path: _put_together(path, fields, flat, scales, sides) for path, fields in grouped.items()}
    return trees.unflatten(flat | made)


def _put_together(path: str, fields: Mapping[str, Array], flat: Mapping[str, Any], scales: Mapping[str, float], sides: Mapping[str, Side]) -> Leaf:
    w, names = flat[path], set(fields)
    if names == {"a", "b"}:
        return LoRA(w, fields["a"], fields["b"], jnp.asarray(scales[path], jnp.float32))
    if names == {"a", "b", "magnitude"}:
        return DoRA(w, fields["a"], fields["b"], jnp.asarray(scales[path], jnp.float32), fields["magnitude"], column_norm(dense(w)))
    if names == {"gain"}:
        side = sides.get(path, "output")
        bias = flat.get(path.rpartition("/")[0] + "/bias") if side == "output" else None
        # A copy: a buffer that stands in two places of a state cannot be donated.
        return IA3(w, fields["gain"], None if bias is None else jnp.array(bias, copy=True), side)
    if names == {"rotation"}:
        return OFT(w, **fields)
    raise ConfigError(f"{path}: the arrays {', '.join(sorted(names))} make no adapter; allowed: a and b, a, b and magnitude, gain, rotation")
