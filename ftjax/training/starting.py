"""A run that begins from an adapter of peft: the file is read for this model, put on it, and told of; it then trains on as what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ftjax import adapters, weights
from ftjax.config import Config
from ftjax.errors import ConfigError
from ftjax.training import peft
from ftjax.training.select import Selection
from ftjax.trees import Tree

HEAD = "head/"
TARGET = "adapter.pretrained"


def read_adapter(config: Config, selection: Selection, shapes: Mapping[str, tuple[int, ...]]) -> weights.AdapterFile | None:
    """The adapter file that the run begins from; None: it begins from none.

    A head in it is taken where `model.head` says so, or where the model writes; nobody says otherwise that its classes are these, in this order.

    Args:
      config: `adapter.pretrained`, `method` and `model.head`.
      selection: the base.
      shapes: shape of every parameter of the run's model.

    Raises:
      ConfigError: the run has no base, or another method than the file's kind.
      WeightsError: the file is no adapter of this base.
    """
    where = config.adapter.pretrained
    if where is None:
        return None
    if selection.recognised is None:
        raise ConfigError(f"adapter.pretrained={where!r} stands on a base; set model.pretrained to the weights that it was trained on")
    taken = config.model.head == "keep" or selection.options.get("output") == "language"
    found = weights.read_peft(weights.peft_folder(where), selection.recognised, shapes, reinitialise=() if taken else ("head",))
    if found.kind != config.method:
        raise ConfigError(f"adapter.pretrained={where!r} holds a {found.kind}, and method={config.method!r}; set method={found.kind!r}")
    return found if taken else _without_head(found)


def brings_head(adapter: weights.AdapterFile | None) -> bool:
    """Whether the head comes from the adapter file."""
    return adapter is not None and any(path.startswith(HEAD) for path in adapter.saved)


def put_on(
    params: Tree, load: weights.LoadPlan | None, adapter: weights.AdapterFile, where: str
) -> tuple[Tree, tuple[adapters.Bound, ...], weights.LoadPlan | None]:
    """The parameters with the adapter on them, what was bound, and the load plan with a row for each of its arrays.

    Raises:
      WeightsError: as `peft.put_on`.
    """
    bound = peft.put_on(params, adapter)
    return bound, adapters.rows_of(bound, TARGET), load.with_adapter(where, adapter) if load is not None else None


def _without_head(found: weights.AdapterFile) -> weights.AdapterFile:
    why = "the run has a new head; model.head='keep' takes this one, and you vouch that its classes are yours, in the same order"
    heads = [path for path in found.saved if path.startswith(HEAD)]
    saved = {path: array for path, array in found.saved.items() if path not in heads}
    left = tuple(dict.fromkeys((found.sources[path], why) for path in heads))
    return dataclasses.replace(found, saved=saved, left_out=(*found.left_out, *left))
