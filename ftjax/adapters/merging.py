"""Merging: adapters become plain arrays again, in float32 with one rounding; and what one training step sets in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ftjax import trees
from ftjax.adapters.binding import Bound
from ftjax.adapters.bottleneck import BOTTLENECKS
from ftjax.adapters.diagonal import IA3
from ftjax.adapters.leaf import Drop, dense, is_leaf
from ftjax.trees import Tree


def merge(params: Tree) -> Tree:
    """Parameters of plain arrays that compute what `params` does, up to rounding: each leaf is worked out in float32 and rounded once.

    A gain on the outputs of a layer with a bias (IA3) scales the bias too. Bottlenecks and prompts stay what they are, on plain weights.
    """
    if isinstance(params, BOTTLENECKS):
        return dataclasses.replace(params, w=dense(params.w))
    if not isinstance(params, dict):
        return params.merged() if is_leaf(params) else params
    merged = {name: merge(value) for name, value in params.items()}
    kernel = params.get("kernel")
    if isinstance(kernel, IA3) and kernel.bias is not None:
        merged["bias"] = merged["bias"] + kernel.offset()
    return merged


def kept_apart(rows: Sequence[Bound]) -> tuple[Bound, ...]:
    """What merging leaves as it is: bottlenecks and prompts."""
    return tuple(row for row in rows if not row.merges)


def laid_out(params: Tree, rows: Sequence[Mapping[str, Any]]) -> Tree:
    """The shapes of merged parameters with what merging leaves as it is.

    Args:
      params: shapes of a model's own parameters.
      rows: of `kept_apart`, as JSON.
    """
    flat: dict[str, Any] = trees.flatten(params)
    kinds: dict[str, Any] = {leaf.__name__: leaf for leaf in BOTTLENECKS}
    for row in rows:
        path = str(row["path"])
        fields = {name: jax.ShapeDtypeStruct(tuple(shape), jnp.float32) for name, shape in row["fields"].items() if name not in ("q", "s")}
        flat |= {path: kinds[row["kind"]](w=flat[path], **fields)} if row["kind"] in kinds else {f"{path}/{name}": shape for name, shape in fields.items()}
    return trees.unflatten(flat)


def has_leaves(params: Tree) -> bool:
    """Whether anything is adapted or quantised."""
    return any(is_leaf(value) for value in jax.tree.leaves(params, is_leaf=is_leaf))


def with_dropout(params: Tree, key: Array, rate: Array) -> Tree:
    """The parameters of one training step: every low-rank leaf drops a share `rate` of its input, each by a key of its own; models see leaves as ever.

    Args:
      params: with leaves.
      key: of the step.
      rate: traced; 0 drops nothing.
    """
    numbers = iter(range(2**31))

    def armed(leaf: Any) -> Any:
        if not hasattr(leaf, "drop"):
            return leaf
        return dataclasses.replace(leaf, drop=Drop(jax.random.fold_in(key, next(numbers)), rate))

    return jax.tree.map(armed, params, is_leaf=is_leaf)


def arrays(params: Tree, fields: tuple[str, ...]) -> dict[str, Array]:
    """Every array of adapters whose field is among `fields`, by path: `encoder/block_0/attention/query/kernel/a`."""
    found = {trees.path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_leaf) if is_leaf(leaf)}
    return {f"{path}/{name}": array for path, leaf in found.items() for name, array in trees.flatten(leaf).items() if name in fields}
