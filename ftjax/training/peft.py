"""Between adapters as leaves of a model and adapters as a PEFT file has them.

The law is the same on both sides, x = scale a b (or a gain, or a direction and a magnitude); only where the numbers lie differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import adapters, trees, weights
from ftjax.adapters import IA3, Bound, DoRA, LoRA, PiSSA, dense
from ftjax.adapters.low_rank import column_norm
from ftjax.errors import WeightsError
from ftjax.trees import Tree

_WRITTEN = {"LoRA": "lora", "PiSSA": "lora", "DoRA": "dora", "IA3": "ia3"}


def put_on(params: Tree, adapter: weights.AdapterFile, target: str = "pretrained") -> tuple[Tree, tuple[Bound, ...]]:
    """The parameters with this adapter on them, its saved leaves in place; and what was bound, as `adapters.bind` tells it.

    Args:
      params: nested dict of arrays, the base of the adapter.
      adapter: read for the shapes of `params`.
      target: what the rows give as the target.

    Raises:
      WeightsError: a path that is no plain array of these parameters.
    """
    flat = dict(_flat(params))
    odd = [path for path in (*adapter.adapted, *adapter.saved) if path not in flat or adapters.is_leaf(flat[path])]
    if odd:
        raise WeightsError(f"{odd[0]}: no plain weight of this model, so the adapter cannot be put on it")
    flat |= {path: jnp.asarray(array, flat[path].dtype) for path, array in adapter.saved.items()}
    leaves = {path: _leaf(adapter, path, flat) for path in adapter.adapted}
    return trees.unflatten(flat | leaves), tuple(_row(path, leaf, target) for path, leaf in leaves.items())


def _flat(params: Tree) -> Iterable[tuple[str, Any]]:
    """Arrays and whole leaves by path."""
    return ((trees.path_string(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=adapters.is_leaf))


def _leaf(adapter: weights.AdapterFile, path: str, flat: dict[str, Any]) -> LoRA | DoRA | IA3:
    base = flat[path]

    def field(name: str) -> jax.Array:
        return jnp.asarray(adapter.tensors[f"{path}/{name}"], jnp.float32)

    if adapter.kind == "ia3":
        bias = flat.get(f"{path.rpartition('/')[0]}/bias") if adapter.sides[path] == "output" else None
        return IA3(base, field("gain"), None if bias is None else jnp.array(bias, copy=True), adapter.sides[path])
    scale = jnp.asarray(adapter.scales[path], jnp.float32)
    if adapter.kind == "lora":
        return LoRA(base, field("a"), field("b"), scale)
    return DoRA(base, field("a"), field("b"), scale, field("magnitude"), column_norm(dense(base)))


def _row(path: str, leaf: LoRA | DoRA | IA3, target: str) -> Bound:
    fields = {name: tuple(array.shape) for name, array in trees.flatten(leaf).items() if name != "w"}
    if isinstance(leaf, IA3):
        return Bound(path, target, "IA3", tuple(leaf.w.shape), fields)
    rank, scale = leaf.a.shape[-1], float(leaf.scale)
    return Bound(path, target, type(leaf).__name__, tuple(leaf.w.shape), fields, rank, scale * rank, scale)


def taken_off(params: Tree, trained: Iterable[str], settings: dict[str, Any] | None = None) -> weights.AdapterFile:
    """What a PEFT file holds of parameters with adapters.

    PiSSA's a b - a0 b0 is LoRA of twice the rank; it fits the base as it was published.

    Args:
      params: with leaves.
      trained: paths of plain leaves that moved or are new; they are saved whole.
      settings: keys for adapter_config.json (`lora_dropout`, `use_rslora`).

    Raises:
      WeightsError: there is no adapter, or one that peft has no counterpart of, or adapters of several kinds.
    """
    flat = dict(_flat(params))
    found = {path: leaf for path, leaf in flat.items() if adapters.is_leaf(leaf) and type(leaf).__name__ != "Int8"}
    kinds = {type(leaf).__name__ for leaf in found.values()}
    if not found:
        raise WeightsError("the model has no adapter, which is all that a PEFT file holds; allowed: --format hf")
    odd = sorted(kinds - set(_WRITTEN))
    if odd or len({_WRITTEN[kind] for kind in kinds}) > 1:
        raise WeightsError(f"peft has no {' and '.join(odd or sorted(kinds))} of this kind in one file; allowed: lora, dora, pissa, ia3, or --format hf")
    tensors = {f"{path}/{name}": np.asarray(array, np.float32) for path, leaf in found.items() for name, array in _fields(leaf).items()}
    scales = {path: float(leaf.scale) for path, leaf in found.items() if not isinstance(leaf, IA3)}
    sides = {path: leaf.side for path, leaf in found.items() if isinstance(leaf, IA3)}
    saved = {path: np.asarray(flat[path], np.float32) for path in trained if path in flat and path not in found}
    return weights.AdapterFile(_WRITTEN[kinds.pop()], tensors, scales, saved, sides, settings or {})  # type: ignore[arg-type]


def _fields(leaf: Any) -> dict[str, Any]:
    if isinstance(leaf, IA3):
        return {"gain": leaf.gain}
    if isinstance(leaf, PiSSA):
        a, b = leaf.factors()
        return {"a": a, "b": b}
    return {"a": leaf.a, "b": leaf.b, **({"magnitude": leaf.magnitude} if isinstance(leaf, DoRA) else {})}
