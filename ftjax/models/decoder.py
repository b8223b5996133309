"""Decoders that write, as one parametrised family: Llama, Qwen 2 and 3, Gemma 2 and 3, GPT-2, SmolLM.

Pre-norm blocks; what differs are options: RMS or layer norm (Gemma keeps the scale as its distance from 1), rotary or learned positions, grouped queries,
norms of queries and keys, norms after the branches, gated MLPs, soft caps, windows by block, and whether the head is the table of embeddings itself.
Texts may lie packed in a row (`document`): attention stays inside each, and its positions begin at 0. Dropout is on embeddings and branches.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from ftjax.errors import ConfigError
from ftjax.models import layers, text
from ftjax.models.causal import CausalAttention, looks_back, places
from ftjax.models.decoder_options import DEFAULTS, blocks_of, check, complete, for_output, groups
from ftjax.models.family import Family, Inputs
from ftjax.models.modules import Dense, Drop, Embed, Encoder, LayerNorm, RmsNorm, affine, drop_rates, prompt_of, remat
from ftjax.models.rotary import Rotary
from ftjax.models.spec import Compute, ModelSpec
from ftjax.models.transformer import partition_spec
from ftjax.trees import Tree


def norm_of(options: Any, compute: Compute, name: str) -> nn.Module:
    """The family's norm."""
    if options["norm"] == "layer":
        return LayerNorm(options["epsilon"], compute, name=name)
    return RmsNorm(options["epsilon"], 1.0 if options["norm"] == "rms_one" else 0.0, name=name)


class Stem(nn.Module):
    """word * scale (+ position), with NEFTune's noise on the words in training."""

    options: Any
    compute: Compute

    @nn.compact
    def __call__(self, tokens: Array, document: Array, positions: Array, train: bool) -> Array:
        options, width = self.options, self.options["width"]
        x = Embed(options["vocabulary"], width, name="word")(tokens) * options["embedding_scale"]
        if train and self.compute.neftune > 0:
            x = x + text.noise(self.make_rng("dropout"), x, document, self.compute.neftune)
        if options["position"] == "learned":
            x = x + Embed(options["positions"], width, name="position")(positions)
        return Drop(self.compute.dropout)(x, train)


class Mlp(nn.Module):
    """down(activation(gate) * up) (Shazeer 2020), or down(activation(up)) where there is no gate."""

    options: Any
    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        options, compute = self.options, self.compute
        dense = functools.partial(Dense, compute=compute, use_bias=options["mlp_bias"])
        up = dense(options["hidden"], name="up")(x)
        bent = dense(options["hidden"], name="gate")(x) if options["gated"] else up
        hidden = layers.ACTIVATIONS[options["activation"]](bent, compute.precision)
        hidden = hidden * up if options["gated"] else hidden
        return dense(x.shape[-1], name="down")(hidden, entered=x)


class Block(nn.Module):
    """x + post_norm1(attention(norm1(x))), then x + post_norm2(mlp(norm2(x))); `near` and `far` are (mask, rotation) of the two kinds of attention.

    A prompt stands before every text: its own, or one that comes as (x, prompt [1 n width]) and goes on as that. Nothing of a text is seen by what stands
    before it, so one prompt does for all rows, for all texts packed into them, and for every step of writing.
    """

    options: Any
    windowed: bool
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Any, train: bool, near: Any, far: Any, start: Array | None) -> Any:
        options, compute, (x, shared) = self.options, self.compute, x if isinstance(x, tuple) else (x, None)
        norm1, norm2 = norm_of(options, compute, "norm1"), norm_of(options, compute, "norm2")
        attention, mlp = CausalAttention(options, compute, name="attention"), Mlp(options, compute, name="mlp")

        def join(x: Array, branch: Array, name: str) -> Array:
            branch = post[name](branch) if options["post_norms"] else branch
            return x + Drop(self.drop_path, whole=True)(Drop(compute.dropout)(branch, train), train)

        def passed(x: Array, *attended: Any) -> Array:
            x = join(x, attention(norm1(x), *attended), "post_norm1")
            return join(x, mlp(norm2(x)), "post_norm2")

        post = {name: norm_of(options, compute, name) for name in ("post_norm1", "post_norm2")} if options["post_norms"] else {}
        mask, rotation = near if self.windowed else far
        own = prompt_of(self)
        prompt = shared if own is None else own[None]
        if prompt is None:
            return passed(x, mask, rotation, start)
        count = prompt.shape[1]
        turned = _rotation(options, jnp.arange(-count, 0, dtype=jnp.int32)[None], self.windowed)
        after = passed(x, mask, rotation, start, (norm1(prompt), turned))
        return after if own is not None else (after, passed(prompt, looks_back(jnp.ones((1, count), jnp.int32), 0, count, 0), turned))


