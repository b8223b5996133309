"""The train step: a pure function of (state, batch, hyper), and the only caller of `jax.value_and_grad`.

The gradient is taken with respect to the live leaves alone. Micro-batches add up loss, weight and gradient and are divided once, so they equal
the whole batch also when weights are ragged; a batch in one part divides its loss, so that no second tree of gradients is written. A step whose
loss, gradient or update is not finite leaves the parameters as they were.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ftjax.adapters import with_dropout
from ftjax.coefficients import Hyper, combine
from ftjax.coefficients.after import update_ema, update_swa
from ftjax.models.spec import Compute
from ftjax.tasks import Features, ItemFeatures, Task
from ftjax.training.dynamics import follow, observe
from ftjax.training.state import TrainState
from ftjax.trees import Tree

Batch = Mapping[str, Array]
Sums = dict[str, tuple[Array, Array]]
Metrics = dict[str, Array]


class Model(Protocol):
    """What the step needs of a model."""

    def apply(self, params: Tree, extra: Tree, inputs: Any, *, key: Array | None = None, train: bool = False) -> tuple[Array, Tree]:
        """Logits and the updated extra variables."""
        ...


class Writer(Protocol):
    """What the step needs of the model where the task's output is "language" or "items"."""

    def body(self, params: Tree, extra: Tree, inputs: Any, *, key: Array | None = None, train: bool = False) -> tuple[Array, Tree]:
        """What the head sees of every token, and the updated extra variables."""
        ...

    def head(self, params: Tree, features: Array) -> Array:
        """Logits of features."""
        ...


class Recommender(Protocol):
    """What the step needs of the model where the task's output is "items", beside `Writer.body`."""

    @property
    def compute(self) -> Compute:
        """How the model is computed."""
        ...

    def items(self, params: Tree, extra: Tree) -> Array:
        """The vectors of the items, row 0 being padding."""
        ...


class TrainingInputs(Protocol):
    """What the step needs of the preprocessing."""

    def training_batch(self, batch: Batch, key: Array) -> Batch:
        """The whole batch before it is cut into micro-batches: what rows need of each other is put beside them."""
        ...

    def training_inputs(self, batch: Batch, key: Array, dtype: Any = jnp.float32) -> Any:
        """What the model reads of a batch: pictures augmented and normalised, or tokens."""
        ...


Moving = Callable[..., Tree]
"""`moving(gradients, step=, hyper=) -> gradients` with zeros where the coefficient is 0."""

Mixout = Callable[..., Tree]
"""`mixout(live, anchor, key=, rate=, step=) -> live` as the forward pass sees it."""

_MIXOUT = 2**31 - 1
"""What mixout folds into the step's key; micro-batches fold in their number."""

_ADAPTERS = 2**31 - 2
"""What the dropout of adapters folds into a part's key; a model's own names are folded in by Linen."""

Step = Callable[[TrainState, Batch, Hyper], tuple[TrainState, Metrics]]
"""`step(state, batch, hyper) -> (state, metrics)`, pure."""


@dataclasses.dataclass(frozen=True)
class StepParts:
    """The collaborators of a step; all of them static."""

    model: Model
    task: Task
    preprocessing: TrainingInputs
    optimizer: optax.GradientTransformationExtraArgs
    microbatches: int = 1
    sam: Moving | None = None
    """With it the gradient is taken uphill, `hyper["sam"]` away (Foret et al. 2021, arXiv 2010.01412), along what moves at this step."""
    mixout: Mixout | None = None
    adapter_dropout: bool = False
    """Whether low-rank adapters drop a share `hyper["adapter_dropout"]` of their input."""
    averages: tuple[str, ...] = ()
    """Which averages of the weights follow them: "ema", "swa"."""
    swa_start: int = 0
    """The first step whose weights count for "swa"."""
    bounded: Callable[[Array, Hyper], Array] | None = None
    """Whether the hyperparameters of a step alone rule out that its update overflows; None: look at every update."""
    dynamics: bool = False
    """Whether `extra["dynamics"]` follows what the model gives the label of each example."""


