"""`ftjax export --format peft`: the adapters of a finished run as the library peft reads them, without the base they stand on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax

from ftjax import models, trees, weights
from ftjax.commands.exported import described, held_by, in_units
from ftjax.errors import ConfigError, DataError
from ftjax.training import peft

ADAPTER = Path("adapter") / "adapter.safetensors"
PROMPT = "stem/prompt"


def export_peft(workdir: Path, output: Path, *, base: str | None = None, generation: int = 5) -> tuple[str, ...]:
    """Write the adapters of a finished run, and the head that trained beside them; `write_peft` reads them back.

    Args:
      workdir: run directory, or a copy of its `model/`.
      output: the folder to write.
      base: the base model as transformers finds it; None: what the run began from.
      generation: names of modules as transformers has them from 5.9 on (5) or before (4).

    Returns:
      Warnings.

    Raises:
      DataError: there is no finished run, or it has no adapters of its own.
      ConfigError: the run began from something that transformers does not find.
      WeightsError: a PEFT file cannot hold these adapters.
    """
    folder, description = described(workdir)
    if not (folder / ADAPTER).is_file():
        why = "the run trained none, or averaged weights won (after.candidates)"
        raise DataError(f"{folder} has no adapter of its own, {ADAPTER.as_posix()}: {why}; allowed: --format hf, which writes the merged weights")
    source = weights.open_weights(str(folder / ADAPTER))
    config = json.loads(source.metadata["adapter"])
    model = models.build(models.ModelSpec.from_json(description["spec"]))
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(jax.eval_shape(model.init, jax.random.key(0))[0]).items()}
    arrays = {path: source.tensors[path] for path in source.tensors}
    if description["task"] == "regression" and "head/kernel" not in arrays:
        raise DataError(f"{folder}: the head of the regression did not train, so a PEFT file has no place for the unit of its answers; allowed: --format hf")
    arrays = in_units(arrays, description)
    bound, name = json.loads(source.metadata["bound"]), base or _base(json.loads(source.metadata["base"]))
    if any(row["path"] == PROMPT for row in bound):
        weights.write_prompt(output, arrays[f"{PROMPT}/tokens"], held_by(model.spec, description), base_name=name)
        return _warnings(config)
    settings = {"lora_dropout": config["dropout"], "use_rslora": config["scaling"] == "rslora"}
    adapter = peft.of_arrays(arrays, bound, settings)
    task = weights.PEFT_TASKS.get(description["task"]) if model.family.reads == "text" else None
    weights.write_peft(output, adapter, held_by(model.spec, description), shapes, base_name=name, task_type=task, generation=generation)
    return _warnings(config)


def _base(began: dict[str, Any] | None) -> str:
    """The base as transformers finds it.

    Raises:
      ConfigError: it is no Hugging Face model; somebody must say which one it equals.
    """
    source = "" if began is None else str(began["source"])
    if source.startswith("hf://"):
        return source.removeprefix("hf://").partition("@")[0]
    if (Path(source) / "config.json").is_file() and source:
        return source
    raise ConfigError(f"the run began from {source or 'random weights'}, which transformers does not load; name the same weights there with --base")


def _warnings(config: dict[str, Any]) -> tuple[str, ...]:
    rounded = config["base"] == "int8"
    return ("the adapters were trained on a base in 8 bits; on the base in full precision the answers differ a little",) if rounded else ()
