"""`ftjax export`: write a finished run's model in another library's format.

`--format hf` is a directory that transformers loads whole (sentence-transformers too, for embeddings), `--format peft` the adapters alone, for the library
peft (`export_peft`), `--format vectors` the table of a recommender's items (`export_vectors`). Each is read back before it is called written.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ftjax import models, trees, weights
from ftjax.commands.artefact import ORIGINAL
from ftjax.commands.export_peft import export_peft
from ftjax.commands.export_vectors import export_vectors
from ftjax.commands.export_writing import write_manner
from ftjax.commands.exported import described, held_by, in_units, refuse_apart
from ftjax.data import LanguagePreprocessing
from ftjax.errors import ConfigError, DataError, WeightsError

TOKENIZER = "tokenizer.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `export`."""
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="run directory of a finished run, or a copy of its model/")
    parser.add_argument(
        "--format",
        choices=("hf", "peft", "vectors"),
        default="hf",
        help="hf: config.json, model.safetensors and what prepares the input, as transformers reads them; peft: the adapters of the run without its base; "
        "vectors: those of a recommender's items, for a search by nearest neighbours",
    )
    parser.add_argument(
        "--base", metavar="NAME", help="peft: the base model as transformers finds it (owner/name, or a directory); default: what the run began from"
    )
    parser.add_argument(
        "--transformers", type=int, choices=(4, 5), default=5, help="peft: names of modules as transformers has them from 5.9 on (5), or before (4)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the directory to write; it must be empty or new")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Write the directory; 0 when it was read back as it should be."""
    if flags:
        raise ConfigError("export takes the configuration of the run; --config.* has no meaning here")
    output: Path = arguments.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"--output {output} is there already; allowed: an empty or a new directory")
    if arguments.format == "peft":
        warnings = export_peft(arguments.workdir, output, base=arguments.base, generation=arguments.transformers)
    elif arguments.format == "vectors":
        warnings = export_vectors(arguments.workdir, output)
    else:
        warnings = export(arguments.workdir, output)
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write(f"{output}\n")
    return 0


def export(workdir: Path, output: Path) -> tuple[str, ...]:
    """Write the model of a finished run to a Hugging Face directory and read it back.

    Returns:
      What transformers will do otherwise than the run did.

    Raises:
      DataError: there is no finished run.
      WeightsError: transformers has no such model, or what was read back is not what was written.
    """
    folder, description = described(workdir)
    refuse_apart(folder, description)
    model = models.build(models.ModelSpec.from_json(description["spec"]))
    tensors = weights.open_weights(str(folder / "weights.safetensors")).tensors
    flat = in_units({path: tensors[path] for path in tensors}, description)
    held = held_by(model.spec, description)
    tokenizer, longest = _tokenizer(folder, model, description)
    origin = folder / ORIGINAL
    carried = origin if origin.is_dir() else None
    weights.save_hugging_face(output, flat, held, task=description["task"], tokenizer=tokenizer, max_length=longest, carried=carried)
    if "writes" in description["preprocessing"]:
        write_manner(output, LanguagePreprocessing.from_json(description["preprocessing"], folder))
    _read_back(output, flat, model, held)
    return _left_behind(description["preprocessing"])


def _left_behind(preprocessing: dict[str, Any]) -> tuple[str, ...]:
    """Parts of the preprocessing that transformers has no place for; those that are absent are of older runs, which had only what it has."""
    views, truncation = preprocessing.get("views", "one"), preprocessing.get("truncation", "right")
    found = [f"the run answered by evaluation.views={views!r}; transformers sees every picture once, so its answers differ"] if views != "one" else []
    return (*found, *([f"the run cut long texts by text.truncation={truncation!r}; transformers cuts their end"] if truncation != "right" else []))


def _tokenizer(folder: Path, model: models.Model, description: dict[str, Any]) -> tuple[Path | None, int | None]:
    """The tokenizer of a text model, and where the run cut its texts.

    Raises:
      DataError: it is missing.
    """
    if model.family.reads != "text":
        return None, None
    if not (folder / TOKENIZER).is_file():
        raise DataError(f"{folder} is a text model without {TOKENIZER}; restore it from the run, or train again")
    return folder / TOKENIZER, int(description["preprocessing"]["max_length"])


def _read_back(output: Path, flat: dict[str, np.ndarray], model: models.Model, held: weights.Recognised) -> None:
    """Load the directory as any other of transformers and compare what its config.json says of the model, and every number.

    Raises:
      WeightsError: something differs.
    """
    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    target = {path: (leaf.shape, leaf.dtype) for path, leaf in (trees.flatten(params) | trees.flatten(extra.get("batch_stats", {}))).items()}
    source = weights.open_weights(str(output))
    found = weights.recognise(source)
    wrong = [name for name, value in model.family.options.items() if found.options.get(name, value) != model.spec.options.get(name, value)]
    if wrong or found.family != model.spec.family:
        raise WeightsError(f"{output}: its config.json describes another model than was written: {', '.join(wrong) or found.family}")
    plan = weights.plan(source, dataclasses.replace(found, num_classes=held.num_classes), target, reinitialise=(), image_size=held.image_size)
    read = plan.apply({path: np.zeros(shape, dtype) for path, (shape, dtype) in target.items()})
    odd = [path for path, array in read.items() if not np.array_equal(array, np.asarray(flat[path], np.float32))]
    if odd:
        raise WeightsError(f"{output}: what was read back is not what was written: {', '.join(odd[:5])}")
