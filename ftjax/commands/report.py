"""`ftjax report`: write report.html again from what the run directory holds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ftjax import reporting
from ftjax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `report`."""
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="run directory")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Render the page; 0 when it is written."""
    if flags:
        raise ConfigError("report takes the configuration of the run; --config.* has no meaning here")
    if not arguments.workdir.is_dir():
        raise ConfigError(f"no run directory {arguments.workdir}")
    sys.stdout.write(f"{reporting.render(arguments.workdir)}\n")
    return 0
