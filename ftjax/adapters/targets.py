"""Which weights get an adapter: roles that mean the same in every family, or regular expressions for whole paths.

The families say their roles through their canonical paths: `encoder/block_i/attention/{query,key,value,out}/kernel`, `.../mlp/{up,gate,down}/kernel`.
A target that matches nothing is an error that names what there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ftjax.errors import ConfigError, did_you_mean

Shapes = Mapping[str, tuple[int, ...]]

ROLES: Mapping[str, str] = MappingProxyType(
    {
        **{f"attention.{name}": rf"encoder/.*/attention/{name}/kernel" for name in ("query", "key", "value", "out")},
        **{f"mlp.{name}": rf"encoder/.*/mlp/{name}/kernel" for name in ("up", "gate", "down")},
        "attention": r"encoder/.*/attention/(query|key|value|out)/kernel",
        "mlp": r"encoder/.*/mlp/(up|gate|down)/kernel",
        "all-linear": r"encoder/.*/kernel",
        "conv": r"encoder/.*/kernel",
        "embedding": r"stem/word/embedding",
        "patch": r"stem/patch/kernel",
    }
)
"""Roles as patterns for paths. "all-linear" takes the matrices of the blocks, "conv" their convolutions of one group; neither takes the head."""


def matched(targets: Sequence[str], shapes: Shapes, where: str = "adapter.targets") -> dict[str, str]:
    """The first target that takes each path, in the order of `shapes`.

    Args:
      targets: roles, or regular expressions for whole paths (whatever holds a slash, a star or a bracket).
      shapes: shape of every array of the model by path.
      where: the key, for messages.

    Raises:
      ConfigError: no target, one that is no role and no expression, or one that matches nothing.
    """
    if not targets:
        raise ConfigError(f"{where} is empty; allowed: {', '.join(map(repr, ROLES))} or regular expressions for whole paths")
    found = {target: takes(target, shapes, where) for target in targets}
    return {path: next(target for target in targets if path in found[target]) for path in shapes if any(path in paths for paths in found.values())}


def takes(target: str, shapes: Shapes, where: str) -> set[str]:
    """The paths that one target takes.

    Raises:
      ConfigError: as `matched`.
    """
    try:
        pattern = re.compile(_pattern(target, where))
    except re.error as error:
        raise ConfigError(f"{where}: {target!r} is not a regular expression: {error}") from error
    paths = {path for path, shape in shapes.items() if pattern.fullmatch(path) and _fits(target, shape)}
    if not paths:
        raise ConfigError(f"{where}: {target!r} matches no weight of this model; {did_you_mean(target, _near(target, shapes))}")
    return paths


def first(pairs: Sequence[tuple[str, Any]], shapes: Shapes, where: str) -> dict[str, Any]:
    """The value of the first pattern that takes each path; paths that none takes are left out.

    Raises:
      ConfigError: as `matched`.
    """
    chosen: dict[str, Any] = {}
    for target, value in pairs:
        chosen = dict.fromkeys(takes(target, shapes, where), value) | chosen
    return chosen


def _pattern(target: str, where: str) -> str:
    """The regular expression that a target stands for."""
    if target in ROLES:
        return ROLES[target]
    if not re.search(r"[/*\[(]", target):
        raise ConfigError(f"{where}: {target!r} is no role, and no pattern for a path such as 'encoder/.*/kernel'; {did_you_mean(target, ROLES)}")
    return target


def _fits(target: str, shape: tuple[int, ...]) -> bool:
    """Matrices for all-linear, convolutions of one group for conv (a depthwise kernel has one input channel); other targets mean what they say."""
    if target == "all-linear":
        return len(shape) == 2
    return len(shape) == 4 and shape[2] > 1 if target == "conv" else len(shape) >= 2


def _near(target: str, shapes: Shapes) -> Iterable[str]:
    """Roles that this model has; for an expression its matrices and filters, with their blocks left open."""
    if target in ROLES:
        return [role for role, pattern in ROLES.items() if any(re.fullmatch(pattern, path) and _fits(role, shape) for path, shape in shapes.items())]
    return {re.sub(r"block_\d+", "block_.*", path) for path, shape in shapes.items() if len(shape) >= 2}
