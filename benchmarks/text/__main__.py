"""`python -m benchmarks.text [--only trec sst2] [--seeds 3] [--precision bfloat16]`: compare on the sets and write benchmarks/results/text.md and .json.

A selection replaces its own rows of the results and leaves the others. A trial (`--steps`) is printed and not written.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from benchmarks.text import compare, data, page
from benchmarks.text.settings import Settings
from ftjax import files

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=data.NAMES, default=list(data.NAMES), metavar="NAME", help=", ".join(data.NAMES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of both libraries")
    parser.add_argument("--steps", type=int, help="a trial of so many steps, which is not written")
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "text")
    flags = parser.parse_args()
    settings = Settings(precision=flags.precision)
    kept = files.read_json(RESULTS / "text.json") if (RESULTS / "text.json").exists() else {}
    rows = {row["name"]: row for row in kept.get("rows", ())} if kept.get("settings") == dataclasses.asdict(settings) else {}
    for name in flags.only:
        text_set = data.named(name)
        text_set = text_set if flags.steps is None else dataclasses.replace(text_set, steps=flags.steps)
        rows[name] = compare.compare(text_set, settings, range(flags.seeds), flags.workdir, lambda line: print(line, flush=True))
        found = {"settings": dataclasses.asdict(settings), "rows": [rows[name] for name in data.NAMES if name in rows], "versions": page.versions()}
        if flags.steps is None:
            files.write_json(RESULTS / "text.json", found)
            (RESULTS / "text.md").write_text(page.render(found))
        else:
            print(page.render(found))


if __name__ == "__main__":
    main()
