"""`ftjax predict`: answer for new pictures, texts or histories with a finished run.

Pictures: one row per image, in the order of their names. Texts: the rows of a table come out again, all of them and in their order, with the answers beside.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftjax import configuration, data, evaluation
from ftjax.commands import recommended
from ftjax.commands.answered import beside
from ftjax.commands.artefact import Predictor, load
from ftjax.config import Config, TextConfig
from ftjax.data.language.prompts import read_prompts
from ftjax.errors import ConfigError

LINE = "0"
"""The one column of a file of lines: they have no names."""
NOT_GIVEN = ("tags", "answers")
_READS = {True: "reads texts", False: "reads pictures"}
_OF_KINDS = {
    ("writes texts",): ("max_tokens", "temperature", "seed"),
    ("recommends",): ("top_k", "exclude"),
    ("reads pictures",): ("bad_files",),
    ("reads texts", "reads pictures"): ("probabilities",),
}
"""Which flags say something to which models."""
_OF_A_LOG = ("form", "user", "item", "time")
"""Keys of `recommendation` that say how a log is read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `predict`."""
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="run directory of a finished run")
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        metavar="DIR|FILE",
        help="pictures: a folder (searched through) or one image; texts: a table, or one text a line; recommenders: a log of users and items",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.jsonl|FILE.csv", help="where the predictions go")
    parser.add_argument(
        "--bad-files", choices=("error", "skip"), help="pictures: what an unreadable one does: end the command (default), or be left out and named"
    )
    parser.add_argument("--probabilities", action="store_true", help="write the probability of every class")
    parser.add_argument("--top-k", type=int, metavar="N", help="recommenders: items of each list; default: 10")
    parser.add_argument("--exclude", type=Path, metavar="FILE", help="recommenders: lines 'item' or 'user item' of what is not to be recommended")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="models that write: tokens of an answer, at most; default: 128, or what fits")
    parser.add_argument("--temperature", type=float, metavar="T", help="models that write: 0 (default) takes the best token, above it tokens are drawn")
    parser.add_argument("--seed", type=int, help="models that write: of what is drawn; default: 0")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Read, predict, write; 0 when every example was answered."""
    foreign = [key for key in flags if not key.startswith("text.") and key.removeprefix("recommendation.") not in _OF_A_LOG]
    if foreign:
        raise ConfigError(f"predict takes the configuration of the run; only --config.text.* says how a file is read, not --config.{foreign[0]}")
    evaluation.check_output(arguments.output)
    predictor = load(arguments.workdir)
    _check_flags(predictor, arguments)
    if predictor.recommends:
        rows = _histories(predictor, arguments, flags)
    elif predictor.writes:
        rows = _written(predictor, arguments, flags)
    else:
        rows = _texts(predictor, arguments, flags) if predictor.reads_text else _images(predictor, arguments, flags)
    sys.stdout.write(f"{rows} predictions written to {arguments.output}\n")
    return 0


def _check_flags(predictor: Predictor, arguments: argparse.Namespace) -> None:
    """Refuse what would say nothing to this model.

    Raises:
      ConfigError: naming the flag.
    """
    kind = next(
        name for name, is_so in (("writes texts", predictor.writes), ("recommends", predictor.recommends), (_READS[predictor.reads_text], True)) if is_so
    )
    foreign = [name for kinds, names in _OF_KINDS.items() if kind not in kinds for name in names]
    for name in foreign:
        if (given := getattr(arguments, name)) is not None and given is not False:
            raise ConfigError(f"--{name.replace('_', '-')} says nothing to a model that {kind}; leave it out")


def _images(predictor: Predictor, arguments: argparse.Namespace, flags: Mapping[str, str]) -> int:
    """Answers for pictures, by file; how many."""
    if flags:
        raise ConfigError("predict takes the configuration of the run; --config.* has no meaning here")
    images = predictor.read(arguments.input, bad_files=arguments.bad_files or "error")
    rows = predictor.rows(images, probabilities=arguments.probabilities)
    evaluation.write_predictions(arguments.output, rows)
    for rejected in images.rejected:
        sys.stderr.write(f"left out: {rejected['file']}: {rejected['why']}\n")
    return len(rows)


def _histories(predictor: Predictor, arguments: argparse.Namespace, flags: Mapping[str, str]) -> int:
    """Recommendations for the users of a log, a line for each of them in `.jsonl` and for each item in `.csv`; how many users."""
    config = configuration.resolve(None, dict(flags), Config()).config
    histories = data.read_histories(str(arguments.input), config.text, config.recommendation)
    excluded = recommended.read_excluded(arguments.exclude) if arguments.exclude else ()
    rows, unknown = recommended.recommend(predictor, histories, top_k=10 if arguments.top_k is None else arguments.top_k, exclude=excluded)
    evaluation.write_predictions(arguments.output, recommended.as_table(rows) if arguments.output.suffix.lower() == ".csv" else rows)
    if unknown:
        sys.stderr.write(f"warning: {data.told_unknown(unknown)}\n")
    empty = sum(not any(item not in unknown for item in items) for items in histories.values())
    if empty:
        sys.stderr.write(f"warning: {empty} of {len(histories)} users have no item that the model knows; they are all recommended the same\n")
    return len(rows)


def _written(predictor: Predictor, arguments: argparse.Namespace, flags: Mapping[str, str]) -> int:
    """What the model writes after every prompt, beside it; how many."""
    prompts = read_prompts(arguments.input, _text_config(flags), predictor.preprocessing)
    for warning in prompts.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sampling = {"max_tokens": arguments.max_tokens, "temperature": arguments.temperature or 0.0, "seed": arguments.seed or 0}
    found = predictor.write(prompts.asked, names=prompts.names, **sampling)
    answers = [{"id": name, "prediction": text} for name, text in zip(prompts.names, found)]
    evaluation.write_predictions(arguments.output, beside(prompts.rows, answers))
    return len(answers)


def _texts(predictor: Predictor, arguments: argparse.Namespace, flags: Mapping[str, str]) -> int:
    """Answers for the rows of a table, beside them; how many."""
    found, split = data.read_texts(arguments.input, predictor.preprocessing, _text_config(flags))
    rows = named(found)
    evaluation.write_predictions(arguments.output, beside(rows, predictor.rows(split, probabilities=arguments.probabilities)))
    empty = sum(not any(str(part).strip() for part in _parts(split.show(row))) for row in range(len(split)))
    if empty:
        sys.stderr.write(f"warning: {empty} of {len(rows)} rows have no text; they were answered as the model answers an empty one\n")
    return len(rows)


def named(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows without columns that only their reader knows, tags and answers that nobody gave; the one column of a file of lines is called `text`."""
    if list(rows[0]) == [LINE]:
        return [{"text": row[LINE]} for row in rows]
    absent = {name for name in NOT_GIVEN if name in rows[0] and not any(row[name] for row in rows)}
    return [{name: value for name, value in row.items() if name not in absent} for row in rows]


def _parts(shown: Mapping[str, Any]) -> list[Any]:
    """The texts of an example."""
    return [shown[name] for name in ("text", "text_pair", "question") if name in shown]


def _text_config(flags: Mapping[str, str]) -> TextConfig:
    """How the file is read, as the flags say; where they are silent it is found out."""
    return configuration.resolve(None, dict(flags), Config()).config.text
