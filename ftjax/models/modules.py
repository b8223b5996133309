"""The Linen modules that the families share: a name for each weight, and the layer that meets it.

They hold parameters (and batch norm its statistics) and nothing else; every number is computed in `layers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from ftjax.errors import ConfigError
from ftjax.models import layers
from ftjax.models.spec import Compute

Initializer = Callable[..., Any]

truncated = nn.initializers.truncated_normal(0.02)
"""The transformer's usual start: a normal of standard deviation 0.02, cut at two of them."""
fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015, counted over outputs: the usual start of residual convolutional networks."""
zeros = nn.initializers.zeros_init()
ones = nn.initializers.ones_init()


class Dense(nn.Module):
    """x kernel + bias. The kernel starts at `truncated`, also in a head: a zero kernel would stop the first step's gradient at the head."""

    features: int
    compute: Compute
    kernel_init: Initializer = truncated
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array, entered: Array | None = None) -> Array:
        return affine(self, x, self.features, self.compute, self.kernel_init, self.use_bias, entered)


def affine(
    module: nn.Module, x: Array, features: int, compute: Compute, kernel_init: Initializer = truncated, use_bias: bool = True, entered: Array | None = None
) -> Array:
    """x kernel + bias, with `module`'s own parameters `kernel` and `bias`; called inside its compact method. `entered`: see `layers.matmul`."""
    kernel = module.param("kernel", kernel_init, (x.shape[-1], features))
    y = layers.matmul(x, kernel, compute.precision, entered)
    return layers.add_bias(y, module.param("bias", zeros, (features,))) if use_bias else y


class Embed(nn.Module):
    """Rows of a table `embedding` [rows features] by their number."""

    rows: int
    features: int

    @nn.compact
    def __call__(self, indices: Array) -> Array:
        return layers.lookup(indices, self.param("embedding", truncated, (self.rows, self.features)))


class Conv(nn.Module):
    """Convolution (NHWC); the kernel is `[kh kw in/groups out]`."""

    features: int
    kernel_size: tuple[int, int]
    compute: Compute
    strides: tuple[int, int] = (1, 1)
    padding: layers.Padding = "SAME"
    groups: int = 1
    use_bias: bool = False
    kernel_init: Initializer = fan_out

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1] // self.groups, self.features))
        y = layers.conv(x, kernel, strides=self.strides, padding=self.padding, groups=self.groups, precision=self.compute.precision)
        return layers.add_bias(y, self.param("bias", zeros, (self.features,))) if self.use_bias else y


class LayerNorm(nn.Module):
    """Layer norm with a scale, and a bias unless `use_bias` says no."""

    epsilon: float
    compute: Compute
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (x.shape[-1],)
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape) if self.use_bias else None
        return layers.layer_norm(x, scale, bias, self.epsilon, self.compute.precision)


class RmsNorm(nn.Module):
    """RMS norm with a scale; with `offset` 1, as Gemma has it, the scale is kept as its distance from 1."""

    epsilon: float
    offset: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.constant(1 - self.offset), (x.shape[-1],))
        return layers.rms_norm(x, scale + self.offset if self.offset else scale, self.epsilon)


class LayerScale(nn.Module):
    """x scale, a learned factor for each channel of a residual branch (Touvron et al. 2021, CaiT), which starts at `initial`."""

    initial: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return x * layers.last_axis(self.param("scale", nn.initializers.constant(self.initial), (x.shape[-1],)), x)


