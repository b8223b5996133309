"""Names of modules inside transformers, as PEFT files have them, and the leaves of ours that they are: read off the maps of full checkpoints.

A PEFT file has the names at the time of saving: inside a classifier (`bert.encoder...`) or bare (`encoder...`), and for ViT those of transformers before 5.9
or after. The spelling of a file is the one that knows most of its names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import Conversion, NameMap, Recognised, fill, match
from ftjax.weights.maps.hf_bert import HF_BERTS, kind_of
from ftjax.weights.maps.hf_decoder import HF_DECODER
from ftjax.weights.maps.hf_modernbert import HF_MODERNBERT
from ftjax.weights.maps.hf_vit import HF_VITS

Shapes = Mapping[str, tuple[int, ...]]
OUTPUT_LAYERS = ("classifier", "score", "lm_head", "qa_outputs")
"""Modules that give a model's answers."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tensor goes: a leaf, and the change of layout."""

    path: str
    conversion: Conversion


@dataclasses.dataclass(frozen=True)
class Spelling:
    """One way to name the tensors of a model.

    Attributes:
      name_map: whose names these are.
      tensors: where each tensor goes; one that lies fused has several places, in order.
      modules: names of the modules with a kernel or an embedding, whether this model has them or only others of its kind.
    """

    name_map: NameMap
    tensors: Mapping[str, tuple[Place, ...]]
    modules: tuple[str, ...]

    def places(self, module: str) -> tuple[Place, ...]:
        """The leaves of a module's weight."""
        return self.tensors.get(f"{module}.weight", ())


def spellings(held: Recognised, shapes: Shapes) -> tuple[Spelling, ...]:
    """Every way in which a PEFT file may name this model, the one that today's transformers writes first.

    Raises:
      WeightsError: PEFT has no names for this family.
    """
    return tuple(spelling for name_map in (_map(held, 5), _map(held, 4)) for spelling in _both(name_map, held, shapes))


def written_spelling(held: Recognised, shapes: Shapes, generation: int, bare: bool) -> Spelling:
    """The spelling of one generation of transformers (5: from 5.9 on, 4: before), inside a classifier or bare."""
    return _both(_map(held, generation), held, shapes)[int(bare)]


def _map(held: Recognised, generation: int) -> NameMap:
    """The map of full checkpoints whose names the modules have."""
    options = held.options
    if held.family == "bert":
        return HF_BERTS[kind_of(options).prefix]
    if held.family in ("modernbert", "decoder"):
        return HF_MODERNBERT if held.family == "modernbert" else HF_DECODER
    if held.family == "vit":
        kind = "dinov2" if options.get("layer_scale") else "deit" if options.get("distillation") else "vit"
        return HF_VITS[f"{kind} inside" if generation == 5 else kind]
    raise WeightsError(f"a PEFT adapter has no names for the family {held.family!r} here; allowed: bert, decoder, modernbert, vit")


def _both(name_map: NameMap, held: Recognised, shapes: Shapes) -> tuple[Spelling, Spelling]:
    """Inside a classifier, and bare."""
    tensors, others = _tensors(name_map, held, shapes), _relatives(name_map, held, shapes)
    prefix = _prefix(tensors)
    whole = Spelling(name_map, tensors, others)
    bare = {name.removeprefix(prefix): places for name, places in tensors.items()}
    return whole, Spelling(name_map, bare, tuple(module.removeprefix(prefix) for module in others))


def _tensors(name_map: NameMap, held: Recognised, shapes: Shapes) -> dict[str, tuple[Place, ...]]:
    found: dict[str, list[Place]] = {}
    for line in name_map.table(_inside(held)) if name_map.table else ():
        for path in shapes:
            numbers = match(line.target, path)
            if numbers is not None:
                found.setdefault(fill(line.source, numbers), []).append(Place(path, line.conversion))
    return {name: tuple(sorted(places, key=lambda place: place.conversion.part)) for name, places in found.items()}


def _inside(held: Recognised) -> Recognised:
    """The same as part of a larger model, whose names carry the prefix of the body."""
    return dataclasses.replace(held, options=held.options | {"output": "sequence"}) if held.options.get("output") == "embedding" else held


def _relatives(name_map: NameMap, held: Recognised, shapes: Shapes) -> tuple[str, ...]:
    """Modules of this model and of its relatives with another end, so that no target of ours means one of theirs."""
    ends = [_inside(held)]
    if "output" in held.options:
        ends += [dataclasses.replace(held, num_classes=2, options=held.options | {"output": output, "head": "linear"}) for output in ("sequence", "tokens")]
    lines = [line for end in ends for line in (name_map.table(end) if name_map.table else ()) if line.target.rpartition("/")[2] in ("kernel", "embedding")]
    numbers = sorted({int(found["i"]) for path in shapes if (found := match("encoder/block_{i}", "/".join(path.split("/")[:2]))) is not None})
    names = [fill(line.source, {"i": str(number)}) for line in lines for number in (numbers if "{i}" in line.source else (0,))]
    return tuple(dict.fromkeys(name.removesuffix(".weight") for name in names))


def _prefix(tensors: Iterable[str]) -> str:
    """What stands before the body's names."""
    bodies = {name.partition(".")[0] for name in tensors} - {*OUTPUT_LAYERS, "pre_classifier", "head"}
    return f"{bodies.pop()}." if len(bodies) == 1 else ""


def refuse_tied(held: Recognised, paths: Iterable[str], where: str) -> None:
    """A table of embeddings that is the head too: peft adapts or replaces the one without the other, which is another model.

    Raises:
      WeightsError: one of the paths is such a table.
    """
    tied = held.options.get("tied") and held.options.get("output") == "language"
    if tied and "stem/word/embedding" in set(paths):
        raise WeightsError(f"{where}: stem/word/embedding is the head too (a tied model), and peft changes one without the other; allowed: other targets")


def is_transposed(conversion: Conversion) -> bool:
    """Whether the file has a kernel as (out, in), as torch's Linear, or as (in, out), as GPT-2's Conv1D."""
    return conversion.apply(np.zeros((12, 5), np.float32)).shape[0] == 5


def inputs_out(weight: np.ndarray, place: Place) -> np.ndarray:
    """A factor `(out, k)` of a weight as `[k out]` of this leaf: its part where the weight lies fused."""
    if place.path.endswith("/embedding"):
        return weight.T
    return place.conversion.apply(weight if is_transposed(place.conversion) else weight.T)
