"""What a family of models says about itself, and the `Model` that the rest of ftjax sees.

A new family is one file that ends in a `FAMILY = Family(...)` and one entry in `zoo.FAMILIES`; nothing else in ftjax lists families.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models.modules import Dense
from ftjax.models.spec import Compute, ModelSpec, Option
from ftjax.trees import Tree

Options = Mapping[str, Option]
Inputs = Any
"""Images, float `[batch height width 3]`, or for text `{"tokens": int [batch length], "mask": bool [batch length], "segments": int [batch length]}`;
decoders also read `{"tokens", "document"}`, where `document` is 0 for padding and counts the texts packed into a row from 1.
Recommenders read `{"items": int [batch length]}`, the oldest first and then padding, which is 0."""
PartitionSpec = tuple[str | None, ...]


def _accept(_: ModelSpec) -> None:
    pass


def _images(spec: ModelSpec) -> Array:
    return jnp.zeros((1, *(spec.image_size or ()), 3))


def _replicated(_: str, shape: tuple[int, ...]) -> PartitionSpec:
    return (None,) * len(shape)


def _linear_head(spec: ModelSpec, compute: Compute) -> nn.Module:
    return Dense(spec.num_classes, compute)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One family of architectures.

    Attributes:
      name: as in `ModelSpec.family`.
      options: every option with its default.
      variants: options of relatives that came later, with their defaults; a spec holds them only where they differ, so the specs (and files)
        made before are the same as ever.
      module: `module(spec=, compute=)` is a Linen module with `__call__(inputs, train, head)`; `head=False` stops at what the head sees.
        Its parameters are `stem/...`, `encoder/block_i/...`, then one collection per later stage, then `head/...`.
      groups: the depth order of a spec, from the input to the head, named as the parameters are.
      complete: fills options whose default depends on other options.
      check: raises ConfigError for a spec that cannot be built.
      partition_spec: tensor-parallel axis per dimension of the parameter at a path.
      example: an input of one example, for its types and shapes.
      reads: images, text, or items of histories.
      head: the module whose parameters are `head/...`, from features to logits; None: there is no head.
      alike: whether all blocks have the same parameters and are computed alike, so that `scan` can repeat one of them.
      for_output: options of a model with the same body and another output or pool.
      longest: tokens of the longest text that a model can read; None for images.
      head_params: what of a model's parameters the head reads; where it is tied to the embedding these are not `head/...`.
      items: `items(spec, compute, params, extra)` gives the vectors of a catalogue, which a recommender has instead of a head.
    """

    name: str
    options: Options
    module: Callable[..., nn.Module]
    groups: Callable[[ModelSpec], tuple[str, ...]]
    complete: Callable[[dict[str, Option]], dict[str, Option]] = dict
    check: Callable[[ModelSpec], None] = _accept
    partition_spec: Callable[[str, tuple[int, ...]], PartitionSpec] = _replicated
    variants: Options = dataclasses.field(default_factory=dict)
    example: Callable[[ModelSpec], Inputs] = _images
    reads: Literal["images", "text", "items"] = "images"
    head: Callable[[ModelSpec, Compute], nn.Module | None] = _linear_head
    alike: bool = False
    for_output: Callable[[Options, str, str | None], Options] = lambda options, output, pool: options
    longest: Callable[[ModelSpec], int | None] = lambda spec: None
    head_params: Callable[[ModelSpec, Tree], Tree] = lambda spec, params: params["head"]
    items: Callable[[ModelSpec, Compute, Tree, Tree], Array] | None = None

    def resolve(self, spec: ModelSpec) -> ModelSpec:
        """`spec` with every option present (variants only where they differ from their default), checked.

        Raises:
          ConfigError: an option is unknown, of a wrong type or impossible, or the number of classes or pixels is not positive.
        """
        known = {**self.options, **self.variants}
        for option, value in spec.options.items():
            if option not in known:
                raise ConfigError(f"{self.name}: unknown option {option!r}; {did_you_mean(option, known)}")
            _check_type(self.name, option, value, known[option])
        if (spec.image_size is None) != (self.reads != "images"):
            raise ConfigError(f"{self.name} reads {self.reads}; model.image_size {spec.image_size} must {'be left open' if spec.image_size else 'be given'}")
        if spec.num_classes < 1 or min(spec.image_size or (1,)) < 1:
            raise ConfigError(f"{self.name}: num_classes {spec.num_classes} and image_size {spec.image_size} must be positive")
        given = {option: value for option, value in spec.options.items() if option in self.options or value != self.variants[option]}
        spec = dataclasses.replace(spec, options=self.complete({**self.options, **given}), image_size=spec.image_size and tuple(spec.image_size))
        self.check(spec)
        return spec


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """One model as pure functions of its parameters; hashed by identity, so its methods can be jitted."""

    spec: ModelSpec
    family: Family
    compute: Compute

    @functools.cached_property
    def _module(self) -> nn.Module:
        return self.family.module(spec=self.spec, compute=self.compute)

    @functools.cached_property
    def _head(self) -> nn.Module | None:
        return self.family.head(self.spec, self.compute)

    @property
    def longest(self) -> int | None:
        """Tokens of the longest text that the model can read; None: it reads images."""
        return self.family.longest(self.spec)

    @functools.cached_property
    def groups(self) -> tuple[str, ...]:
        """Groups of parameters in depth order: `("stem", "block_0", ..., "norm", "head")`."""
        return self.family.groups(self.spec)

    def init(self, key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """Random parameters in float32, and `{"batch_stats": ...}` or `{}`. Shapes alone: `jax.eval_shape(model.init, key)`."""
        variables = dict(jax.jit(self._module.init)(key, self.family.example(self.spec)))
        return variables.pop("params"), variables

    def apply(
        self, params: Tree, extra: Tree, inputs: Inputs, *, key: Array | None = None, train: bool = False
    ) -> tuple[Float[Array, "batch ... classes"], Tree]:
        """Logits, and the batch statistics after this batch.

        Args:
          params: nested dict of weights.
          extra: `{"batch_stats": ...}` or `{}`; comes back as it was unless training with `batch_statistics="updated"`.
          inputs: images, normalised as the model's `InputSpec` says, or the arrays of a text.
          key: randomness of dropout, stochastic depth and NEFTune; needed only where a rate is positive and `train`.
          train: a Python bool.

        Raises:
          ConfigError: something random without a key.
        """
        return self._run(params, extra, inputs, key, train, head=True)

    def body(self, params: Tree, extra: Tree, inputs: Inputs, *, key: Array | None = None, train: bool = False) -> tuple[Float[Array, "batch ... width"], Tree]:
        """`apply` without the head: what the head sees, and the batch statistics; `head(params, ...)` makes logits of it, a piece at a time where these are
        many.

        Raises:
          ConfigError: something random without a key.
        """
        return self._run(params, extra, inputs, key, train, head=False)

    def _run(self, params: Tree, extra: Tree, inputs: Inputs, key: Array | None, train: bool, head: bool) -> tuple[Array, Tree]:
        updates = train and self.compute.batch_statistics == "updated" and bool(extra)
        if train and self.compute.is_random and key is None:
            raise ConfigError("model.dropout, model.drop_path and augment.neftune need a random key when training")
        run = functools.partial(
            self._module.apply,
            {"params": params, **extra},
            _as_params(inputs, params),
            train=train,
            head=head,
            rngs={"dropout": key} if key is not None else None,
        )
        if not updates:
            return cast(Array, run()), extra
        answer, new = run(mutable=["batch_stats"])
        return answer, dict(new)

    def features(self, params: Tree, extra: Tree, inputs: Inputs) -> Float[Array, "batch ... width"]:
        """What the head sees, as in evaluation."""
        return cast(Array, self._module.apply({"params": params, **extra}, _as_params(inputs, params), head=False))

    def continued(self, params: Tree, inputs: Inputs, cache: Tree) -> tuple[Float[Array, "batch length width"], Tree]:
        """Features of a decoder's tokens from place `inputs["start"]` on, and the cache with their keys and values (`decoder.empty_cache`), in evaluation."""
        features, new = self._module.apply({"params": params, "cache": cache}, inputs, head=False, mutable=["cache"])
        return cast(Array, features), new["cache"]

    def head(self, params: Tree, features: Float[Array, "batch ... width"]) -> Float[Array, "batch ... classes"]:
        """Logits of what `features` gives: `head(params, features(params, extra, inputs))` is `apply` in evaluation."""
        if self._head is None:
            return features
        read = self.family.head_params(self.spec, params)
        return cast(Array, self._head.apply({"params": read}, _as_params(features, read)))

    def items(self, params: Tree, extra: Tree) -> Float[Array, "rows width"]:
        """A recommender's vectors: row i is item i, row 0 padding, and rows after the last item are special; a score is a product with what `body` gives.

        Raises:
          ConfigError: the model is no recommender.
        """
        if self.family.items is None:
            raise ConfigError(f"{self.family.name} reads {self.family.reads} and has no vectors of items")
        return self.family.items(self.spec, self.compute, params, extra)

    def group_of(self, path: str) -> str:
        """The group that the parameter (or statistic) at `path` belongs to.

        Raises:
          ConfigError: this model has no such group.
        """
        parts = path.split("/")
        group = parts[1] if parts[0] == "encoder" and len(parts) > 1 else parts[0]
        if group not in self.groups or (group.startswith("block_") and parts[0] != "encoder"):
            raise ConfigError(f"{self.family.name}: path {path!r} belongs to no group; {did_you_mean(group, self.groups)}")
        return group

    def partition_spec(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        """The mesh axis ("tensor") or None for each dimension of the parameter at `path`."""
        return self.family.partition_spec(path, shape)


def _check_type(family: str, option: str, value: Option, default: Option) -> None:
    kinds = {float: (float, int), list: (list, tuple)}.get(type(default), (type(default),))
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise ConfigError(f"{family}: option {option} {value!r} is of type {type(value).__name__}; allowed: {type(default).__name__}")


def _as_params(inputs: Inputs, params: Tree) -> Inputs:
    """Images or features in the widest floating type of the parameters, at least float32: activations follow the parameters. Tokens stay integers."""
    if isinstance(inputs, Mapping):
        return inputs
    kinds = [leaf.dtype for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return inputs.astype(functools.reduce(jnp.promote_types, kinds, jnp.dtype(jnp.float32)))
