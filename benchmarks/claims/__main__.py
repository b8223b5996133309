"""`python -m benchmarks.claims [--seeds 8] [--only NAME ...] [--page-only]`: measure the claims, write claims.json and docs/claims.md.

Goes on where an earlier run stopped (`--cache`, a folder that git ignores). A selection (`--only`, `--seeds`, `--rates`) is judged and printed; only the
whole table at its full settings is written, unless `--output` names another file. Ends with 1 when a control fails: then no verdict means anything.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# One device per core, before JAX starts: members are spread over devices.
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={os.cpu_count()}")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A run that goes on need not compile again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[2] / "runs" / "claims" / "compiled"))

from benchmarks.claims import experiments, page, running, statements
from ftjax import files

ROOT = Path(__file__).parents[2]
JSON, PAGE = ROOT / "benchmarks" / "results" / "claims.json", ROOT / "docs" / "claims.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rates", type=float, nargs="+", default=list(experiments.RATES), help="learning rates of every arm's grid")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="claims whose name begins with this")
    parser.add_argument("--page-only", action="store_true", help="write the page from the results that are there")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "claims")
    parser.add_argument("--output", type=Path, help="where to write the results of a selection")
    flags = parser.parse_args()
    if flags.page_only:
        PAGE.write_text(page.render(files.read_json(JSON)))
        return 0
    claims = [claim for claim in statements.CLAIMS if not flags.only or claim.name.startswith(tuple(flags.only))]
    if not claims:
        parser.error(f"no claim begins with {' or '.join(flags.only)}; there are {', '.join(claim.name for claim in statements.CLAIMS)}")
    found = running.run(claims, flags.seeds, flags.cache, tuple(flags.rates), lambda line: print(line, flush=True))
    for line in page.lines(found):
        print(line)
    whole = not flags.only and flags.seeds == 8 and tuple(flags.rates) == experiments.RATES
    if whole or flags.output:
        files.write_json(flags.output or JSON, found)
    if whole:
        PAGE.write_text(page.render(found))
    failed = page.failed_controls(found)
    for line in failed:
        print("control failed:", line)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
