"""`ftjax evaluate`: measure a finished run again, on one of its splits or on other labelled data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ftjax import configuration, data, files, reporting
from ftjax.commands.artefact import Predictor, load
from ftjax.config import Config
from ftjax.data import SPLITS
from ftjax.errors import ConfigError, DataError, did_you_mean
from ftjax.tasks import Classification, Preference

_OF_THE_RUN = ("labels_per_class", "fraction", "max_per_class", "drop", "validation_path", "test_path", "group", "time", "folds", "test_fold")
"""What said of the run's own data which rows are for what."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="run directory of a finished run")
    parser.add_argument("--split", choices=(*SPLITS, "all"), help="which split (default: test of the run's own data, all of other data)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the metrics there, too")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Measure and print metrics with intervals; --config.data.* may name other data with the same classes."""
    predictor = load(arguments.workdir)
    if isinstance(predictor.task, Preference):
        raise ConfigError("preferences are measured against the model as it came, which a finished run does not hold; result.json has its test metrics")
    config = _config(arguments.workdir, flags, predictor)
    split = arguments.split or ("all" if _elsewhere(flags) else "test")
    if _elsewhere(flags) and split == "all":
        records = predictor.records(_whole(config, predictor))
    else:
        records = relabel(predictor, _collected(arguments.workdir, config, flags, predictor), split)
    found = predictor.measures.intervals(
        records,
        resamples=config.evaluation.bootstrap,
        confidence=config.evaluation.confidence,
        seed=config.seed,
    )
    with reporting.Progress("plain", 0) as view:
        rows = [(name, f"{v['value']:.4f}", f"{v['low']:.4f}", f"{v['high']:.4f}") for name, v in found.items()]
        view.table(f"{split}: {len(records):,} examples", ("metric", "value", "low", "high"), rows)
    if arguments.output:
        files.write_json(arguments.output, {"split": split, "examples": len(records), "metrics": found})
        sys.stdout.write(f"{arguments.output}\n")
    return 0


def _config(workdir: Path, flags: dict[str, str], predictor: Predictor) -> Config:
    """The run's configuration; where the flags name other data, without what was said of the run's own."""
    foreign = [key for key in flags if not key.startswith(("data.", "text.")) or key in ("text.max_length", "text.stride")]
    if foreign:
        raise ConfigError(f"evaluate takes --config.data.* and --config.text.* only (texts are cut as in training), not --config.{foreign[0]}")
    if not (workdir / "config.json").is_file():
        raise ConfigError(f"{workdir} has no config.json, so its data are not known; evaluate needs the run directory, not a copy of its model")
    trained = configuration.from_mapping(files.read_json(workdir / "config.json")["config"], "config.json")
    if not flags:
        return trained
    # Splits and samples were for training, and so were the run's own validation and test files; what is measured is what the flags name.
    opened = {f"data.{key}": "none" for key in _OF_THE_RUN} | {"data.split": "stratified", "data.mixture": "()"} if _elsewhere(flags) else {}
    return configuration.resolve(None, opened | _columns(predictor, flags) | dict(flags), trained).config


def _whole(config: Config, predictor: Predictor) -> data.Split:
    """Every row of other data; what was left out is said."""
    if predictor.recommends:
        raise ConfigError("histories are measured by what came next, which a split says; name one of another log with the same items: --split test")
    if isinstance(predictor.preprocessing, data.LanguagePreprocessing):
        split = data.labelled_language(config.data, config.text, config.task, predictor.preprocessing.encoder)
    elif predictor.reads_text:
        cutting = predictor.preprocessing
        split = data.labelled_texts(config.data, config.text, config.task, cutting.tokenizer, cutting.max_length, predictor.classes)
    else:
        split = data.labelled_images(config.data, predictor.preprocessing.image, predictor.classes)
    for rejected in split.rejected:
        sys.stderr.write(f"left out: {rejected['file']}: {rejected['why']}\n")
    return split


def _collected(workdir: Path, config: Config, flags: dict[str, str], predictor: Predictor) -> data.Dataset:
    """The run's own data, which must be those it was trained on, or the splits of the ones that the flags name."""
    dataset = _collect(config, predictor)
    stored = files.read_json(workdir / "data.json")["fingerprint"]
    if not _elsewhere(flags) and dataset.report["fingerprint"] != stored:
        raise DataError(
            f"{dataset.report['source']} has changed since the run ({stored[:12]}, now {dataset.report['fingerprint'][:12]}), so its test split may hold "
            f"examples that were trained on; restore it, or name other data with --config.data.path"
        )
    return dataset


def _elsewhere(flags: Mapping[str, str]) -> bool:
    """Whether the flags name other data."""
    return any(key in flags for key in ("data.source", "data.path", "data.name", "data.validation_path", "data.test_path"))


def _columns(predictor: Predictor, flags: Mapping[str, str]) -> dict[str, str]:
    """The columns that the model was trained on: other data are not guessed anew."""
    if not predictor.reads_text or predictor.preprocessing.columns is None or flags.get("data.source", "table") != "table":
        return {}
    if isinstance(predictor.preprocessing, data.LanguagePreprocessing):
        return {f"text.{role}": column for role, column in predictor.preprocessing.columns if role != "input"}
    text, pair = predictor.preprocessing.columns
    return {"text.text": text} | ({"text.text_pair": pair} if pair else {})


def _collect(config: Config, predictor: Predictor) -> data.Dataset:
    """The data as the run collects them, cut or fitted as the model wants them."""
    if predictor.recommends:
        return data.collect_interactions(config.data, config.text, config.recommendation, config.seed)
    if not predictor.reads_text:
        return data.collect(config.data, predictor.preprocessing.image, config.seed)
    cutting = predictor.preprocessing
    if isinstance(cutting, data.LanguagePreprocessing):
        return data.collect_language(config.data, config.text, config.task, cutting.encoder, config.seed)
    return data.collect_text(config.data, config.text, config.task, cutting.tokenizer, cutting.max_length, config.seed)


def relabel(predictor: Predictor, dataset: data.Dataset, split: str) -> Any:
    """Records of a split ("all": of every split) whose labels are put into the model's order of classes, by name.

    Raises:
      DataError: the data have a class that the model does not know.
    """
    if predictor.recommends and tuple(dataset.classes) != predictor.classes:
        odd = next((name for name in dataset.classes if name not in set(predictor.classes)), None)
        told = f"{odd!r} is none of the model's" if odd is not None else f"it has {len(dataset.classes):,} of the model's {len(predictor.classes):,}"
        raise DataError(f"the log has other items than the model was trained with ({told}), so their numbers differ; use ftjax predict")
    for name in dataset.classes:
        if name not in predictor.classes:
            raise DataError(f"the data have class {name!r}, which the model does not know; {did_you_mean(name, predictor.classes)}")
    order = np.array([predictor.classes.index(name) for name in dataset.classes], np.int32) if isinstance(predictor.task, Classification) else None
    if order is None and tuple(dataset.classes) != predictor.classes:
        raise DataError(
            f"the data have labels {', '.join(dataset.classes)}, the model {', '.join(predictor.classes)}; they must be the same, in the same order"
        )
    parts = [predictor.records(dataset.splits[name], order) for name in (SPLITS if split == "all" else (split,))]
    return predictor.measures.table.concatenate(parts)
