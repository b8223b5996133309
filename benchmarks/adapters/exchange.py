"""What peft's process needs to repeat a cell of ftjax: base weights, adapters and heads before step 0, batches, held-out inputs, rates and schedule.

All of it comes from the compiled cell's own plan, so that both libraries see the same numbers; only dropout draws differently.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.adapters.arms import FACTORS, kind_of
from benchmarks.adapters.cell import Cell
from benchmarks.text.settings import minilm
from ftjax import files, trees, weights
from ftjax.training import peft
from ftjax.training.state import TrainState

WORKER = Path(__file__).with_name("peft_worker.py")
HEAD = ("head/kernel", "head/bias")


def compare(cell: Cell, data_set: str, seeds: Sequence[int], folder: Path, python: str) -> dict[str, Any]:
    """The cell by peft, in the shape of `cell.measure`."""
    write(cell, data_set, seeds, folder)
    # The other interpreter must not see this one's packages.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, str(WORKER), str(folder)], check=True, env=environment)
    return files.read_json(folder / "found.json") | {"recipe_rate": cell.rate, "parameters": cell.counts()}


def write(cell: Cell, data_set: str, seeds: Sequence[int], folder: Path) -> None:
    """The folder that the worker reads."""
    folder.mkdir(parents=True, exist_ok=True)
    plan, kind = cell.plan, kind_of(data_set)
    base = minilm() if kind == "text" else folder / "base"
    for seed in seeds:
        state = cell.start(seed)
        if kind == "photos" and seed == seeds[0]:
            weights.save_hugging_face(base, trees.flatten(plan.plain(state.params)), held(cell))
        write_adapter(cell, state, folder / f"adapter_{seed}", base)
        _save(folder / f"batches_{seed}.npz", _stacked([_training_inputs(cell, step, seed) for step in range(plan.steps)]))
    for split in ("validation", "test"):
        batches = [
            {"label": batch["label"], "weight": batch["weight"], **inputs(plan.preprocessing.inputs(plan.put(batch)))} for batch in plan.eval_batches(split)
        ]
        whole = {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}
        _save(folder / f"{split}.npz", {name: value[whole["weight"] > 0] for name, value in whole.items()})
    optimizer = plan.config.optimizer
    files.write_json(
        folder / "job.json",
        {
            "kind": kind,
            "base": str(base),
            "classes": len(plan.dataset.classes),
            "seeds": list(seeds),
            "factors": list(FACTORS),
            "rates": [plan.learning_rate(step) for step in range(plan.steps)],
            "weight_decay": float(plan.hyper["weight_decay"]),
            "betas": [optimizer.beta1, optimizer.beta2],
            "epsilon": optimizer.epsilon,
            "clip_norm": optimizer.clip_norm,
            "dropout": plan.config.model.dropout,
        },
    )


def write_adapter(cell: Cell, state: TrainState, folder: Path, base: Path) -> None:
    """The adapters and the head of a state as peft loads them."""
    merged = trees.flatten(cell.plan.plain(state.params))
    shapes = {path: tuple(leaf.shape) for path, leaf in merged.items()}
    weights.write_peft(folder, peft.taken_off(state.params, HEAD), held(cell), shapes, base_name=str(base))


def held(cell: Cell) -> weights.Recognised:
    """What the model of a cell is, for files."""
    spec, read = cell.plan.model.spec, cell.plan.selection.input
    input_spec = None if read is None else read.to_json()
    return weights.Recognised(spec.family, dict(spec.options), spec.num_classes, spec.image_size, "ftjax", input_spec, classes=tuple(cell.plan.dataset.classes))


def _training_inputs(cell: Cell, step: int, seed: int) -> dict[str, np.ndarray]:
    """What the model reads at a step, augmented as the step does it."""
    key = jax.random.split(jax.random.fold_in(jax.random.key(np.uint32(seed)), step))[0]
    batch = cell.plan.put(cell.batch(step, seed))
    read = cell.plan.preprocessing.training_inputs(cell.plan.preprocessing.training_batch(batch, key), key, jnp.float32)
    return {"label": np.asarray(batch["label"]), **inputs(read)}


def inputs(read: Any) -> dict[str, np.ndarray]:
    """By the names of transformers; pictures with channels first."""
    if not isinstance(read, dict):
        return {"pixel_values": np.asarray(read, np.float32).transpose(0, 3, 1, 2)}
    names = {"input_ids": "tokens", "attention_mask": "mask", "token_type_ids": "segments"}
    return {name: np.asarray(read[ours], np.int64) for name, ours in names.items()}


def _save(path: Path, arrays: Any) -> None:
    np.savez(path, **arrays)


def _stacked(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
