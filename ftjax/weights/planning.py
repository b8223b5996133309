"""Making the load plan: each leaf of the model and each tensor of the file gets an explanation, or the weights are refused.

Only two things may differ from the file: the head may have another number of classes (it is then initialised), and the positions may be for
another grid of patches (they are then resized).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ftjax.errors import WeightsError, did_you_mean
from ftjax.weights.item_rows import ITEM_TABLES, ItemIds, match_items
from ftjax.weights.load_plan import MATCHED, LoadPlan, LoadRow, Transfer
from ftjax.weights.maps import NAME_MAPS
from ftjax.weights.maps.base import Entry, NameMap, Recognised
from ftjax.weights.resize import Grid
from ftjax.weights.source import Source

POSITION = "stem/position"
"""The one leaf whose shape depends on the image size."""

LACKED = ("pooler",)
"""What a file may lack though the model has it, beside the head: most encoders are published without, and it starts anew."""

Target = Mapping[str, tuple[tuple[int, ...], Any]]


@dataclasses.dataclass(frozen=True)
class _Case:
    """Everything that the decision about one leaf depends on."""

    source: Source
    recognised: Recognised
    name_map: NameMap
    reinitialise: tuple[str, ...]
    fresh: tuple[str, ...]
    image_size: tuple[int, int] | None
    items: ItemIds | None = None


def plan(
    source: Source,
    recognised: Recognised,
    target: Target,
    *,
    reinitialise: tuple[str, ...] = ("head",),
    fresh: tuple[str, ...] = (),
    image_size: tuple[int, int] | None = None,
    items: ItemIds | None = None,
) -> LoadPlan:
    """Decide where every leaf of a model comes from.

    Args:
      source: the open file.
      recognised: what it holds.
      target: `{path: (shape, dtype)}` of the parameters and batch statistics together.
      reinitialise: prefixes of paths that are initialised when the file has them in another shape or not at all; in the same shape they are loaded.
      fresh: prefixes of paths that are initialised whatever the file has.
      image_size: height and width that the model sees; None: a square grid of patches.
      items: of a recommender: the ids of the file's items and of the model's, by which the rows of its tables are moved.

    Raises:
      WeightsError: leaves or tensors without explanation, shapes that differ elsewhere, another architecture, or numbers that are not finite.
    """
    case = _Case(source, recognised, NAME_MAPS[recognised.name_map], (*reinitialise, *LACKED), fresh, image_size, items)
    entries = case.name_map.entries(source.tensors, recognised)
    by_target = _by_target(case, entries)
    problems: list[str] = []
    rows: list[LoadRow] = []
    transfers: dict[str, Transfer] = {}
    for path in target:
        outcome = _decide(case, path, tuple(target[path][0]), np.dtype(target[path][1]), by_target)
        if isinstance(outcome, str):
            problems.append(outcome)
            continue
        row, transfer = outcome
        rows.append(row)
        if transfer is not None:
            transfers[path] = transfer
    ignored, leftovers = _account(case, entries, target, {transfer.source for transfer in transfers.values()})
    _refuse(case, target, problems + leftovers)
    moved = next((transfer.items for transfer in transfers.values() if transfer.items is not None), None)
    result = LoadPlan(source, recognised.name_map, tuple(rows), ignored, transfers, moved)
    result.verify()
    return result


def _by_target(case: _Case, entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by the leaf that they fill.

    Raises:
      WeightsError: two tensors would fill the same leaf.
    """
    table: dict[str, Entry] = {}
    for entry in entries:
        if entry.target in table:
            raise WeightsError(f"{case.source.location}: both {table[entry.target].source!r} and {entry.source!r} would become {entry.target}")
        table[entry.target] = entry
    return table


def _under(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in prefixes)


