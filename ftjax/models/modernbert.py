"""ModernBERT (Warner et al. 2024): pre-norm blocks without biases, rotary positions, gated MLPs, and attention that sees far in every third block only.

The others see `window` tokens to either side, with rotary positions of their own. The first block has no norm before its attention, since the
embeddings end in one. The head has a dense layer, an activation and a norm before the linear map, for texts and for tokens.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from ftjax.errors import ConfigError
from ftjax.models import layers, text
from ftjax.models.family import Family, Inputs, Options
from ftjax.models.modules import Dense, Drop, Embed, Encoder, LayerNorm, drop_rates, followed_by, prompt_of, remat, seen_too
from ftjax.models.spec import Compute, ModelSpec
from ftjax.models.transformer import Attention, own_positions, partition_spec

_POOLS = ("first", "mean")


class Stem(nn.Module):
    """norm(word), with NEFTune's noise on the words in training."""

    options: Any
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool) -> Array:
        text.check_length(inputs["tokens"], self.options["positions"])
        x = Embed(self.options["vocabulary"], self.options["width"], name="word")(inputs["tokens"])
        if train and self.compute.neftune > 0:
            x = x + text.noise(self.make_rng("dropout"), x, inputs["mask"], self.compute.neftune)
        return Drop(self.compute.dropout)(LayerNorm(self.options["epsilon"], self.compute, use_bias=False, name="norm")(x), train)


class GatedMlp(nn.Module):
    """down(activation(up) * gate) (Shazeer 2020), without biases."""

    hidden: int
    activation: str
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        up, gate, down = (
            Dense(size, self.compute, use_bias=False, name=name) for name, size in (("up", self.hidden), ("gate", self.hidden), ("down", x.shape[-1]))
        )
        hidden = layers.ACTIVATIONS[self.activation](up(x), self.compute.precision) * gate(x)
        return down(Drop(self.compute.dropout)(hidden, train), entered=x)


class Block(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); `near` and `far` are (mask, rotation) of the two kinds of attention."""

    options: Any
    index: int
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool, near: Any, far: Any) -> Array:
        options, compute = self.options, self.compute

        def norm(name: str) -> nn.Module:
            return LayerNorm(options["epsilon"], compute, use_bias=False, name=name)

        def join(x: Array, branch: Array) -> Array:
            return x + Drop(self.drop_path, whole=True)(Drop(compute.dropout)(branch, train), train)

        before = (lambda x: x) if self.index == 0 else norm("norm1")
        attention, prompt = Attention(options["heads"], compute, use_bias=False, name="attention"), prompt_of(self)
        mask, turned = near if self.index % options["every"] else far
        x = join(x, attention(before(x), mask, turned, None if prompt is None else before(prompt)))
        return join(x, GatedMlp(options["hidden"], options["activation"], compute, name="mlp")(norm("norm2")(x), train))


class ModernBert(nn.Module):
    """Texts to what the head sees ([batch width], or [batch length width] for "tokens"), or with `head` to logits."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False, head: bool = True) -> Array:
        options, compute = self.spec.options, self.compute
        inputs = {**inputs, "mask": inputs["mask"].astype(bool)}
        mask, positions = inputs["mask"], own_positions(inputs["mask"])
        rates = drop_rates(compute, options["depth"])
        blocks = [functools.partial(remat(Block, compute), options, index, rate, compute) for index, rate in enumerate(rates)]
        x = Stem(options, compute, name="stem")(inputs, train)
        size = options["width"] // options["heads"]
        prompt = prompt_of(self, "stem")
        # A prompt has no place in the text: it is not turned, and no window hides it.
        places = positions if prompt is None else jnp.pad(positions, ((0, 0), (0, prompt.shape[0])))
        near = (seen_too(window(mask, positions, options["window"]), mask, prompt), rotation(places, size, options["local_theta"]))
        far = (seen_too(mask[:, None, None, :], mask, prompt), rotation(places, size, options["theta"]))
        x = Encoder(blocks, name="encoder")(followed_by(x, prompt), train, near, far)[:, : mask.shape[1]]
        x = LayerNorm(options["epsilon"], compute, use_bias=False, name="norm")(x)
        if options["output"] != "tokens":
            x = text.mean(x, mask) if options["pool"] == "mean" else text.first(x, mask)
        last = _head(self.spec, compute, name="head")
        return last(x, train) if head and last is not None else x


def window(mask: Bool[Array, "batch length"], positions: Int[Array, "batch length"], reach: int) -> Bool[Array, "batch 1 queries length"]:
    """Which keys a token sees: those at most `reach` tokens away. Where no two are farther apart, all of them, and the mask stays small."""
    if mask.shape[1] - 1 <= reach:
        return mask[:, None, None, :]
    return (mask[:, None, :] & (jnp.abs(positions[:, :, None] - positions[:, None, :]) <= reach))[:, None]


def rotation(positions: Int[Array, "batch length"], size: int, theta: float) -> tuple[Float[Array, "batch length 1 size"], Float[Array, "batch length 1 size"]]:
    """Cosine and sine of position * theta^(-2 i / size) for the i-th pair of a head's elements (Su et al. 2021)."""
    frequencies = theta ** -(jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    angles = positions[:, :, None].astype(jnp.float32) * frequencies[None, None, :]
    angles = jnp.concatenate([angles, angles], axis=-1)[:, :, None, :]
    return jnp.cos(angles), jnp.sin(angles)


def _head(spec: ModelSpec, compute: Compute, name: str | None = None) -> text.Head | None:
    if spec.options["output"] == "embedding":
        return None
    return text.Head(spec.num_classes, compute, "gelu", use_bias=False, epsilon=spec.options["epsilon"], name=name)


def _for_output(options: Options, output: str, pool: str | None) -> Options:
    """The head is one for all; embeddings are means unless the file was made for another pool."""
    usual = options["pool"] if output != "embedding" or options["output"] == "embedding" else "mean"
    return {**options, "output": output, "pool": pool or usual}


def _check(spec: ModelSpec) -> None:
    text.check_options(spec, {"pool": _POOLS}, ("vocabulary", "positions", "width", "depth", "heads", "hidden", "window", "every"))
    if spec.options["width"] // spec.options["heads"] % 2:
        raise ConfigError(f"modernbert: width {spec.options['width']} over heads {spec.options['heads']} must be even, for rotary positions turn pairs")
    if min(spec.options["theta"], spec.options["local_theta"]) <= 1:
        raise ConfigError(f"modernbert: theta {spec.options['theta']} and local_theta {spec.options['local_theta']} must be above 1")


def _groups(spec: ModelSpec) -> tuple[str, ...]:
    head = () if spec.options["output"] == "embedding" else ("head",)
    return ("stem", *(f"block_{index}" for index in range(spec.options["depth"])), "norm", *head)


FAMILY = Family(
    name="modernbert",
    options={
        "vocabulary": 50368,
        "positions": 8192,
        "width": 768,
        "depth": 22,
        "heads": 12,
        "hidden": 1152,
        "epsilon": 1e-5,
        "activation": "gelu",
        "window": 64,
        "every": 3,
        "theta": 160000.0,
        "local_theta": 10000.0,
        "pool": "first",
        "output": "sequence",
    },
    module=ModernBert,
    groups=_groups,
    check=_check,
    partition_spec=partition_spec,
    example=text.example,
    reads="text",
    head=_head,
    for_output=_for_output,
    longest=lambda spec: spec.options["positions"],
)
