"""What recommenders share: the table of items, which is both how a history is read and what it is scored against, and the options of its size.

Row 0 is padding, rows 1 to n are the items, and special rows (a mask) follow. The table is the group "item", apart from the body, so that a coefficient table
can let one move and hold the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models import layers
from ftjax.models.modules import truncated
from ftjax.models.spec import Compute, ModelSpec
from ftjax.trees import Tree

Inputs = Mapping[str, Array]


def rows_of(spec: ModelSpec) -> int:
    """Rows of the table: padding, the items, and what is special."""
    return 1 + spec.num_classes + int(spec.options["special"])


class Table(nn.Module):
    """The vectors of the items at some indices; the padding's is 0 whatever the table holds."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, items: Int[Array, "batch length"]) -> Float[Array, "batch length width"]:
        table = self.param("embedding", truncated, (rows_of(self.spec), self.spec.options["width"]))
        return layers.lookup(items, table) * there(items)


def there(items: Int[Array, "batch length"]) -> Bool[Array, "batch length 1"]:
    """Where there is an item."""
    return (items > 0)[:, :, None]


def table_of(spec: ModelSpec, compute: Compute, params: Tree, extra: Tree) -> Float[Array, "rows width"]:
    """The whole table, of a leaf that stands for one too."""
    table = params["item"]["embedding"]
    return layers.lookup(jnp.arange(rows_of(spec)), table) if hasattr(table, "lookup") else table


def example(_: ModelSpec) -> dict[str, Array]:
    """A history of two items."""
    return {"items": jnp.ones((1, 2), jnp.int32)}


def positions_of(items: Int[Array, "batch length"], count: int, from_newest: bool) -> Int[Array, "batch length"]:
    """The position of every place: 0, 1, 2, ... from the oldest item, or so that the newest has `count - 1` (as where padding is on the left)."""
    places = jnp.broadcast_to(jnp.arange(items.shape[1], dtype=jnp.int32)[None, :], items.shape)
    shift = count - (items > 0).sum(1, keepdims=True) if from_newest else 0
    return jnp.clip(places + shift, 0, count - 1)


def check_options(spec: ModelSpec, choices: Mapping[str, tuple[Any, ...]], naturals: tuple[str, ...]) -> None:
    """Refuse sizes and choices that there are not.

    Raises:
      ConfigError: naming the option and what is allowed.
    """
    options = spec.options
    for name, allowed in choices.items():
        if options[name] not in allowed:
            raise ConfigError(f"{spec.family}: {name} {options[name]!r}: {did_you_mean(str(options[name]), tuple(map(str, allowed)))}")
    for name in naturals:
        if options[name] < 1:
            raise ConfigError(f"{spec.family}: {name} {options[name]} must be positive")
    if "heads" in options and options["width"] % options["heads"]:
        raise ConfigError(f"{spec.family}: width {options['width']} is not a multiple of heads {options['heads']}")
    if "epsilon" in options and not 0 < options["epsilon"] < math.inf:
        raise ConfigError(f"{spec.family}: epsilon {options['epsilon']} must be positive")
    if options["special"] < 0:
        raise ConfigError(f"{spec.family}: special {options['special']} must not be negative")
