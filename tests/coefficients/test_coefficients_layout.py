"""Live and still: a lossless split, also inside leaves that are pytrees, that XLA turns into saved work."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax import trees
from ftjax.coefficients.layout import combine, partition
from ftjax.errors import ConfigError


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class LowRank:
    """A weight w + a b, as an adapter would bring it."""

    w: jax.Array
    a: jax.Array
    b: jax.Array
    bias: jax.Array | None = None


nested = st.recursive(st.integers(), lambda children: st.dictionaries(st.sampled_from("abcdef"), children, min_size=1, max_size=4), max_leaves=12)


@settings(deadline=None, max_examples=50)
@given(nested.filter(lambda tree: isinstance(tree, dict)), st.randoms(use_true_random=False))
def test_partition_and_combine_are_inverse(tree: dict, random: object) -> None:
    paths = list(trees.flatten(tree))
    chosen = {path for path in paths if random.random() < 0.5}
    live, still = partition(tree, chosen)
    assert set(trees.flatten(live)) == chosen
    assert set(trees.flatten(still)) == set(paths) - chosen
    assert combine(live, still) == tree
    assert combine(still, live) == tree


def test_a_leaf_that_is_a_pytree_is_split_inside() -> None:
    tree = {"body": {"kernel": LowRank(w=jnp.ones((2, 2)), a=jnp.ones((2, 1)), b=jnp.zeros((1, 2)))}, "head": jnp.ones(2)}
    live, still = partition(tree, {"body/kernel/a", "body/kernel/b"})
    assert list(trees.flatten(live)) == ["body/kernel/a", "body/kernel/b"]
    assert live["body"]["kernel"].w is None
    assert still["body"]["kernel"].w is tree["body"]["kernel"].w
    whole = combine(live, still)
    assert isinstance(whole["body"]["kernel"], LowRank)
    assert jax.tree.structure(whole) == jax.tree.structure(tree)


def test_gradients_exist_for_live_arrays_only() -> None:
    tree = {"kernel": LowRank(w=jnp.ones((2, 2)), a=jnp.ones((2, 1)), b=jnp.ones((1, 2)))}
    live, still = partition(tree, {"kernel/a", "kernel/b"})

    def loss(live: dict, still: dict) -> jax.Array:
        kernel = combine(live, still)["kernel"]
        return jnp.sum((kernel.w + kernel.a @ kernel.b) ** 2)

    assert set(trees.flatten(jax.grad(loss)(live, still))) == {"kernel/a", "kernel/b"}


def test_an_unknown_live_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^live path 'haed' is not a parameter; did you mean 'head'\? allowed: 'body', 'head'$"):
        partition({"body": 1, "head": 2}, ["haed"])


def transformer(params: dict, x: jax.Array) -> jax.Array:
    """Six pre-norm-less blocks of single-head attention and an MLP: enough to count work."""
    for block in params["blocks"].values():
        query, key, value = (x @ block[name] for name in ("query", "key", "value"))
        x = x + jax.nn.softmax(query @ key.swapaxes(1, 2)) @ value @ block["out"]
        x = x + jax.nn.gelu(x @ block["up"]) @ block["down"]
    return x.mean(axis=1) @ params["head"]


def test_head_only_costs_at_most_0_4_of_full_by_xla_s_own_count() -> None:
    width = 32
    shapes = dict.fromkeys(("query", "key", "value", "out"), (width, width)) | {"up": (width, 4 * width), "down": (4 * width, width)}
    params = {"blocks": {f"block_{i}": {name: jnp.zeros(shape) for name, shape in shapes.items()} for i in range(6)}, "head": jnp.zeros((width, 10))}
    x = jnp.zeros((4, 16, width))

    def flops(live_paths: list[str]) -> float:
        def loss(live: dict, still: dict) -> jax.Array:
            return jnp.square(transformer(combine(live, still), x)).sum()

        def step(live: dict, still: dict) -> tuple:
            value, grads = jax.value_and_grad(loss)(live, still)
            return value, grads, sum(jnp.vdot(grad, grad) for grad in jax.tree.leaves(grads))

        return jax.jit(step).lower(*partition(params, live_paths)).compile().cost_analysis()["flops"]

    full, head = flops(list(trees.flatten(params))), flops(["head"])
    assert np.isfinite(full)
    assert head <= 0.4 * full
