"""Arms x learning rates x seeds in one compiled program, made of the real law: `build_table`, `chain` and `make_step`.

Members are spread over the processor's cores (one fake device each) and run one after the other there: on XLA:CPU that is twice as fast as a `vmap`
over matrices this small. Whatever differs between members is traced or data, so the program is traced once for each shape.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, PartitionSpec

from benchmarks.claims import arms, digits
from benchmarks.claims.arms import Arm
from ftjax import coefficients, models, trees
from ftjax.coefficients import after
from ftjax.config import Config
from ftjax.durations import Clock
from ftjax.models import Model, ModelSpec
from ftjax.tasks import Classification
from ftjax.training.state import create_state
from ftjax.training.step import StepParts, make_step
from ftjax.trees import Tree

MODEL = ModelSpec("vit", {"patch": digits.PATCH, "width": 32, "depth": 4, "heads": 2, "mlp_ratio": 2.0}, digits.CLASSES, (digits.SIDE, digits.SIDE))


class Seeds(NamedTuple):
    """What a seed brings, stacked over seeds."""

    starts: dict[str, Tree]
    """theta0 by the name of `Arm.start`, leaves `[seeds ...]`."""
    images: np.ndarray
    """uint8 `[seeds rows 8 8]`."""
    labels: np.ndarray
    """int32 `[seeds rows]`."""
    orders: np.ndarray
    """Rows of each step's batch, int32 `[seeds 2 steps batch]`."""


class Trained(NamedTuple):
    """What comes back, leaves `[members ...]`; member = cell * seeds + seed."""

    params: Tree
    travel: Array
    """|theta - theta0| / |theta0| of all that has a pretrained value."""
    bad_steps: Array
    """Steps that were not applied because they were not finite."""


@dataclasses.dataclass(frozen=True)
class Grey:
    """The preprocessing of one grey channel: uint8 `[batch 8 8]` to three equal channels in -1..1."""

    def training_batch(self, batch: Mapping[str, Array], key: Array) -> Mapping[str, Array]:
        """The batch as it is."""
        return batch

    def training_inputs(self, batch: Mapping[str, Array], key: Array, dtype: Any = jnp.float32) -> Array:
        """No augmentation."""
        return self.evaluate(batch["image"]).astype(dtype)

    def evaluate(self, images: Array) -> Array:
        """`(x / 255 - 0.5) / 0.5`."""
        return jnp.broadcast_to((images[..., None] / 255 - 0.5) / 0.5, (*images.shape, 3))


@functools.cache
def model() -> Model:
    """The one architecture of all claims."""
    return models.build(MODEL)