class LanguageHead(nn.Module):
    """Logits over the vocabulary with the model's soft cap: x kernel, or where the head is tied x embedding^T."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.spec.options["tied"]:
            return tied_logits(self.spec, self.compute, x, self.variables["params"]["word"]["embedding"])
        return layers.soft_cap(affine(self, x, self.spec.num_classes, self.compute, use_bias=False), self.spec.options["logit_cap"])


def tied_logits(spec: ModelSpec, compute: Compute, x: Array, table: layers.Weight) -> Array:
    """Logits of a head that is the table of embeddings [vocabulary width] itself."""
    return layers.soft_cap(layers.unembed(x, table, compute.precision), spec.options["logit_cap"])


class Decoder(nn.Module):
    """Texts to what the head sees, [batch length width] for "language" and [batch width] for "sequence" (its last token), or with `head` to logits.

    `inputs` are `{"tokens", "document"}` or `{"tokens", "mask"}`. With `start` `tokens` are those from this place on of rows as long as `document`, and the
    collection "cache" holds the keys and values before them.
    """

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False, head: bool = True) -> Array:
        options, compute, tokens = self.spec.options, self.compute, inputs["tokens"]
        document = inputs["document"] if "document" in inputs else inputs["mask"].astype(jnp.int32)
        text.check_length(document, options["positions"])
        start, length = inputs.get("start"), tokens.shape[1]
        begin = 0 if start is None else start
        own, positions = (lax.dynamic_slice_in_dim(array, begin, length, axis=1) for array in (document, places(document)))
        x = Stem(options, compute, name="stem")(tokens, own, positions, train)
        contexts = [(looks_back(document, begin, length, window), _rotation(options, positions, window > 0)) for window in (options["window"], 0)]
        prompt = prompt_of(self, "stem")
        x = x if prompt is None else (x, prompt.astype(x.dtype)[None])
        x = Encoder(_blocks(options, compute), compute.scan, name="encoder")(x, train, *contexts, start)
        x = x if prompt is None else x[0]
        x = norm_of(options, compute, "norm")(x)
        return self._end(x, own, train, head)

    def _end(self, x: Array, document: Array, train: bool, head: bool) -> Array:
        if self.spec.options["output"] == "sequence":
            x = last(x, document)
            return text.Head(self.spec.num_classes, self.compute, name="head", linear_bias=False)(x, train) if head else x
        if not head:
            return x
        if self.spec.options["tied"]:
            return tied_logits(self.spec, self.compute, x, self.variables["params"]["stem"]["word"]["embedding"])
        return LanguageHead(self.spec, self.compute, name="head")(x)


def empty_cache(spec: ModelSpec, rows: int, length: int) -> Tree:
    """Room for keys and values of `rows` texts of up to `length` tokens, [rows length kv_heads head_size] for each block, float32."""
    options = spec.options
    block = {"attention": {name: jnp.zeros((rows, length, options["kv_heads"], options["head_size"])) for name in ("keys", "values")}}
    return {"encoder": {f"block_{index}": block for index in range(options["depth"])}}


def last(x: Array, document: Array) -> Array:
    """The vector of each row's last token [batch width], which stands before the padding where that is on the right."""
    index = jnp.max(jnp.where(document > 0, jnp.arange(document.shape[1], dtype=jnp.int32)[None, :], 0), axis=1)
    return jnp.take_along_axis(x, index[:, None, None], axis=1)[:, 0]


def _blocks(options: Any, compute: Compute) -> list[Any]:
    """One maker for each block.

    Raises:
      ConfigError: `scan`, though some blocks see a window and others everything.
    """
    windowed = blocks_of(options)
    if compute.scan and len(set(windowed)) > 1:
        raise ConfigError("model.scan: some blocks of this decoder see a window and others everything, so one cannot stand for the others; allowed: False")
    block = functools.partial(remat(Block, compute), options)
    return [functools.partial(block, near, rate, compute) for near, rate in zip(windowed, drop_rates(compute, options["depth"]))]


def _rotation(options: Any, positions: Array, near: bool) -> tuple[Array, Array] | None:
    """Cosine and sine; blocks with a window may have a base of their own, which is never scaled."""
    if options["position"] == "learned":
        return None
    if near and options["local_theta"]:
        return Rotary(options["local_theta"]).angles(positions, options["head_size"])
    scaled = (options[f"rope_{name}"] for name in ("scaling", "factor", "low", "high", "original"))
    return Rotary(options["theta"], *scaled).angles(positions, options["head_size"])


def _head(spec: ModelSpec, compute: Compute) -> nn.Module:
    return text.Head(spec.num_classes, compute, linear_bias=False) if spec.options["output"] == "sequence" else LanguageHead(spec, compute)


def _head_params(spec: ModelSpec, params: Tree) -> Tree:
    tied = spec.options["output"] == "language" and spec.options["tied"]
    return {"word": params["stem"]["word"]} if tied else params["head"]


def _example(_: ModelSpec) -> dict[str, Array]:
    return {"tokens": jnp.zeros((1, 2), jnp.int32), "document": jnp.ones((1, 2), jnp.int32)}


FAMILY = Family(
    name="decoder",
    options=DEFAULTS,
    module=Decoder,
    groups=groups,
    complete=complete,
    check=check,
    partition_spec=partition_spec,
    example=_example,
    reads="text",
    head=_head,
    alike=True,
    for_output=for_output,
    longest=lambda spec: spec.options["positions"],
    head_params=_head_params,
)
