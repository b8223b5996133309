"""BERT and its kin as one parametrised encoder: embeddings, then post-norm transformer blocks (Devlin et al. 2019).

RoBERTa (Liu et al. 2019) counts positions from 2 and has a head with tanh, DistilBERT (Sanh et al. 2019) has no segments, no pooler and a head with
relu, MiniLM (Wang et al. 2020) is a small BERT. Dropout is where theirs is (embeddings, both branches, before the head) but not on the attention's
probabilities: those need heads * length random numbers for each token, as many as all the others in a block at MiniLM's 12 * 64 = 2 * 384.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
from jax import Array

from ftjax.errors import ConfigError
from ftjax.models import text
from ftjax.models.family import Family, Inputs, Options
from ftjax.models.modules import Drop, Embed, Encoder, LayerNorm, drop_rates, followed_by, prompt_of, remat, seen_too
from ftjax.models.spec import Compute, ModelSpec
from ftjax.models.transformer import Attention, Mlp, own_positions, partition_spec


class Stem(nn.Module):
    """norm(word + position + segment), with NEFTune's noise on the words in training."""

    options: Any
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool) -> Array:
        options, mask, width = self.options, inputs["mask"], self.options["width"]
        text.check_length(inputs["tokens"], longest(options))
        x = Embed(options["vocabulary"], width, name="word")(inputs["tokens"])
        if train and self.compute.neftune > 0:
            x = x + text.noise(self.make_rng("dropout"), x, mask, self.compute.neftune)
        x = x + Embed(options["positions"], width, name="position")(own_positions(mask) + options["position_offset"])
        if options["segments"]:
            x = x + Embed(options["segments"], width, name="segment")(inputs["segments"])
        return Drop(self.compute.dropout)(LayerNorm(options["epsilon"], self.compute, name="norm")(x), train)


class Block(nn.Module):
    """norm1(x + attention(x)), then norm2(x + mlp(x))."""

    options: Any
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool, mask: Array) -> Array:
        options, compute = self.options, self.compute

        def join(x: Array, branch: Array, name: str) -> Array:
            branch = Drop(self.drop_path, whole=True)(Drop(compute.dropout)(branch, train), train)
            return LayerNorm(options["epsilon"], compute, name=name)(x + branch)

        x = join(x, Attention(options["heads"], compute, name="attention")(x, mask, prompt=prompt_of(self)), "norm1")
        return join(x, Mlp(options["hidden"], compute, options["activation"], name="mlp")(x, train), "norm2")


class TextEncoder(nn.Module):
    """Texts to what the head sees ([batch width], or [batch length width] for "tokens"), or with `head` to logits."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False, head: bool = True) -> Array:
        options, compute = self.spec.options, self.compute
        inputs = {**inputs, "mask": inputs["mask"].astype(bool)}
        mask = inputs["mask"]
        block = functools.partial(remat(Block, compute), options)
        blocks = [functools.partial(block, rate, compute) for rate in drop_rates(compute, options["depth"])]
        x, prompt = Stem(options, compute, name="stem")(inputs, train), prompt_of(self, "stem")
        x = Encoder(blocks, compute.scan, name="encoder")(followed_by(x, prompt), train, seen_too(mask[:, None, None, :], mask, prompt))[:, : mask.shape[1]]
        if options["output"] != "tokens":
            x = text.mean(x, mask) if options["pool"] == "mean" else text.first(x, mask)
            x = text.Pooler(compute, name="pooler")(x) if options["pool"] == "pooler" else x
        last = _head(self.spec, compute, name="head")
        return last(x, train) if head and last is not None else x


def _head(spec: ModelSpec, compute: Compute, name: str | None = None) -> text.Head | None:
    return None if spec.options["output"] == "embedding" else text.Head(spec.num_classes, compute, spec.options["head"], name=name)


def longest(options: Options) -> int:
    """Tokens of the longest text that there are positions for."""
    return options["positions"] - options["position_offset"]


def _for_output(options: Options, output: str, pool: str | None) -> Options:
    """Classifiers of tokens have a linear head; a file for tokens gets the classifier of texts that is usual for its kind; embeddings are means.

    A pool that is asked for changes what the head sees, and the head only where a pooler, which is half a head, comes in.
    """
    if output == "tokens":
        return {**options, "output": output, "head": "linear"}
    if output == "embedding":
        usual = options["pool"] if options["output"] == "embedding" else "mean"
        return {**options, "output": output, "pool": pool or usual, "head": "linear"}
    if options["output"] == "tokens":
        options = {**options, "pool": "first", "head": "tanh" if options["segments"] else "relu"}
    pool = pool or options["pool"]
    return {**options, "output": output, "pool": pool, "head": "linear" if pool == "pooler" else options["head"]}


def _check(spec: ModelSpec) -> None:
    naturals = ("vocabulary", "positions", "width", "depth", "heads", "hidden")
    text.check_options(spec, {"pool": text.POOLS, "head": text.HEADS}, naturals)
    if min(spec.options["segments"], spec.options["position_offset"]) < 0 or longest(spec.options) < 2:
        counts = ", ".join(f"{name} {spec.options[name]}" for name in ("positions", "position_offset", "segments"))
        raise ConfigError(f"bert: {counts}: at least two positions beyond the offset are allowed, and no negative numbers")


def _groups(spec: ModelSpec) -> tuple[str, ...]:
    """An embedding has no head; only a text as a whole has a pooler."""
    output, blocks = spec.options["output"], (f"block_{index}" for index in range(spec.options["depth"]))
    pooler = ("pooler",) if spec.options["pool"] == "pooler" and output != "tokens" else ()
    return ("stem", *blocks, *pooler, *(() if output == "embedding" else ("head",)))


FAMILY = Family(
    name="bert",
    options={
        "vocabulary": 30522,
        "positions": 512,
        "position_offset": 0,
        "segments": 2,
        "width": 768,
        "depth": 12,
        "heads": 12,
        "hidden": 3072,
        "epsilon": 1e-12,
        "activation": "gelu",
        "pool": "pooler",
        "head": "linear",
        "output": "sequence",
    },
    module=TextEncoder,
    groups=_groups,
    check=_check,
    partition_spec=partition_spec,
    example=text.example,
    reads="text",
    head=_head,
    alike=True,
    for_output=_for_output,
    longest=lambda spec: longest(spec.options),
)
