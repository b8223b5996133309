"""`python -m benchmarks.adapters [--only trec eurosat] [--arms full IA3] [--seeds 3]`: compare the methods and write benchmarks/results/adapters.md and .json.

Every finished cell (a method on a set) lies as JSON in the work directory and is not made again; the page is written anew from all that are there.
`--peft PYTHON` names an interpreter with torch, transformers and peft, and adds peft's LoRA on the same weights, batches and rates.
`--clock` measures step times instead, all methods in turn.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from benchmarks.adapters import arms, cell
from ftjax import files

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def found_at(workdir: Path, data_set: str, name: str) -> Path:
    """Where the numbers of a cell lie."""
    return workdir / "found" / f"{data_set}_{name.replace(' ', '_')}.json"


def run(sets: list[str], wanted: list[str], seeds: range, workdir: Path) -> None:
    """Every cell that is not there yet, all sets of a method before the next method: sets of one shape share a compiled step."""
    datasets: dict[str, Any] = {}
    for arm in arms.arms():
        for data_set in sets:
            target = found_at(workdir, data_set, arm.name)
            if target.exists() or (wanted and arm.name not in wanted):
                continue
            print(f"{data_set}, {arm.name}", flush=True)
            made = cell.Cell(data_set, arm, workdir / "data", datasets.get(data_set))
            datasets[data_set] = made.plan.dataset
            target.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(target, cell.measure(made, seeds, lambda line: print(line, flush=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=arms.SETS, default=list(arms.SETS))
    parser.add_argument("--arms", nargs="+", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "adapters")
    flags = parser.parse_args()
    run(flags.only, flags.arms, range(flags.seeds), flags.workdir)


if __name__ == "__main__":
    main()
