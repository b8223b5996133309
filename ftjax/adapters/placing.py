"""Where the arrays of a leaf lie on a mesh: as the dimensions of the weight that they stand beside."""

from __future__ import annotations

from collections.abc import Callable

from ftjax.adapters.binding import Bound
from ftjax.adapters.bottleneck import BOTTLENECKS

Spec = tuple[str | None, ...]
_BOTTLENECKS = tuple(leaf.__name__ for leaf in BOTTLENECKS)


def partition_spec(rows: tuple[Bound, ...], rule: Callable[[str, tuple[int, ...]], Spec]) -> Callable[[str, tuple[int, ...]], Spec]:
    """The model's `(path, shape) -> axis per dimension`, taught about leaves.

    `w` and `q` are cut as the weight, `a` along its inputs, `b` and everything of one number for each output along its outputs; the rest is whole everywhere,
    as are `a` and its bias of bottlenecks, which read what enters the branch.
    """
    bound = {row.path: row for row in rows}

    def spec(path: str, shape: tuple[int, ...]) -> Spec:
        parent = path.removesuffix("/q").removesuffix("/s").rpartition("/")[0]
        row = next((bound[owner] for owner in (path.rpartition("/")[0], parent) if owner in bound), None)
        if row is None:
            return rule(path, shape)
        weight = rule(row.path, row.shape)
        return _of_field(path.rpartition("/")[2], row, weight, shape)

    return spec


def _of_field(name: str, row: Bound, weight: Spec, shape: tuple[int, ...]) -> Spec:
    if name in ("w", "q"):
        return weight
    if name in ("a", "a_bias") and row.kind in _BOTTLENECKS:
        return (None,) * len(shape)
    if name in ("a", "a0"):
        return (*weight[:-1], None)
    if name in ("b", "b0"):
        return (None, weight[-1])
    if len(shape) == 1 and name != "gain":
        return (weight[-1],)
    if name == "gain":
        return (weight[-1] if shape[0] == row.shape[-1] and not row.path.endswith("mlp/down/kernel") else weight[-2],)
    return (None,) * len(shape)