def make_step(parts: StepParts) -> Step:
    """The pure step; `jit`, `vmap` and shard it as you like.

    Returns:
      `step(state, batch, hyper) -> (state, metrics)`. Metrics are scalars: `loss` (weighted mean), the task's training metrics, `gradient_norm`
      (live leaves, before clipping), `finite` (1 or 0) and `bad_steps` (in a row).
    """

    def step(state: TrainState, batch: Batch, hyper: Hyper) -> tuple[TrainState, Metrics]:
        key = _step_key(state, hyper)
        loss, sums, batch_stats, seen, gradients = _mean_gradient(parts, state, state.live, batch, hyper, key)
        if parts.sam is not None:
            shifted = _uphill(state.live, parts.sam(gradients, step=state.step, hyper=hyper), hyper["sam"])
            *_, gradients = _mean_gradient(parts, state, shifted, batch, hyper, key)
        norm = optax.tree.norm(gradients)
        update = functools.partial(parts.optimizer.update, gradients, state.opt_state, state.live, step=state.step, hyper=hyper, anchor=state.extra["anchor"])
        # Where the hyperparameters do not rule it out, the updates are worked out twice, here to see that none overflows and below to apply them: a branch
        # costs a third of keeping them and the old state until that is known (44 instead of 144 ms for 22 million parameters on two CPU cores).
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        looked = functools.partial(_squarable_updates, update)
        finite &= looked() if parts.bounded is None else jax.lax.cond(parts.bounded(state.step, hyper), lambda: jnp.array(True), looked)
        held = (state.live, state.opt_state, state.extra["batch_stats"])
        live, opt_state, batch_stats = jax.lax.cond(finite, lambda: _applied(update, state.live, batch_stats), lambda: held)
        bad_steps = jnp.where(finite, 0, state.extra["bad_steps"] + 1)
        followed = _follow(parts, state.extra["averages"], state._replace(live=live).moved, state.step, hyper)
        averages = _select(finite, followed, state.extra["averages"])
        extra = state.extra | {"batch_stats": batch_stats, "bad_steps": bad_steps, "averages": averages}
        extra |= {"dynamics": follow(extra["dynamics"], seen)} if parts.dynamics else {}
        metrics = {name: total / count for name, (total, count) in sums.items()}
        metrics |= {"loss": loss, "gradient_norm": norm, "finite": finite.astype(jnp.int32), "bad_steps": bad_steps}
        return TrainState(state.step + 1, live, state.still, opt_state, extra), metrics

    return step


def gradient_norms(parts: StepParts, group_of: Callable[[str], str]) -> Callable[[TrainState, Batch, Hyper], dict[str, Float[Array, ""]]]:
    """A pure function that gives the norm of the mean gradient per group: what a stopped run names."""

    def norms(state: TrainState, batch: Batch, hyper: Hyper) -> dict[str, Array]:
        *_, gradients = _mean_gradient(parts, state, state.live, batch, hyper, _step_key(state, hyper))
        groups: dict[str, list[Array]] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
            groups.setdefault(group_of(jax.tree_util.keystr(path, simple=True, separator="/")), []).append(leaf)
        return {group: optax.tree.norm(leaves) for group, leaves in groups.items()}

    return norms


def _squarable_updates(update: Callable[[], tuple[Tree, Tree]]) -> Array:
    """Whether every update is a number whose square is one: beyond that a norm overflows, and so would the parameters soon."""
    leaves = jax.tree.leaves(update()[0])
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.abs(leaf) < float(jnp.finfo(leaf.dtype).max) ** 0.5) for leaf in leaves], jnp.array(True))


def _applied(update: Callable[[], tuple[Tree, Tree]], live: Tree, batch_stats: Tree) -> tuple[Tree, Tree, Tree]:
    """Parameters, moments and batch statistics after the step."""
    updates, opt_state = update()
    return optax.apply_updates(live, updates), opt_state, batch_stats


def _step_key(state: TrainState, hyper: Hyper) -> Array:
    return jax.random.fold_in(jax.random.key(hyper["seed"]), state.step)


def _uphill(live: Tree, gradients: Tree, distance: Array) -> Tree:
    """live + distance * g / |g|, the norm over all of them together; live itself where the gradient is zero."""
    norm = optax.tree.norm(gradients)
    scale = distance.astype(norm.dtype) / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)
    return jax.tree.map(lambda theta, g: theta + (scale * g).astype(theta.dtype), live, gradients)


def _follow(parts: StepParts, averages: dict[str, Tree], moved: Tree, step: Array, hyper: Hyper) -> dict[str, Tree]:
    """The averages after the weights have moved."""
    followed = {}
    if "ema" in parts.averages:
        followed["ema"] = update_ema(averages["ema"], moved, step, hyper["ema_decay"])
    if "swa" in parts.averages:
        followed["swa"] = update_swa(averages["swa"], moved, step, parts.swa_start)
    return followed


