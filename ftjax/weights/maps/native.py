"""ftjax's own files: canonical paths, and the `ModelSpec` and `InputSpec` as JSON in the metadata."""

from __future__ import annotations

import json
from typing import Any

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import NameMap, Recognised
from ftjax.weights.source import Source


def _detect(source: Source) -> Recognised | None:
    if source.metadata.get("format") != "ftjax":
        return None
    if "apart" in source.metadata:
        raise WeightsError(
            f"{source.location} holds weights with {source.metadata['apart']} of their own, which a run cannot begin from; begin from what that run began from"
        )
    spec = _table(source, "spec", {"family", "options", "num_classes"}, frozenset({"image_size"}))
    inputs = _table(source, "input", {"mean", "std", "interpolation", "crop_fraction"}) if "input" in source.metadata else None
    try:
        sides = spec.get("image_size")
        size = None if sides is None else (int(sides[0]), int(sides[1]))
        return Recognised(str(spec["family"]), dict(spec["options"]), int(spec["num_classes"]), size, NATIVE.name, inputs)
    except (TypeError, ValueError, LookupError) as error:
        raise WeightsError(f"{source.location}: the metadata 'spec' is not a model: {error}") from None


def _table(source: Source, key: str, fields: set[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The JSON table under a key of the metadata.

    Raises:
      WeightsError: it is missing, not JSON, or has other fields.
    """
    try:
        value = json.loads(source.metadata.get(key, "null"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{source.location}: the metadata {key!r} is not JSON: {error}") from None
    if not isinstance(value, dict) or not fields <= value.keys() <= fields | optional:
        known = ", ".join([*sorted(fields), *(f"perhaps {name}" for name in optional)])
        raise WeightsError(f"{source.location}: a file of ftjax has metadata {key!r} with {known}; found {str(value)[:80]}")
    return value


NATIVE = NameMap("ftjax", _detect, None)
