"""`ftjax ablate`: many fine-tunings side by side, and which setting is better, by how much and how surely. 0 done, 130 interrupted."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from ftjax import configuration, files, reporting
from ftjax.ablation import launching, memory, reading, story, writing
from ftjax.ablation.ladder import ladder
from ftjax.ablation.running import Edges, Options, Stopped
from ftjax.ablation.spec import Ablation, Search
from ftjax.commands import show
from ftjax.commands.signals import Interrupted, Stop, stop_on_signal
from ftjax.configuration import Resolved
from ftjax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `ablate`."""
    parser.add_argument(
        "--config", metavar="FILE.py[:ARGUMENT]", help="what all arms have in common; --config.key=value overrides a key. This file is executed"
    )
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="folder of the ablation; the same command again continues it")
    parser.add_argument(
        "--ablation", metavar="FILE.py[:ARGUMENT]", help="a file whose get_ablation() says what is compared, such as configs/ablations/seeds.py"
    )
    parser.add_argument("--ladder", action="store_true", help="compare the usual methods from a probe to training from scratch, under one budget")
    parser.add_argument("--grid", action="append", default=[], metavar="KEY=VALUES", help="compare these values; seed=0..7 repeats everything")
    parser.add_argument("--tune", action="append", default=[], metavar="KEY=VALUES", help="choose among these on validation, for each arm its own")
    parser.add_argument("--search", choices=("grid", "random", "halving"), default=None, help="how trials of what is tuned are chosen")
    parser.add_argument("--trials", type=int, default=None, help="of a search: how many for each arm")
    parser.add_argument("--shift", action="append", default=[], metavar="NAME", help="test on a changed copy of the pictures too: noise, contrast, blur, ...")
    parser.add_argument("--reference", default=None, metavar="ARM", help="what the others are compared with; the first arm")
    parser.add_argument("--free-budget", action="store_true", help="compare arms that train on different numbers of examples")
    parser.add_argument("--memory", default=None, metavar="SIZE", help="what a population may take on one device, such as 6GB; most of what there is")
    parser.add_argument("--together", type=int, default=None, metavar="N", help="members in one vectorised step on a device, the others after them; all")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="slurm: write ablate.sbatch, an array of the groups, and train nothing")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="of slurm: a further option for the script, --sbatch=--gres=gpu:1")
    parser.add_argument("--only-group", type=int, action="append", default=None, metavar="N", help="train this group alone and judge nothing: for jobs")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Decide, train, judge, write."""
    ablation, base = asked(arguments, flags)
    options = Options(memory.parse_bytes(arguments.memory) if arguments.memory else None, arguments.together)
    with stop_on_signal() as stop, reporting.Progress(base.config.report.progress) as view:
        try:
            return _told(arguments, flags, ablation, base, options, stop, view)
        except (Stopped, Interrupted):
            view.message("interrupted; the same command goes on from the last checkpoint")
            return 130


def _told(
    arguments: argparse.Namespace, flags: dict[str, str], ablation: Ablation, base: Resolved, options: Options, stop: Stop, view: reporting.Progress
) -> int:
    """The story, told."""
    began = time.perf_counter()
    prepared = story.prepare(ablation, base, cache=arguments.workdir / "cache", progress=show.Decoding(view))
    tell(view, prepared)
    if arguments.launcher == "slurm":
        view.message(f"submit with: sbatch {write_script(arguments, flags, len(prepared.groups))}")
        return 0
    edges = Edges(arguments.workdir, view.message, stop.event, ablation.shifts, ablation.search)
    with stop.deferred():
        members = story.train(prepared, arguments.workdir, options, edges, arguments.only_group)
    if arguments.only_group is not None:
        return 0
    found = story.judge(prepared, arguments.workdir, members, story.seconds_of(members, began))
    writing.write(arguments.workdir, found)
    page = reporting.render_ablation(arguments.workdir)
    sys.stdout.write(f"{found['verdict']}\n{page}\n")
    return 0


def write_script(arguments: argparse.Namespace, flags: dict[str, str], groups: int) -> Path:
    """ablate.sbatch in the folder of the ablation."""
    command = [sys.executable, "-m", "ftjax.main", "ablate", *(f"--config.{key}={value}" for key, value in flags.items())]
    for name, value in vars(arguments).items():
        flag = f"--{name.replace('_', '-')}"
        if name in ("launcher", "sbatch", "only_group") or value in (None, False, []):
            continue
        command += [flag] if value is True else [f"{flag}={item}" for item in (value if isinstance(value, list) else [value])]
    path = arguments.workdir / "ablate.sbatch"
    files.write_text(path, launching.sbatch(command, groups, name=f"ablate-{arguments.workdir.name}", options=arguments.sbatch))
    return path


def asked(arguments: argparse.Namespace, flags: dict[str, str]) -> tuple[Ablation, Resolved]:
    """The ablation and its base, from a file and flags.

    Raises:
      ConfigError: nothing to ablate, or something that cannot be used.
    """
    ablation = reading.load_ablation(arguments.ablation) if arguments.ablation else Ablation()
    if arguments.config is None and ablation.base is None:
        raise ConfigError("what all arms have in common is missing: --config FILE.py, or Ablation(base=...) in the file of --ablation")
    base = configuration.resolve(arguments.config, flags, ablation.base)
    axes = [reading.parse_axis(text) for text in arguments.grid]
    seeds = [reading.parse_seeds(axis) for axis in axes if axis.key == "seed"]
    if len(seeds) > 1:
        raise ConfigError("seed is given twice")
    changes: dict[str, Any] = {
        "compare": (*ablation.compare, *(axis for axis in axes if axis.key != "seed")),
        "tune": (*ablation.tune, *(reading.parse_axis(text) for text in arguments.tune)),
        "shifts": (*ablation.shifts, *arguments.shift),
        "search": _search(ablation.search, arguments),
    }
    changes |= {"seeds": seeds[0]} if seeds else {}
    changes |= {"reference": arguments.reference} if arguments.reference else {}
    changes |= {"budget": "free"} if arguments.free_budget else {}
    made = dataclasses.replace(ablation, **changes)
    if arguments.ladder:
        made = ladder(made, base.config)
    if not (made.compare or made.tune or made.arms or len(made.seeds) > 1):
        raise ConfigError("there is nothing to vary; write --grid KEY=VALUES, --tune KEY=VALUES or --ablation FILE.py")
    return made, base


def _search(search: Search, arguments: argparse.Namespace) -> Search:
    kind = arguments.search or search.kind
    trials = arguments.trials if arguments.trials is not None else search.trials
    if kind == "grid" and arguments.trials is not None:
        raise ConfigError("--trials is of a search; a grid has as many trials as --tune has combinations. Write --search random")
    return dataclasses.replace(search, kind=kind, trials=trials)


def tell(view: reporting.Progress, prepared: story.Prepared) -> None:
    """What will be trained, before it is."""
    plan = prepared.plan
    arms = [(name, *(str(value) for value in budget.values())) for name, budget in prepared.budgets.items()]
    title = f"ablation: {len(prepared.members)} fine-tunings in {len(prepared.groups)} compiled programs; {plan.metric.name} decides"
    view.start([title])
    view.table("budget", ("arm", "trials", "seeds", "examples of each"), arms)
    for group in prepared.groups:
        for warning in group.plan.warnings:
            view.message(f"warning: {warning}")
