"""Transformers over histories: SASRec (Kang and McAuley 2018), which looks back, and BERT4Rec (Sun et al. 2019), which fills gaps.

One module with two kinds of block. "sasrec" is the original's: queries are normalised, keys and values are not, and what is normalised is what is added to.
"post" is BERT's, as in BERT4Rec and S3-Rec. Attention's probabilities are not dropped, as nowhere in ftjax.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ftjax.models import catalogue, encoder
from ftjax.models.catalogue import Inputs
from ftjax.models.causal import looks_back
from ftjax.models.family import Family
from ftjax.models.modules import Drop, Embed, Encoder, LayerNorm, drop_rates, remat
from ftjax.models.spec import Compute, ModelSpec
from ftjax.models.transformer import Attention, Mlp, partition_spec

NORMS = ("sasrec", "post")
POSITIONS = ("oldest", "newest")


class Stem(nn.Module):
    """item (* sqrt(width)) + position, and a norm where the blocks are BERT's."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, items: Array, train: bool) -> Array:
        options = self.spec.options
        x = x * options["width"] ** 0.5 if options["scale"] else x
        x = x + Embed(options["positions"], options["width"], name="position")(
            catalogue.positions_of(items, options["positions"], options["count_from"] == "newest")
        )
        x = LayerNorm(options["epsilon"], self.compute, name="norm")(x) if options["norm"] == "post" else x
        return Drop(self.compute.dropout)(x, train)


class Block(nn.Module):
    """q = norm1(x); x = q + attention(q, x); then y = norm2(x); x = y + mlp(y), with 0 where there is no item."""

    options: Any
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool, mask: Array, there: Array) -> Array:
        options, compute = self.options, self.compute

        def joined(x: Array, branch: Array) -> Array:
            return x + Drop(self.drop_path, whole=True)(branch, train)

        query = LayerNorm(options["epsilon"], compute, name="norm1")(x)
        x = joined(query, Attention(options["heads"], compute, name="attention")(query, mask, source=x))
        x = LayerNorm(options["epsilon"], compute, name="norm2")(x)
        mlp = Mlp(options["hidden"], compute, options["activation"], compute.dropout, name="mlp")(x, train)
        return joined(x, Drop(compute.dropout)(mlp, train)) * there


class SequenceModel(nn.Module):
    """Histories to a vector for each place, [batch length width], whose products with the table of items are scores; there is no other head."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False, head: bool = True) -> Array:
        items = inputs["items"]
        return body(self.spec, self.compute, catalogue.Table(self.spec, name="item")(items), items, train)


def body(spec: ModelSpec, compute: Compute, x: Array, items: Array, train: bool) -> Array:
    """Vectors of the items of histories [batch length width] to a vector for each place; called inside a module's compact method."""
    options, there = spec.options, items > 0
    x = Stem(spec, compute, name="stem")(x, items, train)
    # Padding is a history of its own, so that no place is without a key.
    mask = looks_back(there.astype(jnp.int32), 0, items.shape[1], 0) if options["causal"] else there[:, None, None, :]
    kind, context = (encoder.Block, (mask,)) if options["norm"] == "post" else (Block, (mask, there[:, :, None]))
    block = functools.partial(remat(kind, compute), options)
    blocks = [functools.partial(block, rate, compute) for rate in drop_rates(compute, options["depth"])]
    x = Encoder(blocks, compute.scan, name="encoder")(x, train, *context)
    return x if options["norm"] == "post" else LayerNorm(options["epsilon"], compute, name="norm")(x)


def groups(spec: ModelSpec) -> tuple[str, ...]:
    """The table of items, then the body from the input up."""
    last = () if spec.options["norm"] == "post" else ("norm",)
    return ("item", "stem", *(f"block_{index}" for index in range(spec.options["depth"])), *last)


def check(spec: ModelSpec) -> None:
    """Sizes and choices of a transformer over histories."""
    naturals = ("positions", "width", "depth", "heads", "hidden")
    catalogue.check_options(spec, {"norm": NORMS, "count_from": POSITIONS, "activation": ("gelu", "relu")}, naturals)


DEFAULTS = {
    "positions": 50,
    "count_from": "oldest",
    "width": 64,
    "depth": 2,
    "heads": 1,
    "hidden": 64,
    "activation": "relu",
    "epsilon": 1e-8,
    "norm": "sasrec",
    "causal": True,
    "scale": True,
    "special": 0,
}
"""SASRec's."""

_BERT = {"heads": 2, "hidden": 256, "activation": "gelu", "epsilon": 1e-12, "norm": "post", "causal": False, "scale": False, "special": 1}

_family = functools.partial(
    Family,
    module=SequenceModel,
    groups=groups,
    check=check,
    partition_spec=partition_spec,
    example=catalogue.example,
    reads="items",
    head=lambda spec, compute: None,
    alike=True,
    longest=lambda spec: spec.options["positions"],
    items=catalogue.table_of,
)

SASREC = _family(name="sasrec", options=DEFAULTS)
BERT4REC = _family(name="bert4rec", options={**DEFAULTS, **_BERT})
