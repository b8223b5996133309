"""Between adapters as leaves of a model and adapters as a PEFT file has them (`weights.AdapterFile`).

The law is the same on both sides, x = scale a b (or a gain, or a direction and a magnitude); only where the numbers lie differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ftjax import adapters, trees, weights
from ftjax.errors import WeightsError
from ftjax.trees import Tree

_LEAVES: Mapping[str, Any] = {"LoRA": adapters.LoRA, "PiSSA": adapters.PiSSA, "DoRA": adapters.DoRA, "IA3": adapters.IA3}

_APART = ("Prompt", *(leaf.__name__ for leaf in adapters.BOTTLENECKS))


def put_on(params: Tree, adapter: weights.AdapterFile) -> Tree:
    """The parameters with this adapter on them, and its saved leaves in place.

    Args:
      params: nested dict of arrays, the base of the adapter.
      adapter: read for the shapes of `params`.

    Raises:
      WeightsError: a path that is no array of these parameters.
    """
    flat = trees.flatten(params)
    odd = [path for path in (*adapter.adapted, *adapter.saved) if path not in flat]
    if odd:
        raise WeightsError(f"{odd[0]}: no plain weight of this model, so the adapter cannot be put on it")
    flat |= {path: jnp.asarray(array, flat[path].dtype) for path, array in adapter.saved.items()}
    return adapters.assembled(trees.unflatten(flat), adapter.tensors, adapter.scales, adapter.sides)


def taken_off(params: Tree, trained: Iterable[str], settings: Mapping[str, Any] | None = None) -> weights.AdapterFile:
    """What a PEFT file holds of parameters with adapters; PiSSA's a b - a0 b0 is a LoRA of twice the rank, which fits the base as it was published.

    Args:
      params: with leaves.
      trained: paths of plain leaves that moved or are new; they are saved whole.
      settings: keys for adapter_config.json (`lora_dropout`, `use_rslora`).

    Raises:
      ConfigError: there is no adapter, several kinds, or one without a neutral form.
      WeightsError: one that peft has no counterpart of.
    """
    found = adapters.neutral(params)
    if found.kind not in ("lora", "dora", "ia3"):
        raise WeightsError(f"a PEFT file of {found.kind} is not written; allowed: lora, dora, pissa and ia3, or merged weights (--format hf)")
    flat = trees.flatten(params)
    tensors = {path: np.asarray(array, np.float32) for path, array in found.tensors.items()}
    saved = {path: np.asarray(flat[path], np.float32) for path in trained if path in flat}
    return weights.AdapterFile(found.kind, tensors, found.scales, saved, found.sides, settings or {})


def of_arrays(arrays: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> weights.AdapterFile:
    """The same from what a run keeps beside its model: arrays by path without the pretrained ones, and the rows of `adapters.bind` as JSON.

    Raises:
      WeightsError: as `taken_off`.
    """
    leaves: dict[str, Any] = {}
    fields: set[str] = set()
    for row in rows:
        path, kind = str(row["path"]), str(row["kind"])
        if kind == "Int8":
            continue
        if kind not in _LEAVES:
            other = "the run's own model/" if kind in _APART else "merged weights (--format hf)"
            raise WeightsError(f"a PEFT file of {kind} is not written; allowed: lora, dora, pissa and ia3, the prompt of a decoder, or {other}")
        made = {name: np.asarray(arrays[f"{path}/{name}"]) for name in row["fields"] if f"{path}/{name}" in arrays}
        fields |= {f"{path}/{name}" for name in made}
        leaves[path] = _leaf(kind, path, made, row["scale"])
    plain = {path: array for path, array in arrays.items() if path not in fields}
    return taken_off(leaves | plain, plain, settings)


def _leaf(kind: str, path: str, made: Mapping[str, Any], scale: float | None) -> Any:
    """A leaf without its weight, from which nothing of what a file holds is worked out."""
    if kind == "IA3":
        side = "input" if "bias" not in made and path.endswith("mlp/down/kernel") else "output"
        return adapters.IA3(None, made["gain"], None, side)  # type: ignore[arg-type]
    return _LEAVES[kind](None, **{**made, "scale": scale})