class BatchNorm(nn.Module):
    """Batch norm (Ioffe and Szegedy 2015) as one affine map: x a + b with a = scale / sqrt(var + epsilon), b = bias - mean a.

    Mean and variance are those of the batch (over the whole batch on any mesh) when training with `batch_statistics="updated"`, and then the
    running ones become 0.9 old + 0.1 new; otherwise they are the running ones, which stay. The variance is the biased one throughout.
    """

    epsilon: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (x.shape[-1],)
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if train and self.compute.batch_statistics == "updated":
            used = batch_moments(x)
            if not self.is_initializing():
                mean.value, var.value = (0.9 * old.value + 0.1 * lax.stop_gradient(new) for old, new in zip((mean, var), used))
        else:
            used = (mean.value, var.value)
        a = scale * lax.rsqrt(used[1] + self.epsilon)
        return x * layers.last_axis(a, x) + layers.last_axis(bias - used[0] * a, x)


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance over all axes but the last, in at least float32."""
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return mean, jnp.square(x - layers.last_axis(mean, x)).mean(axes)


class Encoder(nn.Module):
    """Blocks one after the other, named `block_0`, `block_1`, ...; with `remat` each recomputes its inside in the backward pass.

    With `scan` (for blocks that are all alike) one block is compiled and a loop goes through the parameters of all, stacked when they are used: they
    keep their names, and a phase that rests lower blocks still computes their gradients. Random numbers are others than without.
    """

    blocks: Sequence[Callable[..., nn.Module]]
    scan: bool = False

    @nn.compact
    def __call__(self, x: Any, train: bool, *context: Any) -> Any:
        if self.scan and not self.is_initializing():
            return self._repeat(x, train, context)
        for index, block in enumerate(self.blocks):
            x = block(name=f"block_{index}")(x, train, *context)
        return x

    def _repeat(self, x: Any, train: bool, context: tuple[Any, ...]) -> Any:
        params = [self.variables["params"][f"block_{index}"] for index in range(len(self.blocks))]
        if any(jax.tree.structure(other) != jax.tree.structure(params[0]) for other in params):
            raise ConfigError("model.scan: the parameters of the blocks are not all of one kind, so one block cannot stand for the others; allowed: False")
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        keys = jax.random.split(self.make_rng("dropout"), len(params)) if self.has_rng("dropout") else None
        block = self.blocks[0](parent=None)

        def one(x: Any, item: tuple[Any, Array | None]) -> tuple[Any, None]:
            rngs = None if item[1] is None else {"dropout": item[1]}
            return block.apply({"params": item[0]}, x, train, *context, rngs=rngs), None

        return lax.scan(one, x, (stacked, keys))[0]


def prompt_of(module: nn.Module, name: str | None = None) -> Float[Array, "n width"] | None:
    """Learned tokens beside the parameters of `module`, or of its part `name`: inputs that the pretrained model does not have. None: there are none.

    No module declares them; whoever wants some (`adapters/prompts.py`) puts `prompt/tokens` into the tree.
    """
    params = module.variables.get("params", {})
    params = params if name is None else params.get(name, {})
    return params["prompt"]["tokens"] if "prompt" in params else None


def followed_by(x: Float[Array, "batch length width"], prompt: Float[Array, "n width"] | None) -> Array:
    """x with the tokens of a prompt behind each row; attention does not mind their place, and what is first or counted in x keeps its own."""
    return x if prompt is None else jnp.concatenate([x, jnp.broadcast_to(prompt.astype(x.dtype)[None], (x.shape[0], *prompt.shape))], axis=1)


def seen_too(
    seen: Bool[Array, "batch 1 #queries source"], mask: Bool[Array, "batch source"], prompt: Float[Array, "n width"] | None
) -> Bool[Array, "batch 1 #more_queries more_source"]:
    """What rows that are `followed_by` a prompt see, `seen` without it: the prompt is seen by all, and sees all that is no padding."""
    if prompt is None:
        return seen
    if seen.shape[2] > 1:
        own = jnp.broadcast_to(mask[:, None, None, :], (mask.shape[0], 1, prompt.shape[0], mask.shape[1]))
        seen = jnp.concatenate([seen, own], axis=2)
    return jnp.pad(seen, ((0, 0), (0, 0), (0, 0), (0, prompt.shape[0])), constant_values=True)


def remat(block: type[nn.Module], compute: Compute) -> type[nn.Module]:
    """The block class, rematerialised as `compute` says; `train` stays a Python value.

    "blocks" keeps what enters each block, "dots" also the answers of products without a batch axis: those with weights, whose second time would be most of the
    work, but not attention's scores, which are most of the memory.
    """
    if compute.remat == "none":
        return block
    return nn.remat(block, static_argnums=(2,), policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable if compute.remat == "dots" else None)


class Drop(nn.Module):
    """Dropout (Srivastava et al. 2014), or with `whole` stochastic depth (Huang et al. 2016), which drops all of an example at once."""

    rate: float
    whole: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        if not train or self.rate == 0:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1) if self.whole else x.shape
        # Whole numbers are compared: making floats of them first, as `jax.random.bernoulli` does, takes twice as long on the CPU.
        kept = jax.random.bits(self.make_rng("dropout"), shape, jnp.uint32) >= jnp.uint32(round(self.rate * 2**32))
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros((), x.dtype))


def drop_rates(compute: Compute, depth: int) -> tuple[float, ...]:
    """Stochastic depth's rate per block: linear from 0 at the first to `compute.drop_path` at the last."""
    return tuple(compute.drop_path * index / max(depth - 1, 1) for index in range(depth))
