"""GRU4Rec (Hidasi et al. 2016): gated recurrent units over a history, scored against the table of items that it was read with."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ftjax.models import catalogue
from ftjax.models.catalogue import Inputs
from ftjax.models.family import Family
from ftjax.models.modules import Dense, Drop
from ftjax.models.spec import Compute, ModelSpec


class Gru(nn.Module):
    """h' = (1 - z) n + z h with r, z = sigmoid(W x + U h) and n = tanh(W x + r (U h + b)) (Cho et al. 2014, torch's form), along the length by a scan."""

    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        width = x.shape[-1]
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        of_input = Dense(3 * width, self.compute, init, name="input")(x)
        recurrent = Dense(3 * width, self.compute, init, name="recurrent")
        if self.is_initializing():
            recurrent(x[:, 0])
            return x

        def step(h: Array, from_input: Array) -> tuple[Array, Array]:
            (r, z, n), (hr, hz, hn) = (jnp.split(part, 3, axis=-1) for part in (from_input, recurrent(h)))
            z = jax.nn.sigmoid(z + hz)
            h = (1 - z) * jnp.tanh(n + jax.nn.sigmoid(r + hr) * hn) + z * h
            return h, h

        return lax.scan(step, jnp.zeros_like(x[:, 0]), of_input.swapaxes(0, 1))[1].swapaxes(0, 1)


class Layers(nn.Module):
    """Recurrent layers one after the other, named as a transformer's blocks are."""

    depth: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for index in range(self.depth):
            x = Drop(self.compute.dropout)(Gru(self.compute, name=f"block_{index}")(x), train)
        return x


class Gru4Rec(nn.Module):
    """Histories to a vector for each place, [batch length width]."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False, head: bool = True) -> Array:
        x = catalogue.Table(self.spec, name="item")(inputs["items"])
        return Layers(self.spec.options["depth"], self.compute, name="encoder")(Drop(self.compute.dropout)(x, train), train)


FAMILY = Family(
    name="gru4rec",
    options={"width": 64, "depth": 1, "special": 0},
    module=Gru4Rec,
    groups=lambda spec: ("item", *(f"block_{index}" for index in range(spec.options["depth"]))),
    check=functools.partial(catalogue.check_options, choices={}, naturals=("width", "depth")),
    example=catalogue.example,
    reads="items",
    head=lambda spec, compute: None,
    items=catalogue.table_of,
)
