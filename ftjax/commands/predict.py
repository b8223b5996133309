"""`ftjax predict`: label new images with a finished run; one row per image, in the order of their names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ftjax import evaluation
from ftjax.commands.artefact import load
from ftjax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `predict`."""
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="run directory of a finished run")
    parser.add_argument("--input", required=True, type=Path, metavar="DIR|FILE", help="folder of images (searched through) or one image")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.jsonl|FILE.csv", help="where the predictions go")
    parser.add_argument(
        "--bad-files", default="error", choices=("error", "skip"), help="what an unreadable image does: end the command, or be left out and named"
    )
    parser.add_argument("--probabilities", action="store_true", help="write the probability of every class")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Read, predict, write; 0 when every image was labelled."""
    if flags:
        raise ConfigError("predict takes the configuration of the run; --config.* has no meaning here")
    evaluation.check_output(arguments.output)
    predictor = load(arguments.workdir)
    images = predictor.read(arguments.input, bad_files=arguments.bad_files)
    rows = evaluation.prediction_rows(predictor.logits(images), images.ids, predictor.classes, probabilities=arguments.probabilities)
    evaluation.write_predictions(arguments.output, rows)
    for rejected in images.rejected:
        sys.stderr.write(f"left out: {rejected['file']}: {rejected['why']}\n")
    sys.stdout.write(f"{len(rows)} predictions written to {arguments.output}\n")
    return 0
