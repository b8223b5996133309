"""Speed of a MiniLM-like training step in plain float32, plain bfloat16 and ftjax's bfloat16, interleaved with torch's float32.

The shape is that of all-MiniLM-L6: 6 post-norm layers, 384 wide, 12 heads, MLP 1536, batch 32 of 128 tokens; forward, backward and an SGD update.
Every round runs each contender once, and the figure is the median over rounds of torch's time divided by the contender's: above 1 is faster than
torch. Interleaving keeps other work on the machine out of the ratios. Run it as

    python benchmarks/precision.py --rounds 15
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ftjax.models import layers, pointwise, products

LAYERS, WIDTH, HEADS, HIDDEN, BATCH, LENGTH = 6, 384, 12, 1536, 32, 128
RATE = 1e-3
NORMS, MATRICES = ("norm1", "norm2"), {"query": WIDTH, "key": WIDTH, "value": WIDTH, "out": WIDTH, "up": HIDDEN, "down": WIDTH}

Params = list[dict[str, dict[str, Any]]]


def initial(generator: np.random.Generator) -> Params:
    """Parameters as NumPy arrays, shared by all contenders."""

    def layer() -> dict[str, dict[str, np.ndarray]]:
        dense = {
            name: {
                "kernel": generator.normal(0, 0.02, (HIDDEN if name == "down" else WIDTH, features)).astype(np.float32),
                "bias": np.zeros(features, np.float32),
            }
            for name, features in MATRICES.items()
        }
        return dense | {name: {"scale": np.ones(WIDTH, np.float32), "bias": np.zeros(WIDTH, np.float32)} for name in NORMS}

    return [layer() for _ in range(LAYERS)]


class Operations:
    """One way to compute each operation; subclasses replace what they do differently."""

    def __init__(self, precision: layers.Precision) -> None:
        self.matmul: Callable[..., Array] = functools.partial(layers.matmul, precision=precision)
        self.layer_norm: Callable[..., Array] = functools.partial(layers.layer_norm, epsilon=1e-12, precision=precision)
        self.gelu: Callable[..., Array] = functools.partial(layers.gelu, precision=precision)
        self.attention: Callable[..., Array] = functools.partial(layers.attention, precision=precision)


def plain_bfloat16(x: Array, w: Array) -> Array:
    """What `nn.Dense(dtype=bfloat16)` does: bfloat16 in, bfloat16 out, derivatives by autodiff."""
    return (x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(jnp.float32)


def plain_attention(query: Array, key: Array, value: Array) -> Array:
    """Attention in bfloat16 with the softmax in float32, derivatives by autodiff."""
    query, key, value = (products.narrow(x) for x in (query, key, value))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key).astype(jnp.float32) * query.shape[-1] ** -0.5
    return jnp.einsum("bhqk,bkhd->bqhd", products.narrow(jax.nn.softmax(scores)), value).astype(jnp.float32)


def contenders() -> dict[str, Operations]:
    """Every way to compute the step, by name."""
    plain16, float32, only_products, by_hand = Operations("float32"), Operations("float32"), Operations("float32"), Operations("float32")
    plain16.matmul, plain16.attention = plain_bfloat16, plain_attention
    only_products.matmul = functools.partial(layers.matmul, precision="bfloat16")
    by_hand.layer_norm, by_hand.gelu = functools.partial(pointwise.layer_norm_by_hand, epsilon=1e-12), pointwise.gelu_by_hand
    return {
        "float32 plain (ftjax float32)": float32,
        "float32, layer norm and GELU by hand": by_hand,
        "bfloat16 plain": plain16,
        "bfloat16 products only": only_products,
        "bfloat16 all (ftjax bfloat16)": Operations("bfloat16"),
    }


def forward(ops: Operations, params: Params, x: Array) -> Array:
    """Post-norm transformer encoder, as in BERT."""
    for layer in params:

        def dense(name: str, x: Array, layer: dict[str, Any] = layer) -> Array:
            return layers.add_bias(ops.matmul(x, layer[name]["kernel"]), layer[name]["bias"])

        def norm(name: str, x: Array, layer: dict[str, Any] = layer) -> Array:
            return ops.layer_norm(x, layer[name]["scale"], layer[name]["bias"])

        query, key, value = (dense(name, x).reshape(*x.shape[:2], HEADS, -1) for name in ("query", "key", "value"))
        x = norm("norm1", x + dense("out", ops.attention(query, key, value).reshape(x.shape)))
        x = norm("norm2", x + dense("down", ops.gelu(dense("up", x))))
    return x


def jax_step(ops: Operations, params: Params, x: np.ndarray, target: np.ndarray) -> Callable[[], float]:
    """A closure that runs one step and returns its loss."""

    def loss(params: Params, x: Array, target: Array) -> Array:
        return jnp.square(forward(ops, params, x).mean(1) - target).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def step(params: Params, x: Array, target: Array) -> tuple[Params, Array]:
        value, gradients = jax.value_and_grad(loss)(params, x, target)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradients), value

    state = [jax.tree.map(jnp.array, params), jnp.asarray(x), jnp.asarray(target)]

    def run() -> float:
        state[0], value = step(*state)
        jax.block_until_ready(state[0])
        return float(value)

    return run


def torch_step(params: Params, x: np.ndarray, target: np.ndarray, autocast: bool) -> Callable[[], float]:
    """The same step in torch, with its fused attention; `autocast` is its bfloat16."""
    import torch
    from torch.nn import functional as F

    state = jax.tree.map(lambda a: torch.tensor(a, requires_grad=True), params)
    optimizer = torch.optim.SGD(jax.tree.leaves(state), lr=RATE)
    inputs, wanted = torch.tensor(x), torch.tensor(target)

    def forward(x: Any) -> Any:
        for layer in state:

            def dense(name: str, x: Any, layer: dict[str, Any] = layer) -> Any:
                rows = torch.addmm(layer[name]["bias"], x.reshape(-1, x.shape[-1]), layer[name]["kernel"])
                return rows.reshape(*x.shape[:-1], -1)

            query, key, value = (dense(name, x).reshape(BATCH, LENGTH, HEADS, -1).transpose(1, 2) for name in ("query", "key", "value"))
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(x.shape)
            x = F.layer_norm(x + dense("out", mixed), (WIDTH,), layer["norm1"]["scale"], layer["norm1"]["bias"], 1e-12)
            x = F.layer_norm(x + dense("down", F.gelu(dense("up", x))), (WIDTH,), layer["norm2"]["scale"], layer["norm2"]["bias"], 1e-12)
        return x

    def run() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = torch.square(forward(inputs).float().mean(1) - wanted).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def measure(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run in every round, after two rounds to compile and warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if index > 1:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    generator = np.random.default_rng(0)
    params = initial(generator)
    x = generator.normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32)
    target = generator.normal(size=(BATCH, WIDTH)).astype(np.float32)
    runs = {name: jax_step(ops, params, x, target) for name, ops in contenders().items()}
    base = next(iter(runs))
    try:
        runs |= {f"torch {name}": torch_step(params, x, target, name != "float32") for name in ("float32", "bfloat16 autocast")}
        base = "torch float32"
    except ImportError:
        print(f"torch is not installed; ratios are against {base!r}")
    losses = {name: run() for name, run in runs.items()}
    seconds = measure(runs, rounds)
    print(f"{'contender':40} {'median ms':>10} {'min ms':>8} {'x ' + base:>30} {'first loss':>11}")
    for name, times in seconds.items():
        ratio = statistics.median(b / t for b, t in zip(seconds[base], times))
        print(f"{name:40} {1000 * statistics.median(times):10.0f} {1000 * min(times):8.0f} {ratio:30.2f} {losses[name]:11.6f}")


if __name__ == "__main__":
    main()
