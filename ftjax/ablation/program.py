"""The compiled step of a population: the plan's own pure step, mapped over members, spread over devices, repeated over a chunk of steps.

    advance(own, seen, shared, hyper, pool, rows, count) -> (own, seen)      own and seen are donated

`own` and `hyper` have a leading axis of members; `shared` (the frozen base) and `pool` (the examples) have none and are on every device once. On a device
members are taken `together` at a time: a `vmap` over those, one such group after the other. Nothing passes between devices.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from ftjax import coefficients
from ftjax.ablation.batches import Chunk, Pool
from ftjax.ablation.starts import Stacked
from ftjax.coefficients import combine
from ftjax.training.state import TrainState
from ftjax.training.step import Metrics, Step
from ftjax.trees import Tree

MEMBERS = "members"
"""The axis of the mesh that members are spread along."""

Seen = dict[str, Array]
"""What is remembered of the steps since it was last looked at, `[members]` each: `loss` (sum over good steps), `good` and `skipped` (their numbers), and
`failed_at`, the step after which so many in a row had been skipped that a run of its own would have stopped; -1: none."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """Members on devices."""

    devices: tuple[jax.Device, ...]

    @functools.cached_property
    def mesh(self) -> Mesh:
        """One axis."""
        return jax.make_mesh((len(self.devices),), (MEMBERS,), axis_types=(AxisType.Auto,), devices=list(self.devices))

    @property
    def by_member(self) -> NamedSharding:
        """A leading axis of members, cut over the devices."""
        return NamedSharding(self.mesh, PartitionSpec(MEMBERS))

    @property
    def everywhere(self) -> NamedSharding:
        """The whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def whole(self, members: int) -> int:
        """`members`, rounded up so that every device has as many."""
        return -(-members // len(self.devices)) * len(self.devices)

    def place(self, stacked: Stacked) -> Stacked:
        """Own leaves spread, shared ones everywhere."""
        return Stacked(jax.device_put(stacked.own, self.by_member), jax.device_put(stacked.shared, self.everywhere))


def stack_hyper(hypers: list[coefficients.Hyper]) -> coefficients.Hyper:
    """Hyperparameters `[members]`."""
    return jax.tree.map(lambda *values: jnp.stack(values), *hypers)


def unseen(members: int) -> Seen:
    """Before anything is seen."""
    zeros = np.zeros(members, np.float32)
    return {"loss": jnp.array(zeros), "good": jnp.array(zeros), "skipped": jnp.array(zeros), "failed_at": jnp.full(members, -1, jnp.int32)}


class Program:
    """The steps of one stage for populations of one size; compiled once for each shape of its batches.

    Args:
      step: the stage's pure step.
      spread: the devices.
      together: members in one `vmap` on a device; the others wait. None: all of them.
      max_bad_steps: after so many skipped steps in a row a member has failed.
    """

    def __init__(self, step: Step, spread: Spread, *, together: int | None, max_bad_steps: int) -> None:
        self.step, self.spread, self.together, self.max_bad_steps = step, spread, together, max_bad_steps
        self.programs: dict[Any, jax.stages.Compiled] = {}
        self.compile_seconds = 0.0

    def advance(self, stacked: Stacked, seen: Seen, hyper: coefficients.Hyper, pool: Pool, chunk: Chunk, most: int) -> tuple[Stacked, Seen]:
        """The steps of a chunk; `stacked.own` and `seen` are used up."""
        count = len(chunk.rows)
        rows = np.concatenate([chunk.rows, np.zeros((most - count, *chunk.rows.shape[1:]), np.int32)]).astype(np.int32)
        arguments = (stacked.own, seen, stacked.shared, hyper, pool, rows, np.int32(count))
        own, seen = self.prepared(arguments)(*arguments)
        return Stacked(own, stacked.shared), seen

    def prepared(self, arguments: tuple[Any, ...]) -> jax.stages.Compiled:
        """The program for arguments, concrete or abstract, of these shapes; it knows its memory and FLOPs."""
        pool, rows = arguments[4:6]
        shapes = (*((name, np.shape(value)) for name, value in sorted(pool.items())), rows.shape)
        if shapes not in self.programs:
            began = time.perf_counter()
            self.programs[shapes] = self._compile(*arguments)
            self.compile_seconds += time.perf_counter() - began
        return self.programs[shapes]

    def _compile(self, own: Tree, seen: Seen, shared: Tree, hyper: Tree, pool: Pool, rows: Any, count: Any) -> jax.stages.Compiled:
        by_member, everywhere = self.spread.by_member, self.spread.everywhere
        step_rows = NamedSharding(self.spread.mesh, self._rows(rows.ndim))
        inputs = (by_member, by_member, everywhere, by_member, everywhere, step_rows, everywhere)
        jitted = jax.jit(self._spread(rows.ndim), donate_argnums=(0, 1), in_shardings=inputs, out_shardings=(by_member, by_member))
        return jitted.lower(own, seen, shared, hyper, pool, rows, count).compile()

    def _rows(self, dimensions: int) -> PartitionSpec:
        """Batches of one order go everywhere, `[steps members batch]` to their members."""
        return PartitionSpec() if dimensions == 2 else PartitionSpec(None, MEMBERS)

    def _spread(self, dimensions: int) -> Any:
        own, every = PartitionSpec(MEMBERS), PartitionSpec()
        specs = (own, own, every, own, every, self._rows(dimensions), every)
        return jax.shard_map(self._repeated, mesh=self.spread.mesh, in_specs=specs, out_specs=(own, own), check_vma=False)

    def _repeated(self, own: TrainState, seen: Seen, shared: TrainState, hyper: Tree, pool: Pool, rows: Array, count: Int[Array, ""]) -> tuple[Tree, Seen]:
        """Steps 0 to count - 1 of the chunk for the members of this device."""

        def one_step(index: Array, carry: tuple[Tree, Seen]) -> tuple[Tree, Seen]:
            own, seen = carry
            now = jax.lax.dynamic_index_in_dim(rows, index, keepdims=False)
            own, metrics = self._mapped(own, hyper, now, shared, pool)
            return own, self._looked(seen, metrics, own.step)

        return jax.lax.fori_loop(0, count, one_step, (own, seen))

    def _mapped(self, own: TrainState, hyper: Tree, rows: Array, shared: TrainState, pool: Pool) -> tuple[TrainState, Metrics]:
        """One step of every member; a batch that all see is gathered once."""

        def member(own: TrainState, hyper: Tree, batch: Mapping[str, Array]) -> tuple[TrainState, Metrics]:
            state, metrics = self.step(combine(own, shared), batch, hyper)
            kept = jax.tree.map(lambda leaf, mine: None if mine is None else leaf, state, own, is_leaf=lambda leaf: leaf is None)
            return kept, {name: metrics[name] for name in ("loss", "finite", "bad_steps")}

        def gathered(rows: Array) -> dict[str, Array]:
            return {name: jnp.take(values, rows, axis=0) for name, values in pool.items()}

        if rows.ndim == 1:
            batch = gathered(rows)
            return mapped(lambda own, hyper: member(own, hyper, batch), self.together, own, hyper)
        return mapped(lambda own, hyper, rows: member(own, hyper, gathered(rows)), self.together, own, hyper, rows)

    def _looked(self, seen: Seen, metrics: Metrics, step: Int[Array, " members"]) -> Seen:
        good = metrics["finite"].astype(jnp.float32)
        failed = (metrics["bad_steps"] >= self.max_bad_steps) & (seen["failed_at"] < 0)
        return {
            "loss": seen["loss"] + jnp.where(good > 0, metrics["loss"].astype(jnp.float32), 0.0),
            "good": seen["good"] + good,
            "skipped": seen["skipped"] + 1 - good,
            "failed_at": jnp.where(failed, step, seen["failed_at"]),
        }


def mapped(function: Any, together: int | None, *arguments: Tree) -> Any:
    """`function` over the leading axis of its arguments, so many at once."""
    count = jax.tree.leaves(arguments[0])[0].shape[0]
    if together is None or together >= count:
        return jax.vmap(function)(*arguments)
    return jax.lax.map(lambda given: function(*given), arguments, batch_size=together if together > 1 else None)


def bytes_of(program: jax.stages.Compiled) -> int | None:
    """Bytes on one device while the program runs, as XLA counts them; None: this backend does not say."""
    memory = program.memory_analysis()
    if memory is None:
        return None
    return int(memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes)


def flops_of(program: jax.stages.Compiled) -> Float[Any, ""] | None:
    """FLOPs of one step of all members of a device: XLA counts the body of a loop once."""
    return (program.cost_analysis() or {}).get("flops")
