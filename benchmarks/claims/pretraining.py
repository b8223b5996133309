"""Each seed's own pretrained model: MNIST under six made shifts, trained as one population and kept on disk.

The file's name is a hash of all that it depends on, so a stale one is never read.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims import arms, digits, population
from ftjax import models, trees
from ftjax.trees import Tree

STEPS, BATCH, RATE = 3000, 64, 3e-3


class Pretrained(NamedTuple):
    """What every claim starts from."""

    params: Tree
    """theta0 of every seed, leaves `[seeds ...]`."""
    scores: np.ndarray
    """Accuracy in percent on held-out MNIST under each known shift, `[shifts seeds]`."""
    seconds: float
    """What it took when it was trained."""


def pretrained(seeds: int, cache: Path) -> Pretrained:
    """The seeds' models, from disk where they were trained before."""
    path = cache / f"pretrained-{seeds}-{_key()}.npz"
    if not path.exists():
        began = time.perf_counter()
        params, scores = _train(seeds)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"params/{name}": np.asarray(leaf) for name, leaf in trees.flatten(params).items()}
        with path.with_suffix(".part").open("wb") as file:
            np.savez(file, **arrays, scores=scores, seconds=time.perf_counter() - began)
        path.with_suffix(".part").replace(path)
    with np.load(path) as stored:
        flat = {name.removeprefix("params/"): jnp.asarray(stored[name]) for name in stored.files if name.startswith("params/")}
        return Pretrained(trees.unflatten(flat), stored["scores"], float(stored["seconds"]))


def _train(seeds: int) -> tuple[Tree, np.ndarray]:
    known = [[digits.shifted(digits.divide(seed).pretraining, shift) for shift in digits.KNOWN] for seed in range(seeds)]
    images, labels = (np.stack([np.concatenate([part[field] for part in parts]) for parts in known]) for field in (0, 1))
    people = population.Population(STEPS)
    data = population.Seeds({"scratch": population.initial(seeds, salt=0)}, images, labels, population.orders(seeds, images.shape[1], STEPS, BATCH))
    params = people.train([(arms.SCRATCH, RATE)], data).params
    tests = [[digits.shifted(digits.divide(seed).mnist["test"], shift) for seed in range(seeds)] for shift in digits.KNOWN]
    scores = [people.evaluate(params, params, 1.0, jax.tree.map(lambda *rows: np.stack(rows), *parts))[0] for parts in tests]
    return params, np.stack(scores)


def _key() -> str:
    """Of the data, the settings, the code and JAX."""
    folder = Path(inspect.getfile(models)).parent
    code = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    code += [Path(inspect.getfile(module)).read_bytes() for module in (arms, digits, population)] + [Path(__file__).read_bytes()]
    facts = (digits.fingerprint(), jax.__version__, STEPS, BATCH, RATE, population.MODEL)
    return hashlib.sha256(repr(facts).encode() + b"".join(code)).hexdigest()[:16]
