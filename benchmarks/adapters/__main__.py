"""`python -m benchmarks.adapters [--only trec eurosat] [--arms full IA3] [--seeds 3]`: compare the methods and write benchmarks/results/adapters.md and .json.

Every finished cell (a method on a set) lies as JSON in the work directory and is not made again; the page is written anew from all that are there.
`--peft PYTHON` names an interpreter with torch, transformers and peft, and adds peft's LoRA on the same weights, batches and rates. `--clock` measures step
times instead, all methods in turn, on one text and one photo set. `--page` only writes the page.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from benchmarks.adapters import arms, cell, clock, exchange, page
from ftjax import files

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def found_at(workdir: Path, data_set: str, name: str) -> Path:
    """Where the numbers of a cell lie."""
    return workdir / "found" / f"{data_set}_{name.replace(' ', '_')}.json"


def say(line: str) -> None:
    print(line, flush=True)


def run(sets: list[str], wanted: list[str], seeds: range, workdir: Path, peft: str | None) -> None:
    """Every cell that is not there yet, all sets of a method before the next method: sets of one shape share a compiled step."""
    datasets: dict[str, Any] = {}
    for arm in arms.arms():
        names = [arm.name, *([arms.PEFT] if peft is not None and arm.name == arms.TWIN else [])]
        for data_set in sets:
            missing = [name for name in names if not found_at(workdir, data_set, name).exists() and (not wanted or name in wanted)]
            if not missing:
                continue
            made = cell.Cell(data_set, arm, workdir / "data", datasets.get(data_set))
            datasets[data_set] = made.plan.dataset
            for name in missing:
                say(f"{data_set}, {name}")
                if name == arms.PEFT:
                    found = exchange.compare(made, data_set, seeds, workdir / "peft" / data_set, str(peft))
                else:
                    found = cell.measure(made, seeds, say)
                keep(found_at(workdir, data_set, name), found)


def keep(target: Path, found: Any) -> None:
    """Write a JSON whose folder may be missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(target, found)


def time_steps(sets: list[str], wanted: list[str], rounds: int, workdir: Path) -> None:
    """Step times of all methods, for the first of the sets of each kind."""
    methods = [arm for arm in arms.arms() if not wanted or arm.name in wanted]
    for kind in ("photos", "text"):
        data_set = next((name for name in sets if arms.kind_of(name) == kind), None)
        if data_set is not None:
            keep(workdir / "clock" / f"{kind}.json", clock.measure(data_set, methods, workdir / "data", rounds, clock.STEPS, say))


def write_page(workdir: Path) -> None:
    """The results from all that is finished."""
    names = [name for arm in arms.arms() for name in (arm.name, *([arms.PEFT] if arm.name == arms.TWIN else []))]
    cells = {one: {name: files.read_json(found_at(workdir, one, name)) for name in names if found_at(workdir, one, name).exists()} for one in arms.SETS}
    clocks = {path.stem: files.read_json(path) for path in sorted((workdir / "clock").glob("*.json"))}
    found = page.results(cells, clocks)
    files.write_json(RESULTS / "adapters.json", found)
    (RESULTS / "adapters.md").write_text(page.render(found))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=arms.SETS, default=list(arms.SETS))
    parser.add_argument("--arms", nargs="+", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peft", metavar="PYTHON", help="an interpreter with torch, transformers and peft")
    parser.add_argument("--clock", type=int, metavar="ROUNDS", help="measure step times, so many rounds")
    parser.add_argument("--page", action="store_true", help="write the page and nothing else")
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "adapters")
    flags = parser.parse_args()
    if flags.clock:
        time_steps(flags.only, flags.arms, flags.clock, flags.workdir)
    elif not flags.page:
        run(flags.only, flags.arms, range(flags.seeds), flags.workdir, flags.peft)
    write_page(flags.workdir)


if __name__ == "__main__":
    main()
