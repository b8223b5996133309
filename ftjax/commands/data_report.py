"""`ftjax data report PATH`: the whole inspection of a data set without a model, as a table on the terminal and a page; also findings.json and drop.txt.

A log of interactions is cleaned and split as a run would do it, and has no drop.txt: events go by rules (`recommendation.*`).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

from ftjax import config_usage, configuration, files, reporting
from ftjax.commands.data_suspects import suspicious
from ftjax.commands.shown import example
from ftjax.config import INTERACTION_SOURCES, TEXT_SOURCES, Config
from ftjax.data.findings import Findings, inspect_images
from ftjax.data.guess import guess_source
from ftjax.data.interactions.findings import inspect_interactions
from ftjax.data.text.findings import inspect_texts
from ftjax.errors import ConfigError
from ftjax.reporting import data_page, wording

_TASKS = {"conll": "token_classification", "squad": "question_answering", "interactions": "recommendation"}
_READ = ("data.", "text.", "task.name", "recommendation.")
_OF_MODEL = ("model.", "evaluation.batch_size")
"""Further keys that are read with `--pretrained`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `data report`."""
    parser.add_argument("path", metavar="PATH", help="folder of photos, archive, .npz, shards, or a file or folder of texts; --config.data.KEY=value overrides")
    parser.add_argument("--output", type=Path, default=Path("data_report.html"), metavar="FILE.html", help="the page; findings.json and drop.txt go beside it")
    parser.add_argument(
        "--pretrained",
        metavar="WEIGHTS",
        help="file, directory or builtin:digits: also labels that are probably wrong and rows far from all others, by its features",
    )


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Inspect, print and write; 0 also where something was found.

    Raises:
      FtjaxError: the data cannot be read at all, or a flag means nothing here.
    """
    read = _READ if arguments.pretrained is None else (*_READ, *_OF_MODEL)
    foreign = next((key for key in flags if not key.startswith(read)), None)
    if foreign is not None:
        also = "" if arguments.pretrained is None else "; with --pretrained also model.* and evaluation.batch_size"
        raise ConfigError(f"--config.{foreign} means nothing to `data report`; it reads data.*, text.*, recommendation.* and task.name{also}")
    if "data.cache" in flags:
        raise ConfigError("--config.data.cache means nothing to `data report`: it keeps nothing of what it decodes or computes; leave it out")
    if arguments.output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--output {arguments.output}: name a .html file")
    config, why = _config(arguments.path, flags)
    config_usage.check_used(config)
    with reporting.Progress("plain") as view:
        view.message(f"source: {config.data.source} ({why})")
        began = time.monotonic()
        findings = _inspect(config, view)
        if arguments.pretrained is not None:
            if config.data.source in INTERACTION_SOURCES:
                raise ConfigError("--pretrained looks at the features of pictures and texts; a log of interactions has none: leave it out")
            findings = suspicious(configuration.replace(config, {"model.pretrained": arguments.pretrained}), findings)
        report: dict[str, Any] = {
            "source": config.data.source,
            "why": why,
            "path": arguments.path,
            **findings.report,
            "seconds": round(time.monotonic() - began, 1),
        }
        for title, columns, rows in data_page.tables(report):
            view.table(title, columns, rows)
        for warning in report["warnings"]:
            view.message(f"warning: {warning}")
        for file in _write(arguments.output, report, findings):
            view.message(str(file))
    return 0


def _config(path: str, flags: dict[str, str]) -> tuple[Config, str]:
    """The configuration with the source that was said or guessed, and why."""
    source, why = (flags["data.source"], "given") if "data.source" in flags else guess_source(path)
    base = Config()
    data = dataclasses.replace(base.data, path=path, bad_files="skip")
    said = {"data.source": source, "task.name": _TASKS.get(source, base.task.name), **flags}
    return configuration.resolve(None, said, dataclasses.replace(base, data=data)).config, why if why == "given" else f"guessed: {why}"


def _inspect(config: Config, view: reporting.Progress) -> Findings:
    if config.data.source in INTERACTION_SOURCES:
        return inspect_interactions(config.data, config.text, config.recommendation, config.seed)
    if config.data.source in TEXT_SOURCES:
        return inspect_texts(config.data, config.text, config.task)
    said = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= 5:
            said = time.monotonic()
            view.message(f"read {done:,} of {total:,} images")

    return inspect_images(config.data, progress)


def _write(page: Path, report: dict[str, Any], findings: Findings) -> list[Path]:
    """The page, findings.json and drop.txt."""
    folder = page.parent
    if "interactions" in report:
        files.write_json(folder / "findings.json", report)
        files.write_text(page, data_page.page(report, {}))
        return [page, folder / "findings.json"]
    seen = {name: example({"id": name}, findings.show(name)) for name in data_page.shown(report)}
    files.write_json(folder / "findings.json", report)
    files.write_text(folder / "drop.txt", drop_list(report))
    files.write_text(page, data_page.page(report, seen))
    return [page, folder / "findings.json", folder / "drop.txt"]


def drop_list(report: dict[str, Any]) -> str:
    """What `data.drop` takes: rows that a training would rather not see, those for a person to judge as comments."""
    advice = report["advice"]
    lines = [
        f"# {wording.printable(report['path'])}: rows to leave out with --config.data.drop=THIS_FILE; remove a line to keep its row.",
        "# Lines that begin with # are suggestions: remove the # to leave the row out as well.",
    ]
    lines += [f"{entry['id']}  # {entry['why']}" for entry in advice if entry["sure"]]
    lines += [f"# {entry['id']}  # {entry['why']}" for entry in advice if not entry["sure"]]
    return "\n".join(lines) + "\n"