def _decide(case: _Case, path: str, shape: tuple[int, ...], dtype: np.dtype, by_target: Mapping[str, Entry]) -> tuple[LoadRow, Transfer | None] | str:
    """The row of one leaf, or what is wrong with it."""
    entry = by_target.get(path)
    if _under(path, case.fresh):
        return LoadRow(path, shape, None, None, "initialised", "asked for, whatever the file has"), None
    if entry is None:
        if _under(path, case.reinitialise):
            return LoadRow(path, shape, None, None, "initialised", "the file has none"), None
        expected = case.name_map.expected(path, case.recognised)
        hint = f"the file has no {expected!r}" if expected else did_you_mean(path, by_target, show=0).removesuffix("allowed: ")
        return f"{path} {list(shape)}: no tensor fills it; {hint}"
    return _fit(case, entry, shape, dtype)


def _fit(case: _Case, entry: Entry, shape: tuple[int, ...], dtype: np.dtype) -> tuple[LoadRow, Transfer | None] | str:
    """How a tensor becomes a leaf: as it is, converted, resized; not at all where a head may differ."""
    stored, kind = case.source.tensors.shape(entry.source), case.source.tensors.dtype(entry.source)
    if kind.kind in "biuc":
        return f"{entry.target}: {entry.source!r} is of type {kind}, not a floating point number"
    found = _converted_shape(entry, stored)
    transfer = Transfer(entry.source, entry.conversion, shape, dtype)
    if found is not None and entry.target == POSITION and len(found) == len(shape) == 3 and found[2] == shape[2]:
        grids = _grids(case, found, shape)
        if isinstance(grids, str):
            return grids
        if grids[0] != grids[1]:
            tokens = _tokens(case)
            kept = "class token kept" if tokens == 1 else "class and distillation token kept"
            why = f"bicubic from {grids[0][0]}x{grids[0][1]} to {grids[1][0]}x{grids[1][1]} patches, {kept}"
            return LoadRow(entry.target, shape, entry.source, stored, "resized", why), dataclasses.replace(transfer, resize=_resize(case, *grids))
    if case.items is not None and entry.target in ITEM_TABLES and found is not None and found[1:] == shape[1:]:
        moved = match_items(case.items, found[0], shape[0], case.source.location)
        if not moved.same:
            return LoadRow(entry.target, shape, entry.source, stored, MATCHED, moved.why), dataclasses.replace(transfer, items=moved)
        transfer = dataclasses.replace(transfer, items=moved)
    if found == shape:
        reasons = [reason for reason in (entry.conversion.name, f"{kind} -> {dtype}" if kind != dtype else "") if reason]
        return LoadRow(entry.target, shape, entry.source, stored, "converted" if reasons else "loaded", ", ".join(reasons)), transfer
    if _under(entry.target, case.reinitialise):
        why = f"the file's is {list(found or stored)} ({case.recognised.num_classes} classes), the model's {list(shape)}"
        return LoadRow(entry.target, shape, None, None, "initialised", why), None
    return f"{entry.target} {list(shape)}: {entry.source!r} {list(stored)} has another shape"


