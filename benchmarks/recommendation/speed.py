"""Training steps and full ranking of SASRec with a softmax over all items: ftjax against PyTorch, in one process, in turns.

    python -m benchmarks.recommendation.speed --data SHARED_DATA [--rounds 5] [--steps 4] [--users 2048]

Needs the extra `parity` (torch). Both have the same weights and the same batches of the Beauty log (128 histories padded to 8, 16, 32 or 56 items, 54,542
items); torch computes logits only where there is a target. Before anything is timed both must give the same loss. On a machine that others use too, the
CPU seconds of the process count, which both spend on the same cores in turns. Writes `benchmarks/results/recommendation_speed.json`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

import ftjax
from benchmarks.recommendation.torch_sasrec import Sasrec, put
from ftjax import Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig, RecommendationConfig, TaskConfig, TextConfig, TrainConfig, data, trees

RESULTS = Path(__file__).parents[1] / "results"
USERS = 512
"""Of a batch in evaluation."""


def config(shared: Path, precision: Any) -> Config:
    """SASRec of the published row, without dropout, so that losses can be compared."""
    return Config(
        method="scratch",
        data=DataConfig(source="interactions", path=str(shared / "rec" / "beauty_bert4rec" / "beauty.txt"), workers=1),
        text=TextConfig(buckets=2),
        model=ModelConfig(name="sasrec", precision=precision, dropout=0.0),
        task=TaskConfig(name="recommendation"),
        recommendation=RecommendationConfig(),
        train=TrainConfig(batch_size=128, duration="1 epochs"),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.0, schedule="constant", warmup="0 steps", clip_norm=None),
        evaluation=EvaluationConfig(batch_size=USERS),
    )


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


class Ours:
    """ftjax: the compiled step of a run, and its evaluator."""

    def __init__(self, shared: Path, precision: str) -> None:
        self.plan, self.state = ftjax.prepare(config(shared, precision))
        self.stage = self.plan.stages[0]
        self.feed = self.plan.feed(self.stage, self.state)
        self.flat = {path: np.asarray(leaf) for path, leaf in trees.flatten(self.state.params).items()}
        self.losses: list[float] = []

    def steps(self, batches: Sequence[Any]) -> None:
        """Train on these batches."""
        losses = []
        for batch in batches:
            self.state, metrics = self.feed.advance(self.state, self.plan.put(batch))
            losses.append(metrics["loss"])
        self.losses += [float(loss) for loss in losses]

    def rank(self, batches: Sequence[Any]) -> np.ndarray:
        """The place of each target."""
        return np.concatenate([part["ranks"][:, 0] for part in self.plan.evaluator.parts(self.state.params, {}, batches)])


class Theirs:
    """PyTorch: Adam on logits of all items where there is a target, by autocast in bfloat16."""

    def __init__(self, flat: dict[str, np.ndarray], items: int, precision: str) -> None:
        self.model = Sasrec(items, dropout=0.0)
        put(self.model, flat)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.narrow = precision == "bfloat16"
        self.losses: list[float] = []

    def steps(self, batches: Sequence[Any]) -> None:
        """Train on these batches."""
        for batch in batches:
            items = torch.from_numpy(batch["items"]).long()
            target = functional.pad(items[:, 1:], (0, 1)) * torch.from_numpy(batch["weight"] > 0)[:, None]
            inputs = torch.where(target > 0, items, 0)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
                hidden = self.model(inputs)[target > 0]
                logits = hidden @ self.model.item.weight[1:].T
                loss = functional.cross_entropy(logits.float(), target[target > 0] - 1)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())

    @torch.inference_mode()
    def rank(self, batches: Sequence[Any]) -> np.ndarray:
        """The place of each target among the items that the user does not know, and the best twenty, which are thrown away."""
        found = []
        for batch in batches:
            items = torch.from_numpy(batch["items"]).long()
            users = self.model(items)[torch.arange(len(items)), ((items > 0).sum(1) - 1).clamp(min=0)]
            scores = users @ self.model.item.weight.T
            label = torch.from_numpy(batch["label"]).long()
            own = scores.gather(1, label[:, None])
            scores[:, 0] = -torch.inf
            scores.scatter_(1, torch.from_numpy(batch["seen"]).long(), -torch.inf)
            scores.topk(20)
            found.append(((scores >= own).sum(1)).numpy())
        return np.concatenate(found)


def compare(ours: Ours, theirs: Theirs, rounds: int, steps: int, users: int) -> dict[str, Any]:
    """Seconds of each part in each round, after checking that both compute the same."""
    batches = [ours.plan.host_batch(step) for step in range(steps * (rounds + 1))]
    evaluated = list(data.eval_batches(ours.plan.dataset.splits["test"], USERS))[: -(-users // USERS)]
    ours.steps(batches[:steps])
    theirs.steps(batches[:steps])
    apart = max(abs(one - other) for one, other in zip(ours.losses, theirs.losses))
    if apart > 0.02:
        raise SystemExit(f"the losses differ by {apart:.3g}: {ours.losses} and {theirs.losses}")
    agree = float(np.mean(np.abs(ours.rank(evaluated) - theirs.rank(evaluated)) <= 200))
    found: dict[str, Any] = {"losses_apart": apart, "ranks_within_200_places": agree}
    parts: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]] = {"step": ([], []), "rank": ([], [])}
    for number in range(1, rounds + 1):
        work = batches[number * steps : (number + 1) * steps]
        for which, contender in enumerate((ours, theirs)):
            parts["step"][which].append(timed(functools.partial(contender.steps, work)))
            parts["rank"][which].append(timed(functools.partial(contender.rank, evaluated)))
    return found | {name: told(*sides, steps if name == "step" else 1) for name, sides in parts.items()}


def told(mine: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]], parts: int) -> dict[str, Any]:
    """Medians over rounds, and the ratio within a round."""
    return {
        kind: {
            "ftjax": statistics.median(pair[index] for pair in mine) / parts,
            "torch": statistics.median(pair[index] for pair in other) / parts,
            "ratio": statistics.median(b[index] / a[index] for a, b in zip(mine, other)),
            "ratios": sorted(round(b[index] / a[index], 3) for a, b in zip(mine, other)),
        }
        for index, kind in enumerate(("cpu_seconds", "wall_seconds"))
    }


def main() -> None:
    """Compare in both precisions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--users", type=int, default=2048)
    parser.add_argument("--precision", nargs="+", default=["bfloat16", "float32"])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    stored = RESULTS / "recommendation_speed.json"
    found: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    found |= {"versions": {name: version(name) for name in ("jax", "torch", "numpy")} | {"python": platform.python_version()}}
    found |= {"cores": os.cpu_count(), "devices": str(jax.devices()), "users": arguments.users}
    for precision in arguments.precision:
        ours = Ours(arguments.data, precision)
        theirs = Theirs(ours.flat, len(ours.plan.dataset.classes), precision)
        found[precision] = compare(ours, theirs, arguments.rounds, arguments.steps, arguments.users)
        print(precision, json.dumps(found[precision]), flush=True)
    stored.write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "recommendation_speed.md").write_text(page(found, [name for name in ("bfloat16", "float32") if name in found]))