def _mean_gradient(parts: StepParts, state: TrainState, live: Tree, batch: Batch, hyper: Hyper, key: Array) -> tuple[Array, Sums, Tree, Tree, Tree]:
    """Weighted mean of the loss over the batch at the point `live`, sums of the metrics, last batch statistics, what was said of each example; the gradient."""

    augment_key, model_key = jax.random.split(key)
    batch = parts.preprocessing.training_batch(batch, augment_key)

    def loss_of(live: Tree, batch_stats: Tree, part: Batch, part_key: Array) -> tuple[Array, tuple[Array, Sums, Tree, Tree]]:
        if parts.mixout is not None:
            # One mask per step, so that micro-batches see the network that the whole batch would.
            live = parts.mixout(live, state.extra["anchor"], key=jax.random.fold_in(model_key, _MIXOUT), rate=hyper["mixout"], step=state.step)
        params = combine(live, state.still)
        if parts.adapter_dropout:
            params = with_dropout(params, jax.random.fold_in(part_key, _ADAPTERS), hyper["adapter_dropout"])
        # Augmentation draws from (key, example id), so micro-batches see the same images as the whole batch; dropout draws per part.
        inputs = parts.preprocessing.training_inputs(part, augment_key, _float_dtype(live))
        inputs = inputs if parts.task.views == 1 else jax.tree.map(lambda x: jnp.concatenate([x] * parts.task.views), inputs)
        outputs, extra = _outputs(parts, params, {"batch_stats": batch_stats} if batch_stats else {}, inputs, part_key)
        loss, weight, sums = parts.task.loss(outputs, part, hyper)
        seen = observe(outputs, part, parts.task.views) if parts.dynamics else {}
        return loss, (weight, sums, extra.get("batch_stats", batch_stats), seen)

    def mean_loss(live: Tree) -> tuple[Array, tuple[Sums, Tree, Tree]]:
        loss, (weight, sums, stats, seen) = loss_of(live, state.extra["batch_stats"], batch, model_key)
        return loss / weight, (sums, stats, seen)

    if parts.microbatches == 1:
        (loss, (sums, stats, seen)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(live)
        return loss, sums, stats, seen, gradients
    differentiate = jax.value_and_grad(loss_of, has_aux=True)

    def add(carry: Tree, numbered: tuple[Array, Batch]) -> tuple[Tree, Tree]:
        total, stats = carry
        index, part = numbered
        (loss, (weight, sums, stats, seen)), gradients = differentiate(live, stats, part, jax.random.fold_in(model_key, index))
        return (jax.tree.map(jnp.add, total, (loss, weight, sums, gradients)), stats), seen

    split = {name: _interleave(value, parts.microbatches) for name, value in batch.items()}
    first = jax.eval_shape(lambda b: differentiate(live, state.extra["batch_stats"], b, model_key), {name: value[0] for name, value in split.items()})
    (loss, (weight, sums, *_)), gradients = first
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (loss, weight, sums, gradients))
    (total, stats), seen = jax.lax.scan(add, (zeros, state.extra["batch_stats"]), (jnp.arange(parts.microbatches), split))
    loss, weight, sums, gradients = total
    return loss / weight, sums, stats, seen, jax.tree.map(lambda g: g / weight.astype(g.dtype), gradients)


def _outputs(parts: StepParts, params: Tree, extra: Tree, inputs: Any, key: Array) -> tuple[Any, Tree]:
    """What the task's loss reads: the model's outputs, or where these are logits of every token over a vocabulary what makes them, a piece at a time."""
    if parts.task.output not in ("language", "items"):
        return parts.model.apply(params, extra, inputs, key=key, train=True)
    writer = cast(Writer, parts.model)
    hidden, extra = writer.body(params, extra, inputs, key=key, train=True)
    if parts.task.output == "items":
        recommender = cast(Recommender, parts.model)
        return ItemFeatures(hidden, recommender.items(params, extra), recommender.compute.precision), extra
    return Features(hidden, functools.partial(writer.head, params)), extra


def _interleave(value: Array, parts: int) -> Array:
    """`[batch ...] -> [parts batch/parts ...]`, part i holding rows i, i + parts, ...: each part stays spread over all devices."""
    return jnp.swapaxes(value.reshape(value.shape[0] // parts, parts, *value.shape[1:]), 0, 1)


def _float_dtype(tree: Tree) -> Any:
    return jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves(tree)))


def _select(condition: Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