def _converted_shape(entry: Entry, stored: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape after the change of layout, found on an array that takes no memory; None if the tensor has the wrong number of axes."""
    try:
        return entry.conversion.apply(np.broadcast_to(np.zeros((), np.int8), stored)).shape
    except (ValueError, IndexError):
        return None


def _grids(case: _Case, found: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Grid, Grid] | str:
    """Rows and columns of patches in the file and in the model, or what is wrong with them."""
    patch, tokens = int(case.recognised.options["patch"]), _tokens(case)
    held = case.recognised.image_size or (0, 0)
    old = (held[0] // patch, held[1] // patch)
    if case.image_size is not None:
        new = (case.image_size[0] // patch, case.image_size[1] // patch)
    elif shape == found:
        new = old
    else:
        new = (math.isqrt(shape[1] - tokens),) * 2
    for (height, width), positions, where in ((old, found[1], "the file"), (new, shape[1], "the model")):
        if height * width + tokens != positions:
            others = "a class token" if tokens == 1 else "two tokens"
            return f"{POSITION}: a grid of {height}x{width} patches and {others} do not make the {positions} positions of {where}; give image_size"
    return old, new


def _resize(case: _Case, old: Grid, new: Grid) -> Callable[[np.ndarray], np.ndarray]:
    resize, tokens = case.name_map.resize, _tokens(case)
    return lambda table: resize(table, old, new, tokens)


def _tokens(case: _Case) -> int:
    """How many tokens come before the patches: the class token, and DeiT's for distillation."""
    return 2 if case.recognised.options.get("distillation") else 1


def _account(case: _Case, entries: Iterable[Entry], target: Target, used: set[str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Why each unused tensor is left out, and those for which there is no reason."""
    filled = {entry.source: entry.target for entry in entries}
    ignored: list[tuple[str, str]] = []
    leftovers: list[str] = []
    keeps_head = any(filled[name].startswith("head/") for name in used)
    for name in case.source.tensors:
        if name in used:
            continue
        half = keeps_head and name in filled and filled[name].startswith("head/")  # a head of which only one layer is taken computes something else
        why = None if half else case.name_map.ignored_because(name)
        if name in filled and filled[name] in target and _under(filled[name], case.reinitialise + case.fresh):
            ignored.append((name, f"{filled[name]} is initialised"))
        elif why is not None:
            ignored.append((name, why))
        elif name not in filled or filled[name] not in target:
            hint = f"it would be {filled[name]}; " if name in filled else ""
            leftovers.append(f"the tensor {name!r} {list(case.source.tensors.shape(name))} has no place in the model; {hint}{_nearest(name, target)}")
    return tuple(ignored), leftovers


def _nearest(name: str, target: Target) -> str:
    hint = did_you_mean(name, target, show=0)
    return f"nearest leaf: {hint.partition('? ')[0].removeprefix('did you mean ')}" if "did you mean" in hint else "no leaf has a similar name"


def _refuse(case: _Case, target: Target, problems: list[str]) -> None:
    """Refuse with everything that is wrong, and with both architectures.

    Raises:
      WeightsError: there is a problem.
    """
    if not problems:
        return
    shown = "".join(f"\n  {problem}" for problem in problems[:12]) + (f"\n  ... {len(problems)} in all" if len(problems) > 12 else "")
    held = f"{case.recognised.family} ({', '.join(f'{key}={value}' for key, value in case.recognised.options.items())}; {case.name_map.name} names)"
    raise WeightsError(f"{case.source.location} holds a {held}, the model is {describe(target)}; they do not fit:{shown}")


def describe(target: Target) -> str:
    """A model's architecture as its leaves show it.

    >>> describe({"stem/patch/kernel": ((16, 16, 3, 192), "float32"), "encoder/block_0/norm1/scale": ((192,), "float32")})
    'a vit of 1 blocks, patch 16, width 192'
    """
    blocks = len({path.split("/")[1] for path in target if path.startswith("encoder/block_")})
    if "stem/word/embedding" in target:
        return f"a text encoder of {blocks} blocks, {' words of width '.join(map(str, target['stem/word/embedding'][0]))}"
    if "stem/patch/kernel" in target and "stem/norm/scale" in target:
        return f"a convnext of {blocks} blocks, stem {list(target['stem/patch/kernel'][0])}"
    if "stem/patch/kernel" in target:
        patch = target["stem/patch/kernel"][0]
        return f"a vit of {blocks} blocks, patch {patch[0]}, width {patch[-1]}"
    if "item/embedding" in target:
        return f"a recommender of {blocks} blocks, {' rows of width '.join(map(str, target['item/embedding'][0]))}"
    if "stem/conv/kernel" not in target:
        return f"unknown, with the leaves {', '.join(list(target)[:4])}"
    family = "mobilenet_v2" if "top/conv/kernel" in target else "resnet"
    return f"a {family} of {blocks} blocks, stem {list(target['stem/conv/kernel'][0])}"
