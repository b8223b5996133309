"""What a step would need of memory and work if it were computed otherwise, and the smallest number of micro-batches that fits.

XLA says it of each program once it is compiled, so nothing is run; the same knobs are `model.remat`, `train.microbatches` and `model.precision`. Programs are
compiled one after the other for as long as somebody is willing to wait.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Mapping
from typing import Any

import jax

from ftjax import configuration, distribution
from ftjax.errors import ConfigError
from ftjax.training import model as model_of_run
from ftjax.training.plan import Plan
from ftjax.training.stage import Stage, compiler

Settings = Mapping[str, Any]
"""Keys of the configuration, and the values that they would have."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclasses.dataclass(frozen=True)
class Limit:
    """Bytes of one device, and who says so."""

    bytes: int
    why: str


@dataclasses.dataclass(frozen=True)
class Cost:
    """What XLA says of a compiled step: bytes on each device, and FLOPs."""

    arguments: int
    temporary: int
    flops: float

    @property
    def bytes(self) -> int:
        """State, batch and everything in between; the new state takes the old one's place."""
        return self.arguments + self.temporary


def limit_of(memory: str | None) -> Limit:
    """What a device has: what was said, what it says itself, or this machine's memory, shared among its devices.

    Raises:
      ConfigError: a size that is none.
    """
    if memory is not None:
        found = re.fullmatch(r"([\d.]+)\s*([kmgt]i?|)b?", memory.strip().lower())
        try:
            size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
        except ValueError:
            size = 0
        if size <= 0:
            raise ConfigError(f"--memory {memory!r} is no size; allowed: a number with a unit, such as 16GiB or 500MB")
        return Limit(size, f"--memory {memory}")
    told = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if told:
        return Limit(int(told), f"{jax.local_devices()[0].device_kind}")
    pages, shared = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), len(jax.local_devices())
    return Limit(pages // shared, "this machine's memory" + (f", shared by {shared} devices" if shared > 1 else ""))


def cost_of(program: Any) -> Cost | None:
    """What XLA knows; None: it does not say on this backend."""
    memory = program.memory_analysis()
    if memory is None:
        return None
    return Cost(int(memory.argument_size_in_bytes), int(memory.temp_size_in_bytes), float((program.cost_analysis() or {}).get("flops", 0.0)))


def alternatives(plan: Plan, fits: bool) -> list[Settings]:
    """What might be set otherwise, the most useful first: as few micro-batches as fit, so the larger numbers only where the step does not fit as it is."""
    config = plan.config
    found: list[Settings] = [{"model.remat": way} for way in ("dots", "blocks") if config.model.remat in ("none", False)]
    parts = [{"train.microbatches": count} for count in (2, 4, 8) if count > config.train.microbatches and _divides(plan, count)]
    found = [*parts, *found] if not fits else [*found, *parts[:1]]
    return [*found, *([{"model.precision": "bfloat16"}] if config.model.precision == "float32" else [])]


def compiled(plan: Plan, stage: Stage, batch: Mapping[str, Any], settings: Settings) -> Cost | None:
    """What a step of this batch would need with these settings."""
    config = configuration.replace(plan.config, dict(settings))
    parts = dataclasses.replace(stage.parts, microbatches=config.train.microbatches, model=model_of_run.build(config, plan.model.spec))
    return cost_of(compiler(parts, stage.abstract, plan.hyper, plan.mesh)(batch))


def compared(plan: Plan, stage: Stage, batch: Mapping[str, Any], wanted: list[Settings], limit: Limit, seconds: float) -> list[tuple[Settings, Cost | None]]:
    """The cost of one alternative after the other, until time is up or a number of micro-batches fits, which makes larger ones needless.

    Args:
      plan: the run.
      stage: the one that needs most.
      batch: of the shape that needs most.
      wanted: of `alternatives`.
      limit: of a device.
      seconds: none is begun that would not be ready by then, if it takes as long as the longest before it.

    Returns:
      The alternatives that were compiled.
    """
    began, longest, found = time.perf_counter(), 0.0, []
    for settings in wanted:
        if time.perf_counter() - began + longest > seconds:
            break
        if "train.microbatches" in settings and any("train.microbatches" in done and cost and cost.bytes <= limit.bytes for done, cost in found):
            continue
        start = time.perf_counter()
        found.append((settings, compiled(plan, stage, batch, settings)))
        longest = max(longest, time.perf_counter() - start)
    return found


def proposal(found: list[tuple[Settings, Cost | None]], limit: Limit) -> str:
    """What to set where the step does not fit."""
    fitting = [(settings, cost) for settings, cost in found if cost is not None and cost.bytes <= limit.bytes]
    parts = [pair for pair in fitting if "train.microbatches" in pair[0]]
    if not fitting:
        return "none of the alternatives above fits either; allowed: both model.remat and train.microbatches, --config.method=lora, a smaller train.batch_size"
    settings, cost = min(parts, key=lambda pair: pair[0]["train.microbatches"]) if parts else fitting[0]
    return f"set {named(settings)}, with which it takes {gigabytes(cost.bytes)}"


def named(settings: Settings) -> str:
    """`train.microbatches=4`."""
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def gigabytes(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def rows_of(here: Cost, found: list[tuple[Settings, Cost | None]], limit: Limit) -> list[tuple[str, ...]]:
    """A line for the step as configured and for each alternative: memory, temporaries, work beside the configured step's, and whether it fits.

    XLA counts what is inside a loop once, so of micro-batches, which are one, it cannot say the work.
    """
    every = [("as configured", here), *((named(settings), cost) for settings, cost in found)]
    return [
        (
            name,
            gigabytes(cost.bytes),
            gigabytes(cost.temporary),
            "-" if "microbatches" in name or not here.flops else f"{cost.flops / here.flops:.2f}",
            _fits(cost, limit),
        )
        for name, cost in every
        if cost is not None
    ]


def _fits(cost: Cost, limit: Limit) -> str:
    return f"{'yes' if cost.bytes <= limit.bytes else 'no'}, {cost.bytes / limit.bytes:.1%}"


def _divides(plan: Plan, count: int) -> bool:
    """Whether a batch can be cut into so many parts; losses over whole batches and batches of so many tokens cannot."""
    if plan.config.train.batch_tokens is not None or plan.config.task.name == "sentence_embedding":
        return False
    return plan.batch_size % count == 0 and (plan.batch_size // count) % distribution.batch_devices(plan.mesh) == 0
