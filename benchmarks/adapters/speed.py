"""Step time and memory of LoRA against full fine-tuning, in ftjax and in peft: one process, every contender in turn in every round.

    python -m benchmarks.adapters.speed [--models minilm vit] [--rounds 7] [--steps 4]
    NPROC=1 OMP_NUM_THREADS=1 python -m benchmarks.adapters.speed          # one thread each, for a machine that others use

Wants an environment with ftjax, torch, transformers and peft. A step is forward, backward, clipping and AdamW on the same batch, whose numbers are random:
32 texts of 64 tokens for MiniLM, 32 pictures of 64 pixels for ViT-Ti/16. peft starts from the adapters that ftjax drew. Memory is what the state holds and
what a step needs besides: as XLA plans it, and for torch, which has no plan, the peak of resident memory in a process of its own above what lay there between
two steps. Writes benchmarks/results/adapters_speed.md and .json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import jax
import numpy as np

from benchmarks.adapters import arms, clock, exchange
from benchmarks.adapters.cell import Cell
from benchmarks.text.settings import minilm
from ftjax import files, trees, weights

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MODELS = {"minilm": "trec", "vit": "eurosat"}
BATCH, TOKENS, PIXELS = 32, 64, 64
RATE = 1e-4
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""For measuring memory: what is freed goes back to the system at once."""
HUGE_PAGES = "glibc.malloc.hugetlb=1"


class Contender(Protocol):
    """One library, one method, one precision."""

    name: str

    def round(self, steps: int) -> None:
        """Train so many steps, to their end."""
        ...

    def held(self) -> int:
        """Bytes of parameters and moments, and of whatever else stays between steps."""
        ...


def host_batch(model: str, classes: int) -> dict[str, np.ndarray]:
    """A full batch without padding, by ftjax's names."""
    draw = np.random.default_rng(0)
    common = {"label": draw.integers(0, classes, BATCH).astype(np.int32), "weight": np.ones(BATCH, np.float32), "id": np.arange(BATCH, dtype=np.int32)}
    if model == "vit":
        return common | {"image": draw.integers(0, 256, (BATCH, PIXELS, PIXELS, 3)).astype(np.uint8)}
    tokens = draw.integers(1000, 30000, (BATCH, TOKENS)).astype(np.int32)
    return common | {"tokens": tokens, "mask": np.ones((BATCH, TOKENS), bool), "segments": np.zeros((BATCH, TOKENS), np.int32)}


class Ours:
    """ftjax: the compiled step of the plan that `ftjax.finetune` would train."""

    def __init__(self, model: str, method: str, folder: Path) -> None:
        self.name = f"ftjax {method} bfloat16"
        self.cell = Cell(MODELS[model], arms.named(arms.TWIN if method == "LoRA" else "full"), folder, None, compiled=False, batch=BATCH)
        self.state = self.cell.start(0)
        self.batch = self.cell.plan.put(host_batch(model, len(self.cell.plan.dataset.classes)))

    def round(self, steps: int) -> None:
        for _ in range(steps):
            self.state, _ = self.cell.feed.advance(self.state, self.batch)
        jax.block_until_ready(self.state)

    def held(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))


class Theirs:
    """transformers alone (full), or with peft (LoRA), in a hand-written loop."""

    def __init__(self, model: str, method: str, precision: str, cell: Cell, folder: Path) -> None:
        import torch

        from benchmarks.adapters import peft_worker

        self.name, self.bfloat16, self.step = (
            f"{'peft' if method == 'LoRA' else 'transformers'} {method} {precision}",
            precision == "bfloat16",
            peft_worker.step,
        )
        classes, optimizer = len(cell.plan.dataset.classes), cell.plan.config.optimizer
        base = minilm() if model == "minilm" else folder / "base"
        if model == "vit" and not base.exists():
            weights.save_hugging_face(base, trees.flatten(cell.plan.plain(cell.start(0).params)), exchange.held(cell))
        kind = "text" if model == "minilm" else "photos"
        job = {"kind": kind, "base": str(base), "classes": classes, "dropout": 0.1, "weight_decay": 0.01, "betas": [optimizer.beta1, optimizer.beta2]}
        if method == "LoRA":
            exchange.write_adapter(cell, cell.start(0), folder / "adapter", base)
        built = peft_worker.build(job, folder / "adapter" if method == "LoRA" else None)
        self.model, self.chain = built.train(), peft_worker.optimizer(built, job | {"epsilon": optimizer.epsilon})
        self.batch = _for_torch(cell, host_batch(model, classes))
        self.clip_norm = float(optimizer.clip_norm or 1.0)
        self._tensors = torch.Tensor

    def round(self, steps: int) -> None:
        for _ in range(steps):
            self.step(self.model, self.chain, self.batch, RATE, self.clip_norm, self.bfloat16)

    def held(self) -> int:
        moments = [value for state in self.chain.state.values() for value in state.values() if isinstance(value, self._tensors)]
        return sum(value.numel() * value.element_size() for value in [*self.model.parameters(), *moments])


