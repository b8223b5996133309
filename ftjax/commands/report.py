"""`ftjax report`: write report.html (or ablation.html) again from what a folder holds, or compare several run directories."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ftjax import reporting
from ftjax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `report`."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="DIR", help="run directories to compare: their results, and what differs between their settings")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="run directory, or folder of an ablation, whose page is written again")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Render the page, or print the comparison; 0 when it is done."""
    if flags:
        raise ConfigError("report takes the configuration of the run; --config.* has no meaning here")
    if bool(arguments.runs) == (arguments.workdir is not None):
        raise ConfigError("name one folder with --workdir DIR to write its page, or two or more to compare: ftjax report A B C")
    if len(arguments.runs) == 1:
        raise ConfigError(f"a comparison needs two run directories or more; for the page of one: ftjax report --workdir {arguments.runs[0]}")
    for folder in [*arguments.runs, *([arguments.workdir] if arguments.workdir else [])]:
        if not folder.is_dir():
            raise ConfigError(f"no run directory {folder}")
    if arguments.runs:
        sys.stdout.write(reporting.compare(arguments.runs))
        return 0
    of_ablation = (arguments.workdir / "ablation.json").exists()
    sys.stdout.write(f"{(reporting.render_ablation if of_ablation else reporting.render)(arguments.workdir)}\n")
    return 0
