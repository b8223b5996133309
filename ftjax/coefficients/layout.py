"""Live and still: the two halves of a tree of parameters, and why 0 is structure.

The law's coefficient 0 means no gradient, no moments and no work. That is only certain when the still half never meets `jax.grad`: the state
holds two trees with `None` where the other has the array, gradients are taken of the live one, and `combine` makes the model's parameters.
A leaf may be a registered pytree (a low-rank weight, say): its arrays are split one by one.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax

from ftjax import trees
from ftjax.errors import ConfigError, did_you_mean
from ftjax.trees import Tree


def partition(tree: Tree, live_paths: Iterable[str]) -> tuple[Tree, Tree]:
    """Split a tree into `(live, still)`, each of its shape with `None` holes.

    Raises:
      ConfigError: a live path that the tree does not have.

    >>> partition({"body": 1, "head": 2}, ["head"])
    ({'body': None, 'head': 2}, {'body': 1, 'head': None})
    """
    chosen, known = set(live_paths), trees.flatten(tree)
    for path in sorted(chosen - known.keys()):
        raise ConfigError(f"live path {path!r} is not a parameter; {did_you_mean(path, known)}")
    live = trees.map_with_path(lambda path, leaf: leaf if path in chosen else None, tree)
    still = trees.map_with_path(lambda path, leaf: None if path in chosen else leaf, tree)
    return live, still


def combine(live: Tree, still: Tree) -> Tree:
    """Fill the holes of each half from the other; the inverse of `partition`, free under `jit`.

    >>> combine({"body": None, "head": 2}, {"body": 1, "head": None})
    {'body': 1, 'head': 2}
    """
    return jax.tree.map(lambda ours, theirs: theirs if ours is None else ours, live, still, is_leaf=lambda leaf: leaf is None)
