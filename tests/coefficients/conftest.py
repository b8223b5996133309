"""A tiny model for the law: named like a real one, small enough to train in a test."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import trees
from ftjax.coefficients import Table, build_table, chain, default_hyper, partition
from ftjax.config import AnchorConfig, CoefficientConfig, Config, OptimizerConfig
from ftjax.durations import Clock

CLOCK = Clock(batch_size=8, examples_per_epoch=80, total_steps=20)
GROUPS = ("stem", "block_0", "block_1", "norm", "head")


def group_of(path: str) -> str:
    return path.split("/")[1] if path.startswith("encoder/") else path.split("/")[0]


@dataclasses.dataclass(frozen=True)
class Law:
    """One configuration, resolved, with the loop that obeys it."""

    config: Config
    params: dict
    clock: Clock = CLOCK

    @property
    def table(self) -> Table:
        return build_table(self.config, {path: leaf.shape for path, leaf in trees.flatten(self.params).items()}, GROUPS, group_of, self.clock)

    def table_with(self, values: dict) -> Table:
        """The table with values that only Python can give."""
        shapes = {path: leaf.shape for path, leaf in trees.flatten(self.params).items()}
        return build_table(self.config, shapes, GROUPS, group_of, self.clock, values=values)

    @property
    def hyper(self) -> dict:
        return default_hyper(self.config)

    def link(self, table: Table | None = None, **options: Any) -> Any:
        return chain(table or self.table, self.config, self.clock, **options)

    def train(self, steps: int = 20, hyper: dict | None = None, anchored: bool = False, link: Any = None) -> dict:
        """Flat parameters after `steps` steps on the noisy gradient of |theta - 1|^2 / 2."""
        link = link or self.link()
        live, still = partition(self.params, self.table.live_paths)
        anchor = live if anchored else None
        hyper = self.hyper if hyper is None else hyper

        @jax.jit
        def run(live: dict, anchor: dict | None, hyper: dict, noise: dict) -> dict:
            def step(carry: tuple, numbered: tuple) -> tuple:
                (live, state), (index, noise) = carry, numbered
                gradients = trees.map_with_path(lambda path, theta: theta - 1 + noise[path].astype(theta.dtype), live)
                updates, state = link.update(gradients, state, live, step=index, hyper=hyper, anchor=anchor)
                return (jax.tree.map(jnp.add, live, updates), state), None

            return jax.lax.scan(step, (live, link.init(live)), (jnp.arange(steps), noise))[0][0]

        live = run(live, anchor, hyper, noise(self.params, steps))
        return trees.flatten(live) | trees.flatten(still)


def noise(params: dict, steps: int) -> dict:
    """Standard normal numbers for every parameter and step, the same for every table."""
    return {path: np.random.default_rng(len(path)).normal(size=(steps, *leaf.shape)) for path, leaf in trees.flatten(params).items()}


@pytest.fixture
def law() -> Callable[..., Law]:
    """`law(rules=..., learning_rate=..., anchor={...}, ...)`: fields of `coefficient` and `optimizer` by name; every pretrained leaf can be pulled."""

    def make(*, dtype: Any = jnp.float32, clock: Clock = CLOCK, anchor: dict | None = None, **fields: Any) -> Law:
        coefficient = {field.name: fields.pop(field.name) for field in dataclasses.fields(CoefficientConfig) if field.name in fields}
        optimizer = {"learning_rate": 0.01, "weight_decay": 0.1, "schedule": "constant", "warmup": "0 steps"} | fields
        anchors = AnchorConfig(**({"pull": 0.0, "rules": ((".*", 1.0),)} if anchor is None else anchor))
        return Law(Config(coefficient=CoefficientConfig(**coefficient), optimizer=OptimizerConfig(**optimizer), anchor=anchors), parameters(dtype), clock)

    return make


def parameters(dtype: Any) -> dict:
    shapes = {"stem/patch/kernel": (2, 3), "stem/position": (1, 4, 3)}
    for block in range(2):
        shapes |= {f"encoder/block_{block}/mlp/up/kernel": (3, 3), f"encoder/block_{block}/mlp/up/bias": (3,)}
    shapes |= {"norm/scale": (3,), "head/kernel": (3, 2), "head/bias": (2,)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return trees.unflatten({path: jax.random.normal(key, shape, dtype) for key, (path, shape) in zip(keys, shapes.items())})
