"""What training carries from step to step, as one pytree.

`live` and `still` are the parameters with holes (None) where the other one has the array: gradients, moments, norms and logs can only see `live`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ftjax.coefficients import combine, partition
from ftjax.coefficients.after import start_average
from ftjax.training.dynamics import start_dynamics
from ftjax.trees import Tree


class TrainState(NamedTuple):
    """The whole state of a run; the data position is `step` itself, all randomness is `fold_in(key, step)`."""

    step: Int[Array, ""]
    live: Tree
    still: Tree
    opt_state: Tree
    extra: dict[str, Any]
    """`batch_stats`: batch norm's running statistics; `anchor`: theta0 of every leaf that has trained so far; `bad_steps`: non-finite steps in a row;
    `averages`: `{"ema": ..., "swa": ...}`, those asked for, with the anchor's holes; `dynamics`, where it is asked for: see `dynamics.Dynamics`."""

    @property
    def params(self) -> Tree:
        """The full parameters, live and still together."""
        return combine(self.live, self.still)

    @property
    def moved(self) -> Tree:
        """The parameters that have trained so far, with the anchor's holes."""
        return jax.tree.map(lambda start, now: None if start is None else now, self.extra["anchor"], self.params, is_leaf=lambda leaf: leaf is None)

    @property
    def theta0(self) -> Tree:
        """The full parameters as they were before step 0; with `params`, the displacement x of the law."""
        return jax.tree.map(lambda start, now: now if start is None else start, self.extra["anchor"], self.params, is_leaf=lambda leaf: leaf is None)


def create_state(
    params: Tree, extra: dict[str, Any], live_paths: frozenset[str], optimizer: Any, averages: tuple[str, ...] = (), *, followed: int = 0
) -> TrainState:
    """The state before step 0.

    Args:
      params: nested dict of arrays, pretrained where a file gave them.
      extra: the model's other variables, `{"batch_stats": ...}` or `{}`.
      live_paths: paths of the arrays that train.
      optimizer: optax transformation over the live tree.
      averages: which averages of the weights are followed.
      followed: rows of the training split, where each one's dynamics are followed; 0: they are not.
    """
    live, still = partition(params, live_paths)
    # Copies: the step donates `live`, and a buffer cannot be donated and kept.
    anchor = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), live)
    counters = {"bad_steps": jnp.zeros((), jnp.int32), "averages": {name: start_average(live) for name in averages}}
    kept = {"batch_stats": extra.get("batch_stats", {}), "anchor": anchor} | counters
    kept |= {"dynamics": start_dynamics(followed)} if followed else {}
    return TrainState(jnp.zeros((), jnp.int32), live, still, optimizer.init(live), kept)