def _for_torch(cell: Cell, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    inputs = exchange.inputs(cell.plan.preprocessing.inputs(cell.plan.put(batch)))
    return {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()} | {"label": torch.from_numpy(batch["label"]).long()}


def contenders(model: str, workdir: Path, only: str | None = None) -> list[Contender]:
    """All of them, or the one of that name."""
    folder = workdir / f"speed_{model}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = lambda name: only in (None, name)  # noqa: E731
    ours = [Ours(model, method, workdir / "data") for method in ("full", "LoRA") if wanted(f"ftjax {method} bfloat16")]
    cell = next((one.cell for one in ours if one.name.startswith("ftjax LoRA")), None)
    made: list[Contender] = [*ours]
    for method, library in (("full", "transformers"), ("LoRA", "peft")):
        for precision in ("float32", "bfloat16"):
            if wanted(f"{library} {method} {precision}"):
                cell = cell or Cell(MODELS[model], arms.named(arms.TWIN), workdir / "data", None, compiled=False, batch=BATCH)
                made.append(Theirs(model, method, precision, cell, folder))
    return made


def measure(model: str, workdir: Path, rounds: int, steps: int) -> dict[str, Any]:
    """Seconds and processor seconds of a step for every contender in every round."""
    all_of_them = contenders(model, workdir)
    seconds: dict[str, list[float]] = {one.name: [] for one in all_of_them}
    processor: dict[str, list[float]] = {one.name: [] for one in all_of_them}
    loads = []
    for number in range(-1, rounds):
        loads.append(os.getloadavg()[0])
        for one in all_of_them[:: 1 if number % 2 else -1]:
            one.round(1)  # The first step after another contender's fetches its memory back from the system.
            began, used = time.perf_counter(), time.process_time()
            one.round(steps)
            if number >= 0:  # The round before the first one warms up.
                seconds[one.name].append((time.perf_counter() - began) / steps)
                processor[one.name].append((time.process_time() - used) / steps)
        print(f"{model} round {number}: " + ", ".join(f"{name} {1000 * values[-1]:.0f} ms" for name, values in seconds.items() if values), flush=True)
    return {"model": model, "rounds": rounds, "steps": steps, "load": loads, "seconds": seconds, "processor": processor}


def memory(model: str, name: str, workdir: Path) -> dict[str, int]:
    """Of one contender, in this process: bytes held, and what a step needs besides: XLA's plan, or the peak of resident memory above what lay there before."""
    one = contenders(model, workdir, name)[0]
    one.round(2)
    if isinstance(one, Ours):
        return {"held": one.held(), "step": one.cell.memory()["temporaries"]}
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    one.round(2)
    return {"held": one.held(), "step": _resident("VmHWM") - before}


def _resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def memories(model: str, names: Sequence[str], workdir: Path) -> dict[str, dict[str, int]]:
    """Of every contender, each in a process of its own."""
    found = {}
    for name in names:
        command = [sys.executable, "-m", "benchmarks.adapters.speed", "--workdir", str(workdir), "--memory", model, name]
        environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"} | ALLOCATOR
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        found[name] = json.loads(said.splitlines()[-1])
        print(f"{model}, {name}: {found[name]}", flush=True)
    return found


def versions() -> dict[str, str]:
    """Of everything that takes part."""
    import ftjax

    names = ("jax", "flax", "optax", "torch", "transformers", "peft", "numpy")
    found = {"ftjax": ftjax.__version__, "python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
    return found | {"cores": str(os.cpu_count()), "threads of each library": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}


def best(found: dict[str, Any], start: str) -> str:
    """The fastest contender whose name begins so."""
    return min((name for name in found["seconds"] if name.startswith(start)), key=lambda name: statistics.median(found["seconds"][name]))


def render(results: Sequence[dict[str, Any]], used: dict[str, str]) -> str:
    """The page."""
    lines = [
        "# Step time and memory of LoRA: ftjax and peft on the CPU",
        "",
        f"`python -m benchmarks.adapters.speed`: steps of {BATCH} texts of {TOKENS} tokens (MiniLM) or {BATCH} pictures of {PIXELS} pixels (ViT-Ti/16):",
        "forward, backward, clipping and AdamW; LoRA of rank 16 on every matrix of the blocks, dropout 0.1 in MiniLM, none on attention's probabilities.",
        "One process, every contender in turn in every round, after one step that does not count; medians over rounds.",
        "A ratio is of two contenders in one round: median (smallest to largest).",
        "*Processor* counts the seconds of all threads, which other work on the machine disturbs less than the clock. Memory: what lies there between steps",
        "(parameters, moments; ftjax also keeps theta0 of what trains), and what a step needs besides: XLA's plan for ftjax; for torch, which has none, the",
        f"peak of resident memory above what lay there before. Both libraries have huge pages (`GLIBC_TUNABLES={HUGE_PAGES}`).",
        "",
    ]
    for found in results:
        lines += _section(found)
    return "\n".join([*lines, "Versions: " + ", ".join(f"{name} {version}" for name, version in used.items()) + ".", ""])


def _section(found: dict[str, Any]) -> list[str]:
    ours, theirs = best(found, "ftjax LoRA"), best(found, "peft")

    def span(kind: str, one: str, other: str) -> str:
        middle, low, high = clock.ratio(found[kind], one, other)
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    lines = [
        f"## {found['model']}: a step of peft's LoRA takes {span('seconds', theirs, ours)} times as long as one of ftjax's",
        "",
        f"{theirs} against {ours}; in processor seconds {span('processor', theirs, ours)}. LoRA against full fine-tuning in ftjax: "
        f"{span('seconds', ours, best(found, 'ftjax full'))} of the time ({span('processor', ours, best(found, 'ftjax full'))} of the processor's).",
        f"Load of the machine (one-minute average) {min(found['load']):.1f} to {max(found['load']):.1f}; {found['rounds']} rounds of {found['steps']} steps.",
        "",
        "| contender | ms a step | processor ms | held, MB | a step, MB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, seconds in found["seconds"].items():
        size = found["memory"].get(name, {})
        sizes = " | ".join(f"{size[key] / 1e6:.0f}" if key in size else "-" for key in ("held", "step"))
        lines.append(f"| {name} | {1000 * statistics.median(seconds):.0f} | {1000 * statistics.median(found['processor'][name]):.0f} | {sizes} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "adapters")
    parser.add_argument("--output", type=Path, default=RESULTS / "adapters_speed.json", help="the page lies beside it")
    parser.add_argument("--memory", nargs=2, metavar=("MODEL", "CONTENDER"), help="measure the memory of one contender alone and print it")
    parser.add_argument("--keep_memory", action="store_true", help="measure times alone, and keep the memory of the results that are there")
    flags = parser.parse_args()
    warnings.simplefilter("ignore")
    if flags.memory:
        print(json.dumps(memory(flags.memory[0], flags.memory[1], flags.workdir)))
        return
    if platform.system() == "Linux" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.adapters.speed", *sys.argv[1:]], os.environ | {"GLIBC_TUNABLES": HUGE_PAGES})
    kept = files.read_json(flags.output)["results"] if flags.output.exists() else []
    results = {one["model"]: one for one in kept}
    known = {one["model"]: one["memory"] for one in kept} if flags.keep_memory else {}
    for model in flags.models:
        found = measure(model, flags.workdir, flags.rounds, flags.steps)
        results[model] = found | {"memory": known.get(model) or memories(model, list(found["seconds"]), flags.workdir)}
        files.write_json(flags.output, {"results": list(results.values()), "versions": versions()})
        flags.output.with_suffix(".md").write_text(render(list(results.values()), versions()))
    print(flags.output.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
