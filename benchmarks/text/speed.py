"""Step times of MiniLM training in one process, interleaved: ftjax's bucketed batches against the Trainer's batches grouped by length.

    python -m benchmarks.text.speed [--sets sst2 rte] [--rounds 3] [--buckets 8]

In every round each contender does an epoch of its own steps, with its own batches of the same rows, and a ratio is of two contenders in one round: other work
on the machine slows both. The Trainer's loop is its `training_step` with its clipping, optimiser, scheduler and dataloader, without logging, callbacks and
saving. Then the same batches go through the parts of a step, to say where time goes. Writes benchmarks/results/text_speed.md and .json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import jax
import jax.numpy as jnp

import ftjax
from benchmarks.text import data, ours, page, peer
from benchmarks.text.data import TextSet
from benchmarks.text.settings import Settings, minilm
from ftjax import files

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PARTS = ("input", "forward", "backward", "optimiser")
SEED = 0
HUGE_PAGES = "glibc.malloc.hugetlb=1"
DEFAULT_ORDER = ", its default order"


class Contender(Protocol):
    """One library in one precision."""

    name: str

    def round(self, steps: int) -> int:
        """Train so many steps, to their end; how many examples they held."""
        ...

    def parts(self, steps: int) -> dict[str, float]:
        """Seconds of each part of so many steps."""
        ...


class Ours:
    """ftjax: the compiled step of the plan that `ftjax.finetune` would train."""

    def __init__(self, text_set: TextSet, folder: Path, settings: Settings, buckets: int) -> None:
        self.name = f"ftjax {settings.precision}"
        # Long enough that no round meets the end of the schedule.
        config = ours.configuration(dataclasses.replace(text_set, steps=100_000), folder, minilm(), settings, SEED, baselines=False, buckets=buckets)
        self.plan, self.state = ftjax.prepare(config)
        began = time.perf_counter()
        self.feed = self.plan.feed(self.plan.stages[0], self.state)
        self.compile_seconds = time.perf_counter() - began
        self.batches = self.plan.train_batches(self.feed, 0, self.plan.steps)

    def round(self, steps: int) -> int:
        batches, examples = itertools.islice(self.batches, steps), 0
        for batch in batches:
            examples += int((batch["weight"] > 0).sum())
            self.state, _ = self.feed.advance(self.state, self.plan.put(batch))
        jax.block_until_ready(self.state)
        return examples

    def parts(self, steps: int) -> dict[str, float]:
        began = time.perf_counter()
        batches = [self.plan.put(self.plan.host_batch(step)) for step in range(steps)]
        found = {"input": time.perf_counter() - began}
        before = 0.0
        for name, function in (("forward", jax.jit(self._loss)), ("backward", jax.jit(jax.grad(self._loss))), ("optimiser", None)):
            whole = _seconds(functools.partial(self._through, function, batches))
            found[name], before = whole - before, whole
        return found

    def _through(self, function: Callable[..., Any] | None, batches: Sequence[Any]) -> None:
        """All batches through one function of the parameters, or through the step itself, which ends with the optimiser."""
        for batch in batches:
            if function is None:
                self.state, _ = self.feed.advance(self.state, batch)
            else:
                jax.block_until_ready(function(self.state.params, batch, self.plan.hyper))
        jax.block_until_ready(self.state)

    def _loss(self, params: Any, batch: Any, hyper: Any) -> jax.Array:
        parts, key = self.plan.stages[0].parts, jax.random.key(0)
        inputs = parts.preprocessing.training_inputs(batch, key, jnp.float32)
        loss, weight, _ = cast(Any, parts.task).loss(parts.model.apply(params, {}, inputs, key=key, train=True)[0], batch, hyper)
        return loss / weight


class Theirs:
    """The Trainer, stepped by hand as its inner loop does."""

    def __init__(self, text_set: TextSet, folder: Path, settings: Settings, *, grouped: bool = True) -> None:
        import transformers

        self.name = f"Trainer {settings.precision}" + ("" if grouped else DEFAULT_ORDER)
        transformers.set_seed(SEED)
        rows = data.read_written(text_set, folder)
        classes = () if text_set.task == "regression" else peer.classes_of(rows)
        tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
        examples = peer.encoded(text_set, rows["train"], tokenizer, classes, peer.scale_of(text_set, rows["train"]))
        model = peer.model_of(text_set, minilm(), classes, settings)
        long = dataclasses.replace(text_set, steps=100_000)
        trainer = peer.make_trainer(long, model, tokenizer, examples, settings, SEED, tempfile.mkdtemp(), grouped=grouped)
        trainer.create_optimizer_and_scheduler(long.steps)
        self.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
        trainer.model_wrapped, trainer.current_gradient_accumulation_steps = self.model, 1
        self.trainer, self.batches = trainer, self._endless()

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self.trainer.get_train_dataloader()

    def round(self, steps: int) -> int:
        examples = 0
        for batch in itertools.islice(self.batches, steps):
            examples += len(batch["input_ids"])
            self.trainer.training_step(self.model, batch)
            self._update()
        return examples

    def _update(self) -> None:
        self.trainer.accelerator.clip_grad_norm_(self.model.parameters(), self.trainer.args.max_grad_norm)
        self.trainer.optimizer.step()
        self.trainer.lr_scheduler.step()
        self.model.zero_grad()

    def parts(self, steps: int) -> dict[str, float]:
        found = dict.fromkeys(PARTS, 0.0)
        clock = time.perf_counter

        def lap(name: str, began: float) -> float:
            found[name] += (now := clock()) - began
            return now

        for _ in range(steps):
            began = clock()
            batch = self.trainer._prepare_inputs(next(self.batches))
            began = lap("input", began)
            with self.trainer.compute_loss_context_manager():
                loss = self.trainer.compute_loss(self.model.train(), batch)
            began = lap("forward", began)
            self.trainer.accelerator.backward(loss)
            began = lap("backward", began)
            self._update()
            lap("optimiser", began)
        return found


def _seconds(what: Callable[[], Any]) -> float:
    """Of the second call: the first one compiles."""
    what()
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def measure(text_set: TextSet, folder: Path, rounds: int, steps: int, buckets: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Examples per second of every contender in every round, and the parts of its step."""
    plain = [Settings(precision="float32"), Settings(precision="bfloat16")]
    contenders: list[Contender] = [*(Ours(text_set, folder, one, buckets) for one in plain), *(Theirs(text_set, folder, one) for one in plain)]
    contenders.append(Theirs(text_set, folder, plain[1], grouped=False))
    speeds: dict[str, list[float]] = {one.name: [] for one in contenders}
    for number in range(rounds + 1):
        for one in contenders[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            examples = one.round(steps)
            if number:  # Round 0 warms up.
                speeds[one.name].append(examples / (time.perf_counter() - began))
        say(f"{text_set.name} round {number}: " + ", ".join(f"{name} {values[-1]:.1f}/s" for name, values in speeds.items() if values))
    some = min(steps, 20)
    parts = {one.name: {name: seconds / some for name, seconds in one.parts(some).items()} for one in contenders}
    compiling = {one.name: one.compile_seconds for one in contenders if isinstance(one, Ours)}
    lengths = {"buckets": contenders[0].plan.dataset.splits["train"].buckets} if isinstance(contenders[0], Ours) else {}
    return {"name": text_set.name, "rounds": rounds, "steps": steps, "speeds": speeds, "parts": parts, "compile_seconds": compiling, **lengths}


def ratio(found: dict[str, Any], one: str, other: str) -> tuple[float, float, float]:
    """Median, smallest and largest over rounds of the speed of `one` over that of `other`."""
    ratios = [x / y for x, y in zip(found["speeds"][one], found["speeds"][other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def best(found: dict[str, Any], library: str) -> str:
    """The library's fastest contender with batches of about one length."""
    names = [name for name in found["speeds"] if name.startswith(library) and not name.endswith(DEFAULT_ORDER)]
    return max(names, key=lambda name: statistics.median(found["speeds"][name]))


def render(results: Sequence[dict[str, Any]], versions: dict[str, str]) -> str:
    """The page."""
    lines = [
        "# Speed of MiniLM training on the CPU",
        "",
        "`python -m benchmarks.text.speed`: steps of 16 texts in one process, each round every contender in turn; ftjax's batches are padded to one of a",
        "few lengths (`text.buckets`), the Trainer's are grouped by length, or come in its default order where it says so. Examples per second are the",
        "median over rounds; the ratio is of two contenders in one round. ftjax drops nothing from attention's probabilities, and here the Trainer does not",
        f"either. Both have huge pages (`GLIBC_TUNABLES={HUGE_PAGES}`).",
        "",
    ]
    for found in results:
        winner, theirs = best(found, "ftjax"), best(found, "Trainer")
        middle, low, high = ratio(found, winner, theirs)
        span = f"({low:.2f} to {high:.2f} over {found['rounds']} rounds of {found['steps']} steps)"
        lines += [
            f"## {found['name']}: {winner} is {middle:.2f} times as fast as {theirs} {span}",
            "",
            f"Padded to {', '.join(map(str, found['buckets']))} tokens. Milliseconds of a step, each part by itself:",
            "",
            "| contender | examples/s | " + " | ".join(PARTS) + " | best ftjax is faster by |",
            "|---|--:|" + "--:|" * len(PARTS) + "---|",
        ]
        for name, speeds in found["speeds"].items():
            parts = " | ".join(f"{1000 * found['parts'][name][part]:.1f}" for part in PARTS)
            middle, low, high = ratio(found, winner, name)
            lines.append(f"| {name} | {statistics.median(speeds):.1f} | {parts} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
        compiled = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found["compile_seconds"].items())
        lines += ["", f"Compiled before the first step: {compiled}.", ""]
    return "\n".join([*lines, "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".", ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=data.NAMES, default=["sst2", "rte"], metavar="NAME", help=", ".join(data.NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of a round; otherwise an epoch, so that every contender meets every length as often")
    parser.add_argument("--buckets", type=int, default=8, help="lengths that ftjax pads to, `text.buckets`")
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "text")
    parser.add_argument("--output", type=Path, default=RESULTS / "text_speed.json", help="the page lies beside it")
    flags = parser.parse_args()
    if platform.system() == "Linux" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.text.speed", *sys.argv[1:]], os.environ | {"GLIBC_TUNABLES": HUGE_PAGES})
    warnings.simplefilter("ignore")
    results = []
    for name in flags.sets:
        text_set = data.named(name)
        folder = data.write(text_set, flags.workdir / "data")
        steps = flags.steps or text_set.rows // Settings().batch_size
        results.append(measure(text_set, folder, flags.rounds, steps, flags.buckets, lambda line: print(line, flush=True)))
    versions = page.versions()
    files.write_json(flags.output, {"results": results, "versions": versions})
    flags.output.with_suffix(".md").write_text(render(results, versions))
    print(render(results, versions))


if __name__ == "__main__":
    main()
