"""An adapter out: a folder that `PeftModel.from_pretrained` loads, with no key that an older peft does not know, the same bytes for the same adapter.

The names are those of transformers from 5.9 on, or before it (`generation=4`), which differ for ViT. What was written is read back and compared.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.errors import WeightsError
from ftjax.files import write_text
from ftjax.weights.maps.base import Recognised
from ftjax.weights.peft import AdapterFile
from ftjax.weights.peft_config import ADAPTER_CONFIG
from ftjax.weights.peft_names import Place, Shapes, Spelling, is_transposed, refuse_tied, written_spelling
from ftjax.weights.peft_reading import ADAPTER_WEIGHTS, PREFIX, read_peft
from ftjax.weights.saving import save_safetensors

PEFT_TASKS: Mapping[str, str] = {
    "classification": "SEQ_CLS",
    "multi_label": "SEQ_CLS",
    "regression": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "question_answering": "QUESTION_ANS",
    "sentence_embedding": "FEATURE_EXTRACTION",
    "language_modeling": "CAUSAL_LM",
    "preference": "CAUSAL_LM",
}
"""peft's word for each task on texts; pictures have none (peft's SEQ_CLS wants tokens)."""
_KEPT = ("lora_dropout", "revision")


def write_peft(
    folder: str | Path, adapter: AdapterFile, held: Recognised, shapes: Shapes, *, base_name: str | None, task_type: str | None = None, generation: int = 5
) -> None:
    """Write `adapter_config.json`, `adapter_model.safetensors` and a short `README.md`.

    Args:
      folder: made if it is missing.
      adapter: what to write.
      held: what the base model is; with `output="embedding"` the names are those of a bare model.
      shapes: shape of every leaf of the model by its path.
      base_name: for `base_model_name_or_path`, a repository's name or a folder.
      task_type: peft's word for the task, one of `PEFT_TASKS`, or None.
      generation: 5 for the names inside transformers from 5.9 on, 4 for those before.

    Raises:
      WeightsError: a file of peft has no place for something, or what was read back is not what was written.
    """
    folder = Path(folder)
    if generation not in (4, 5):
        raise WeightsError(f"generation={generation!r} of transformers; allowed: 5 (from 5.9 on) or 4 (before)")
    spelling = written_spelling(held, shapes, generation, held.options.get("output") == "embedding" or task_type == "FEATURE_EXTRACTION")
    # A head of tokens is a classifier or the one of answers, by the task.
    other = "classifier." if task_type == PEFT_TASKS["question_answering"] else "qa_outputs."
    spelling = dataclasses.replace(spelling, tensors={name: places for name, places in spelling.tensors.items() if not name.startswith(other)})
    refuse_tied(held, (*adapter.adapted, *adapter.saved), str(folder))
    names = _named(adapter, spelling)
    tensors = {key: array for module, places in names.items() for key, array in _factors(adapter, module, places).items()}
    tensors |= _whole(adapter, spelling, names)
    settings = _settings(adapter, spelling, names, base_name, task_type)
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / ADAPTER_WEIGHTS, tensors, {"format": "pt"})
    write_text(folder / ADAPTER_CONFIG, json.dumps(settings, indent=2, sort_keys=True, allow_nan=False) + "\n")
    write_text(folder / "README.md", _card(adapter, settings))
    _compare(folder, adapter, read_peft(folder, held, shapes))


def _named(adapter: AdapterFile, spelling: Spelling) -> dict[str, tuple[Place, ...]]:
    """The module of every adapted weight; one whose weight lies fused with others is adapted whole or not at all.

    Raises:
      WeightsError: a weight has no name, or only a part of a fused one is adapted.
    """
    adapted, names = set(adapter.adapted), {}
    for tensor, places in spelling.tensors.items():
        mine = [place.path for place in places if place.path in adapted]
        if mine and len(mine) < len(places):
            rest = ", ".join(place.path for place in places if place.path not in adapted)
            raise WeightsError(f"{', '.join(mine)}: {tensor} of a {spelling.name_map.name} holds {rest} too; adapt all of them or none")
        if mine:
            names.setdefault(tensor.removesuffix(".weight"), places)
            adapted -= set(mine)
    if adapted:
        raise WeightsError(f"{sorted(adapted)[0]}: a {spelling.name_map.name} has no module for it, so a PEFT file cannot hold its adapter")
    return names


def _factors(adapter: AdapterFile, module: str, places: tuple[Place, ...]) -> dict[str, np.ndarray]:
    """The tensors of one module."""

    def of(field: str) -> list[np.ndarray]:
        return [np.asarray(adapter.tensors[f"{place.path}/{field}"], np.float32) for place in places]

    if adapter.kind == "ia3":
        side = adapter.sides[places[0].path]
        return {f"{PREFIX}{module}.ia3_l": _same(module, of("gain"))[None] if side == "input" else np.concatenate(of("gain"))[:, None]}
    a, b = _same(module, of("a")), np.concatenate([part.T for part in of("b")])
    if places[0].path.endswith("/embedding"):
        return {f"{PREFIX}{module}.lora_embedding_A": _plain(a.T), f"{PREFIX}{module}.lora_embedding_B": _plain(b)}
    down, up = (a.transpose(3, 2, 0, 1), b[:, :, None, None]) if a.ndim == 4 else (a.T, b)
    found = {f"{PREFIX}{module}.lora_A.weight": _plain(down), f"{PREFIX}{module}.lora_B.weight": _plain(up)}
    return found | ({f"{PREFIX}{module}.lora_magnitude_vector": np.concatenate(of("magnitude"))} if adapter.kind == "dora" else {})


def _plain(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _same(module: str, parts: list[np.ndarray]) -> np.ndarray:
    """What the parts of a fused weight share.

    Raises:
      WeightsError: they differ, so that no single factor of the fused weight is all of them.
    """
    if any(not np.array_equal(part, parts[0]) for part in parts[1:]):
        raise WeightsError(
            f"{module} holds {len(parts)} weights with adapters of their own, and a PEFT file has one for all of them; merge the adapter instead"
        )
    return parts[0]


def _whole(adapter: AdapterFile, spelling: Spelling, names: Mapping[str, tuple[Place, ...]]) -> dict[str, np.ndarray]:
    """Leaves that were trained whole, under plain names; the bias and the table of an adapted module lie in its base layer."""
    found, rest = {}, set(adapter.saved)
    for tensor, places in spelling.tensors.items():
        mine = [place for place in places if place.path in adapter.saved]
        if not mine or not any(place.path in rest for place in places):
            continue
        if len(mine) < len(places) or any(place.conversion.back is None for place in mine):
            raise WeightsError(f"{mine[0].path}: {tensor} of a {spelling.name_map.name} holds more than what was trained; train all of it or nothing")
        arrays = [place.conversion.back(np.asarray(adapter.saved[place.path], np.float32)) for place in mine]  # type: ignore[misc]
        module, _, leaf = tensor.rpartition(".")
        key = f"{PREFIX}{module}.base_layer.{leaf}" if module in names else f"{PREFIX}{tensor}"
        found[key] = _plain(arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=mine[0].conversion.axis))
        rest -= {place.path for place in mine}
    if rest:
        raise WeightsError(f"{sorted(rest)[0]}: a {spelling.name_map.name} has no tensor for it")
    return found


def _settings(adapter: AdapterFile, spelling: Spelling, names: Mapping[str, tuple[Place, ...]], base_name: str | None, task_type: str | None) -> dict[str, Any]:
    """`adapter_config.json` without anything that is as by default."""
    others = [module for module in spelling.modules if module not in names]
    settings: dict[str, Any] = {
        "peft_type": "IA3" if adapter.kind == "ia3" else "LORA",
        "inference_mode": True,
        "target_modules": _ends(names, others),
    }
    settings |= {key: value for key, value in (("base_model_name_or_path", base_name), ("task_type", task_type)) if value}
    settings |= {key: adapter.settings[key] for key in _KEPT if adapter.settings.get(key)}
    saved, bias = _saved_modules(adapter, spelling, names)
    settings |= {"modules_to_save": saved} if saved else {}
    if any(
        not is_transposed(place.conversion) for places in names.values() for place in places if place.path.endswith("/kernel") and _is_matrix(adapter, place)
    ):
        settings["fan_in_fan_out"] = True
    if adapter.kind == "ia3":
        if bias != "none":
            raise WeightsError(f"{sorted(adapter.saved)[0]}: biases were trained, and IA3 of peft cannot hold them; allowed: lora or dora")
        inputs = [module for module, places in names.items() if adapter.sides[places[0].path] == "input"]
        outputs = [module for module in names if module not in inputs]
        inner = _ends(inputs, [*others, *outputs])  # peft wants them among the targets, by the same words
        return settings | {"feedforward_modules": inner, "target_modules": sorted({*inner, *_ends(outputs, others)})}
    settings |= {"bias": bias} if bias != "none" else {}
    settings |= {"use_dora": True} if adapter.kind == "dora" else {}
    return settings | _ranks(adapter, names)


def _is_matrix(adapter: AdapterFile, place: Place) -> bool:
    return adapter.kind == "ia3" or np.ndim(adapter.tensors[f"{place.path}/a"]) == 2


def _ends(modules: Iterable[str], others: Iterable[str]) -> list[str]:
    """The shortest ends of names that mean these modules and none of the others."""
    ours, theirs = list(modules), list(others)

    def end(module: str) -> str:
        parts = module.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        return next((short for short in ends if not any(other.endswith(short) for other in theirs)), module)

    return sorted({end(module) for module in ours})


def _ranks(adapter: AdapterFile, names: Mapping[str, tuple[Place, ...]]) -> dict[str, Any]:
    """r and lora_alpha that most modules have, and patterns of whole names for the others."""
    rslora = bool(adapter.settings.get("use_rslora"))
    ranks = {module: int(np.shape(adapter.tensors[f"{places[0].path}/a"])[-1]) for module, places in names.items()}
    alphas = {}
    for module, places in names.items():
        scales = {float(adapter.scales[place.path]) for place in places}
        if len(scales) > 1:
            raise WeightsError(f"{module} holds weights whose adapters have different scales: {sorted(scales)}; merge the adapter instead")
        alphas[module] = _alpha(scales.pop(), math.sqrt(ranks[module]) if rslora else ranks[module])
    rank, alpha = (_usual(values, adapter.settings.get(key)) for key, values in (("r", ranks), ("lora_alpha", alphas)))
    odd = {"rank_pattern": (ranks, rank), "alpha_pattern": (alphas, alpha)}
    patterns = {key: {f"^{module}".replace(".", r"\."): value for module, value in values.items() if value != usual} for key, (values, usual) in odd.items()}
    return {"r": rank, "lora_alpha": alpha, **({"use_rslora": True} if rslora else {}), **{key: table for key, table in patterns.items() if table}}


def _usual(values: Mapping[str, Any], said: Any) -> Any:
    """What the configuration of the adapter said, where a module has it, or what most have."""
    return said if said in values.values() else Counter(values.values()).most_common(1)[0][0]


def _alpha(scale: float, divisor: float) -> float:
    """alpha with alpha / divisor = scale, as short as float32 tells it."""
    exact = scale * divisor
    short = next((float(f"{exact:.{digits}g}") for digits in range(1, 9) if abs(float(f"{exact:.{digits}g}") - exact) <= 2e-7 * exact), exact)
    return int(short) if short == int(short) else short


def _saved_modules(adapter: AdapterFile, spelling: Spelling, names: Mapping[str, tuple[Place, ...]]) -> tuple[list[str], str]:
    """`modules_to_save`, and `bias` where biases alone were trained.

    Raises:
      WeightsError: neither of the two says what was trained.
    """
    whole: dict[str, list[str]] = {}
    for tensor, places in spelling.tensors.items():
        whole.setdefault(tensor.rpartition(".")[0], []).extend(place.path for place in places)
    full = [module for module, paths in whole.items() if all(path in adapter.saved for path in paths) and module not in names]
    covered = {path for module in full for path in whole[module]} | {path for module, places in names.items() for path in (place.path for place in places)}
    loose = sorted(path for path in adapter.saved if path not in covered)
    modules = list(dict.fromkeys(_head(module) for module in full if not _only_bias(whole[module])))
    if not loose:
        return sorted(modules), "none"
    biases = {places[0].path: tensor for tensor, places in spelling.tensors.items() if tensor.endswith(".bias")}
    everywhere, of_targets = set(biases), {path for path, tensor in biases.items() if tensor.removesuffix(".bias") in names}
    if set(loose) == everywhere - covered:
        return sorted(modules), "all"
    if set(loose) == of_targets:
        return sorted(modules), "lora_only"
    raise WeightsError(
        f"{loose[0]}: it was trained, the rest of its layer was not, and PEFT saves whole modules, all biases, or those of adapted layers; "
        "allowed: train the whole layer, export merged weights (--format hf)"
    )


def _only_bias(paths: list[str]) -> bool:
    return all(path.endswith("/bias") for path in paths)


def _head(module: str) -> str:
    """A module of a head by the name that peft gives the whole of it; one inside the body by its own."""
    first = module.partition(".")[0]
    return first if first in ("classifier", "score", "qa_outputs", "lm_head") else module


def _compare(folder: Path, written: AdapterFile, read: AdapterFile) -> None:
    """Hold what was read back against what was written.

    Raises:
      WeightsError: something differs.
    """
    pairs = ((written.tensors, read.tensors), (written.saved, read.saved))
    odd = [
        path for mine, theirs in pairs for path in mine.keys() | theirs.keys() if path not in mine or path not in theirs or not _equal(mine[path], theirs[path])
    ]
    odd += [path for path, scale in written.scales.items() if not math.isclose(scale, read.scales.get(path, math.nan), rel_tol=1e-6)]
    odd += [path for path, side in written.sides.items() if read.sides.get(path) != side]
    if odd or written.kind != read.kind:
        raise WeightsError(f"{folder}: what was read back is not what was written: {', '.join(sorted(odd)[:5])}")


def _equal(mine: np.ndarray, theirs: np.ndarray) -> bool:
    return np.array_equal(np.asarray(mine, np.float32), theirs)


def _card(adapter: AdapterFile, settings: Mapping[str, Any]) -> str:
    base = settings.get("base_model_name_or_path")
    head = ["---", "library_name: peft", *([f"base_model: {json.dumps(base)}"] if base else []), "---", ""]
    kind = {"lora": "LoRA", "dora": "DoRA", "ia3": "IA3"}[adapter.kind]
    text = [f"# {kind} adapter", "", f"{f'Of `{base}`, on' if base else 'On'} `{', '.join(settings['target_modules'])}`; written by ftjax.", ""]
    use = ["```python", "from peft import PeftModel", "", "model = PeftModel.from_pretrained(base_model, this_folder)", "```", ""]
    return "\n".join([*head, *text, *use])
