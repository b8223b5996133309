"""Paths of a tree: every room names a weight by the same string, `encoder/block_3/attention/query/kernel`.

Parameters are plain nested dicts whose leaves are arrays or small registered pytrees; a path reaches the arrays inside those too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

Tree = Any


def path_string(key_path: tuple[Any, ...]) -> str:
    """`(DictKey('head'), DictKey('bias'))` -> `'head/bias'`."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def flatten(tree: Tree) -> dict[str, Any]:
    """Every array of `tree` by its path, in tree order.

    >>> flatten({"head": {"bias": 1, "kernel": 2}})
    {'head/bias': 1, 'head/kernel': 2}
    """
    return {path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict whose leaves are `flat`; the inverse of `flatten` for plain dicts.

    >>> unflatten({"head/bias": 1, "head/kernel": 2})
    {'head': {'bias': 1, 'kernel': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def map_with_path(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """`jax.tree.map` whose function is given the leaf's path first."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: function(path_string(path), *leaves), tree, *rest)


def count(tree: Tree) -> int:
    """Number of parameters: the sum of the sizes of all arrays (concrete or abstract)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def nbytes(tree: Tree) -> int:
    """Bytes of all arrays (concrete or abstract)."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