class Population:
    """Trains and evaluates populations; `traces` counts how often each program was traced."""

    def __init__(self, steps: int, *, config: Config | None = None, network: Model | None = None) -> None:
        self.model = network or model()
        config = config or arms.law(self.model.groups)
        shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(jax.eval_shape(self.model.init, jax.random.key(0))[0]).items()}
        clock = Clock(batch_size=1, examples_per_epoch=steps, total_steps=steps)
        self.steps, self.traces = steps, {"train": 0, "evaluate": 0}
        self.table = coefficients.build_table(config, shapes, self.model.groups, self.model.group_of, clock)
        self.pretrained = frozenset(row.path for row in self.table.rows if not row.new)
        self.optimizer = coefficients.chain(self.table, config, clock)
        self.step = make_step(StepParts(model=self.model, task=Classification(tuple("0123456789")), preprocessing=Grey(), optimizer=self.optimizer))
        self._train, self._evaluate = jax.jit(self._train_all), jax.jit(self._evaluate_all)

    def train(self, cells: Sequence[tuple[Arm, float]], seeds: Seeds) -> Trained:
        """Train every cell (arm, learning rate) for every seed."""
        stacked = jax.tree.map(lambda *values: jnp.stack(values), *[arms.hyper(arm, rate, self.model.groups) for arm, rate in cells])
        facts = [(round(arm.rest * self.steps), list(seeds.starts).index(arm.start), arm.order) for arm, _ in cells]
        starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds.starts.values())
        return self._train(stacked, jnp.array(facts, jnp.int32), seeds._replace(starts=starts))

    def evaluate(self, params: Tree, starts: Tree, alpha: float, known: digits.Digits) -> np.ndarray:
        """Accuracy in percent of theta0 + alpha * x, `[cells seeds]`, on each seed's own `known` (leaves `[seeds rows ...]`)."""
        scores = self._evaluate(params, starts, jnp.array(alpha, float), known)
        return np.asarray(scores).reshape(-1, known.labels.shape[0])

    def _train_all(self, hyper: coefficients.Hyper, facts: Array, seeds: Seeds) -> Trained:
        self.traces["train"] += 1
        count = seeds.labels.shape[0]

        def member(index: Array) -> Trained:
            cell, seed = index // count, index % count
            rest, start, order = facts[cell]
            own = jax.tree.map(lambda leaf: leaf[cell], hyper)
            theta0 = jax.tree.map(lambda leaf: leaf[start, seed], seeds.starts)
            return self._train_one(own, rest, theta0, (seeds.images[seed], seeds.labels[seed]), seeds.orders[seed, order])

        return over_members(member, facts.shape[0] * count)

    def _train_one(self, hyper: coefficients.Hyper, rest: Array, theta0: Tree, data: tuple[Array, Array], order: Array) -> Trained:
        images, labels = data

        def advance(carry: Tree, rows: Array) -> tuple[Tree, None]:
            state, bad = carry
            # LP-FT's clock: c of the body is 0 until `rest`, and the head's is its own.
            awake = (state.step >= rest).astype(float)
            now = hyper | {"coefficient": (*(awake * c for c in hyper["coefficient"][:-1]), hyper["coefficient"][-1])}
            batch = {"image": images[rows], "label": labels[rows], "weight": jnp.ones(rows.shape, float), "id": rows}
            state, metrics = self.step(state, batch, now)
            return (state, bad + (1 - metrics["finite"])), None

        state = create_state(theta0, {}, self.table.live_paths, self.optimizer)
        (state, bad), _ = jax.lax.scan(advance, (state, jnp.zeros((), jnp.int32)), order)
        return Trained(state.params, after.distance(theta0, state.params, self.pretrained), bad)

    def _evaluate_all(self, params: Tree, starts: Tree, alpha: Array, known: digits.Digits) -> Array:
        self.traces["evaluate"] += 1
        count = known.labels.shape[0]
        everything = frozenset(trees.flatten(params))

        def member(index: Array) -> Array:
            theta0, theta = (jax.tree.map(lambda leaf, at=at: leaf[at], tree) for tree, at in ((starts, index % count), (params, index)))
            now = after.wise_ft(theta0, theta, alpha, everything)
            logits, _ = self.model.apply(now, {}, Grey().evaluate(known.images[index % count]))
            return 100 * jnp.mean(jnp.argmax(logits, axis=1) == known.labels[index % count])

        return over_members(member, jax.tree.leaves(params)[0].shape[0])


def over_members(function: Any, members: int) -> Any:
    """`function(index)` for every member: spread over the cores, one after the other on each."""
    cores = min(len(jax.devices()), os.cpu_count() or 1)
    devices = max(parts for parts in range(1, cores + 1) if members % parts == 0)
    mesh = jax.make_mesh((devices,), ("members",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    spread = jax.shard_map(
        lambda indices: jax.lax.map(function, indices),
        mesh=mesh,
        in_specs=PartitionSpec("members"),
        out_specs=PartitionSpec("members"),
        check_vma=False,
    )
    return spread(jnp.arange(members))


def orders(seeds: int, rows: int, steps: int, batch: int) -> np.ndarray:
    """Two orders of the data for every seed, int32 `[seeds 2 steps batch]`: one permutation of the rows after another, cut into batches."""
    epochs = -(-steps * batch // rows)

    def one(seed: int, which: int) -> np.ndarray:
        generator = np.random.default_rng([seed, 4, which])
        return np.concatenate([generator.permutation(rows) for _ in range(epochs)])[: steps * batch].reshape(steps, batch)

    return np.stack([np.stack([one(seed, which) for which in range(2)]) for seed in range(seeds)]).astype(np.int32)


def initial(seeds: int, salt: int, network: Model | None = None) -> Tree:
    """Random parameters, leaves `[seeds ...]`."""
    keys = jax.random.split(jax.random.key(salt), seeds)
    return jax.vmap(lambda key: (network or model()).init(key)[0])(keys)
