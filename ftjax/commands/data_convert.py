"""`ftjax data convert`: collect, clean and split once, and write the result as ArrayRecord.

Read it back with `data.source='array_record'` (pictures) or `data.source='table'` (texts) and the folder as `data.path`: the same ids, labels and splits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ftjax import config_usage, configuration, data, reporting
from ftjax.commands import show
from ftjax.config import INTERACTION_SOURCES, TEXT_SOURCES, Config
from ftjax.data.convert import convert
from ftjax.errors import ConfigError
from ftjax.training.reading import reader
from ftjax.training.select import select

_FORMAT = data.ImageFormat((32, 32))
"""The pixels of the splits are not looked at; what is written is what the files hold."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `data convert`."""
    parser.add_argument(
        "--config", required=True, metavar="FILE.py[:ARGUMENT]", help="configuration; --config.key=value overrides a key. This file is executed"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="new folder")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Collect and write; 0 when everything that was written can be read."""
    config = configuration.resolve(arguments.config, flags).config
    config_usage.check_used(config)
    if arguments.output.exists():
        raise ConfigError(f"--output={arguments.output} is there already; name a new folder, nothing is overwritten")
    if config.data.mixture:
        raise ConfigError("data.mixture is set; convert the data sets one by one, and mix what was written")
    text = config.data.source in TEXT_SOURCES
    if config.data.source in INTERACTION_SOURCES:
        raise ConfigError(f"data.source={config.data.source!r} is a log that is read in seconds; there is nothing to convert")
    if config.data.source == "squad":
        raise ConfigError("data.source='squad' is one JSON file, read at once; there is nothing to convert")
    _check_convertible(config)
    with reporting.Progress("plain") as view:
        dataset = _collected(config, show.Decoding(view))
        for warning in dataset.report["warnings"]:
            view.message(f"warning: {warning}")
    written = convert(dataset, config.data, config.text if text else None, arguments.output)
    rows = ", ".join(f"{count:,} {name}" for name, count in written.items())
    source = "table" if text else "array_record"
    sys.stdout.write(f"{arguments.output}: {rows}\nread it with --config.data.source={source} --config.data.path={arguments.output}\n")
    return 0


def _check_convertible(config: Config) -> None:
    """Refuse what only a run can do to its rows.

    Raises:
      ConfigError: rows would be judged by a model, or become available by and by.
    """
    for key in ("label_errors", "outliers"):
        if getattr(config.data, key) != "off":
            raise ConfigError(
                f"data.{key}={getattr(config.data, key)!r} judges rows by a pretrained model, and convert has none; write the ids to leave out into a file for "
                "data.drop (ftjax data report --pretrained makes one), or set it when you train on what is written"
            )
    if config.data.curriculum in data.PACED:
        raise ConfigError(f"data.curriculum={config.data.curriculum!r} says when rows are drawn, which files cannot; set it when you train on what is written")


def _collected(config: Config, progress: data.Progress) -> data.Dataset:
    """Pictures need no model; how texts are cut into tokens is in the report, so they need theirs."""
    if config.data.source in TEXT_SOURCES:
        return reader(config, select(config)).collect(config, progress)
    return data.collect(config.data, _FORMAT, config.seed, progress=progress)
