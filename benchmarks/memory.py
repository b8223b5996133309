"""Temporary memory and work of a gradient under each `model.remat`, as XLA counts them; nothing is run.

python -m benchmarks.memory
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ftjax import models
from ftjax.models import ModelSpec

VIT = ModelSpec("vit", {"patch": 16, "width": 192, "depth": 12, "heads": 3, "mlp_ratio": 4.0}, 10, (96, 96))
DECODER = ModelSpec("decoder", {"vocabulary": 512, "positions": 512, "width": 256, "depth": 6, "heads": 8, "kv_heads": 4, "hidden": 688}, 512)
TOKENS = jax.ShapeDtypeStruct((8, 256), jnp.int32)
INPUTS = {"vit": jax.ShapeDtypeStruct((32, 96, 96, 3), jnp.float32), "decoder": {"tokens": TOKENS, "document": TOKENS}}


def measured(spec: ModelSpec, remat: str) -> tuple[float, float]:
    """Temporary megabytes and GFLOP of the gradient of all parameters; the head's logits are left out of a decoder."""
    model = models.build(spec, remat=remat)  # type: ignore[arg-type]

    def loss(params: dict[str, Array], inputs: Array) -> Array:
        return jnp.square(model.body(params, {}, inputs, train=True)[0]).mean()

    params = jax.eval_shape(model.init, jax.random.key(0))[0]
    program = jax.jit(jax.grad(loss)).lower(params, INPUTS[spec.family]).compile()
    memory: Any = program.memory_analysis()
    cost = program.cost_analysis() or {}
    return memory.temp_size_in_bytes / 1e6, float(cost["flops"]) / 1e9


def main() -> None:
    """Print a row for each model and policy."""
    for spec in (VIT, DECODER):
        for remat in ("none", "dots", "blocks"):
            print("{} {}: {:.0f} MB temporary, {:.1f} GFLOP".format(spec.family, remat, *measured(spec, remat)))


if __name__ == "__main__":
    main()
