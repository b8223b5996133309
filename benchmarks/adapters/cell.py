"""One method on one set: the step is compiled once, and the learning rate, the seed and the state go through it as values.

Every trial of the rate is a run of seed 0, and the best on validation is kept; further seeds repeat that rate. Test examples are looked at once for each seed.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.adapters.arms import FACTORS, STEPS, Arm, configuration
from ftjax import configuration as configurations
from ftjax import data
from ftjax.data import Dataset
from ftjax.training.prepare import prepare
from ftjax.training.stage import Feed, compiler
from ftjax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Tested:
    """One seed at the rate that was chosen."""

    accuracy: float
    correct: str
    """A digit for each test example in order, 1 where the answer is right."""
    travel: float
    """Mean over the groups of the body of |theta - theta0| / |theta0|."""


class Cell:
    """A method on a set, compiled for the batches of that set, or with `compiled=False` for none yet."""

    def __init__(self, data_set: str, arm: Arm, folder: Path, dataset: Dataset | None, *, compiled: bool = True, **settings: Any) -> None:
        self._configured = lambda seed: configurations.resolve(None, {}, configuration(data_set, arm, seed, folder, **settings))
        self.plan, self._start = prepare(self._configured(0), dataset=dataset)
        began = time.perf_counter()
        self.feed = self.plan.feed(self.plan.stages[0], self._start) if compiled else self._feed()
        self.compile_seconds = time.perf_counter() - began
        self.rate = float(self.plan.hyper["learning_rate"])

    def _feed(self) -> Feed:
        """What compiles a step when it meets a batch of a new shape."""
        plan, stage = self.plan, self.plan.stages[0]
        return Feed(plan.dataset.splits["train"], {}, compiler(stage.parts, stage.abstract, plan.hyper, plan.mesh), plan.hyper)

    def start(self, seed: int) -> TrainState:
        """The state of a seed before step 0: its own head and adapters."""
        state = self._start if seed == 0 else prepare(self._configured(seed), dataset=self.plan.dataset)[1]
        return self.plan.copy(state)

    def batch(self, step: int, seed: int) -> Any:
        """What `ftjax.finetune` with this seed sees at a step, on the host."""
        return data.batch_at(self.feed.split, step, self.plan.batch_size, seed, None)

    def train(self, rate: float, seed: int) -> TrainState:
        """The state after the last step; steps that were not finite were not applied."""
        new = {"learning_rate": rate, "seed": seed}
        hyper = self.plan.hyper | {
            name: jax.device_put(jnp.asarray(value, self.plan.hyper[name].dtype), self.plan.hyper[name].sharding) for name, value in new.items()
        }
        feed, state = dataclasses.replace(self.feed, hyper=hyper), self.start(seed)
        for step in range(self.plan.steps):
            state, _ = feed.advance(state, self.plan.put(self.batch(step, seed)))
        return jax.block_until_ready(state)

    def accuracy(self, state: TrainState, split: str) -> np.ndarray:
        """Whether each example of a split is answered right, bool `[rows]`."""
        return self.plan.evaluate(state.params, state.extra["batch_stats"], split).correct

    def test(self, state: TrainState) -> Tested:
        """What a seed's last weights say of the test examples, and how far they went."""
        correct = self.accuracy(state, "test")
        groups = jax.device_get(self.plan.travel(state, state.live))
        body = [float(values["travel"]) for group, values in groups.items() if group != "head"]
        return Tested(float(correct.mean()), "".join("1" if right else "0" for right in correct), statistics.fmean(body) if body else 0.0)

    def memory(self) -> dict[str, int]:
        """Bytes that XLA plans for a step: what goes in (parameters, moments, batch) and what it needs besides."""
        found: Any = next(iter(self.feed.programs.values())).memory_analysis()
        return {"arguments": int(found.argument_size_in_bytes), "temporaries": int(found.temp_size_in_bytes)}

    def counts(self) -> dict[str, int]:
        """Parameters that train, those of the body among them, and all."""
        rows = self.plan.table.rows
        live = [row for row in rows if row.live]
        size = lambda some: sum(int(np.prod(row.shape)) for row in some)  # noqa: E731
        return {"live": size(live), "body": size(row for row in live if row.group != "head"), "total": size(rows)}


def measure(cell: Cell, seeds: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """The whole cell as a value for JSON."""
    kept, trials = None, {}
    for factor in FACTORS:
        state = cell.train(cell.rate * factor, 0)
        trials[factor] = float(cell.accuracy(state, "validation").mean())
        if kept is None or trials[factor] > trials[kept[0]]:
            kept = (factor, state)
        say(f"  rate {cell.rate * factor:.3g}: validation {trials[factor]:.3f}")
    assert kept is not None
    factor, state = kept
    tested = [cell.test(state if seed == 0 else cell.train(cell.rate * factor, seed)) for seed in seeds]
    say(f"  chosen {cell.rate * factor:.3g}: test {[round(one.accuracy, 3) for one in tested]}")
    return {
        "recipe_rate": cell.rate,
        "trials": [{"factor": factor, "validation": value} for factor, value in trials.items()],
        "factor": factor,
        "tested": [dataclasses.asdict(one) for one in tested],
        "parameters": cell.counts(),
        "memory": cell.memory(),
        "compile_seconds": cell.compile_seconds,
        "steps": STEPS,
    }
