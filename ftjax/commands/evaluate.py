"""`ftjax evaluate`: measure a finished run again, on one of its splits or on another folder of labelled images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ftjax import configuration, data, evaluation, files, reporting
from ftjax.commands.artefact import Predictor, load
from ftjax.errors import ConfigError, DataError, did_you_mean
from ftjax.evaluation import Records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="run directory of a finished run")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="which split of the run's own data")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the metrics there, too")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Measure and print metrics with intervals; --config.data.* may name other data with the same classes."""
    predictor = load(arguments.workdir)
    resolved = configuration.from_mapping(files.read_json(arguments.workdir / "config.json")["config"], "config.json")
    foreign = [key for key in flags if not key.startswith("data.")]
    if foreign:
        raise ConfigError(f"evaluate takes --config.data.* only, not --config.{foreign[0]}")
    config = configuration.resolve(None, flags, resolved).config
    dataset = data.collect(config.data, predictor.preprocessing.image, config.seed)
    records = relabel(predictor, dataset, arguments.split)
    found = evaluation.intervals(
        records,
        len(predictor.classes),
        config.evaluation.top_k,
        resamples=config.evaluation.bootstrap,
        confidence=config.evaluation.confidence,
        seed=config.seed,
    )
    with reporting.Progress("plain", 0) as view:
        rows = [(name, f"{v['value']:.4f}", f"{v['low']:.4f}", f"{v['high']:.4f}") for name, v in found.items()]
        view.table(f"{arguments.split}: {len(records):,} examples", ("metric", "value", "low", "high"), rows)
    if arguments.output:
        files.write_json(arguments.output, {"split": arguments.split, "examples": len(records), "metrics": found})
        sys.stdout.write(f"{arguments.output}\n")
    return 0


def relabel(predictor: Predictor, dataset: data.Dataset, split: str) -> Records:
    """Records of a split whose labels are put into the model's order of classes, by name.

    Raises:
      DataError: the data have a class that the model does not know.
    """
    for name in dataset.classes:
        if name not in predictor.classes:
            raise DataError(f"the data have class {name!r}, which the model does not know; {did_you_mean(name, predictor.classes)}")
    order = np.array([predictor.classes.index(name) for name in dataset.classes], np.int32)
    batches = ({**batch, "label": order[batch["label"]]} for batch in data.eval_batches(dataset.splits[split], predictor.batch_size))
    return predictor.records(batches)