def page(found: dict[str, Any], precisions: Sequence[str]) -> str:
    """Both tables as text."""
    parts = [
        "# Speed of SASRec against PyTorch\n\n`python -m benchmarks.recommendation.speed`: the same weights and batches of Beauty\n",
        "(128 histories, 54,542 items, width 64, 2 blocks), cross-entropy over all items, Adam, in turns in one process. A ratio is PyTorch's time over\n",
        "ftjax's in one round, the median with the range. The machine was busy with other work, so CPU seconds say more than seconds by the wall.\n",
    ]
    rows = {"step": "a training step", "rank": f"full ranking of {found['users']:,} users with the best 20"}
    for precision in precisions:
        side = found[precision]
        parts.append(f"\n## {precision}\n\nLosses of the first steps differ by {side['losses_apart']:.2g}.\n\n")
        parts.append("| | | ftjax s | torch s | torch / ftjax |\n|---|---|--:|--:|--:|\n")
        for key, kind in ((key, kind) for key in rows for kind in ("cpu_seconds", "wall_seconds")):
            one = side[key][kind]
            ratio = f"{one['ratio']:.2f} ({one['ratios'][0]:.2f} to {one['ratios'][-1]:.2f})"
            parts.append(f"| {rows[key]} | {kind.replace('_', ' ')} | {one['ftjax']:.3f} | {one['torch']:.3f} | {ratio} |\n")
    if len(precisions) > 1:
        ours, theirs = (min(found[name]["step"]["cpu_seconds"][side] for name in precisions) for side in ("ftjax", "torch"))
        parts.append(f"\nEach in the precision in which it is faster, a step takes torch {theirs / ours:.1f} times the CPU seconds.\n")
    told_versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    parts.append(f"\nEvaluation is in float32 on both sides. Versions: {told_versions}; {found['cores']} cores.\n")
    return "".join(parts)


if __name__ == "__main__":
    main()
