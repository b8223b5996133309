"""What a file holds, told from the names and shapes of its tensors; metadata win over inference."""

from __future__ import annotations

from ftjax.errors import WeightsError
from ftjax.weights.maps import NAME_MAPS
from ftjax.weights.maps.base import Recognised
from ftjax.weights.opening import FORMATS
from ftjax.weights.readers.hf_config import CONFIG
from ftjax.weights.source import Source


def recognise(source: Source) -> Recognised:
    """Family, options, classes, image size and input of a file.

    Raises:
      WeightsError: no table knows these names, or one knows them as a relative that cannot be loaded.
    """
    for name_map in NAME_MAPS.values():
        recognised = name_map.detect(source)
        if recognised is not None:
            return recognised
    kind = source.settings.get(CONFIG, {}).get("model_type")
    told = f"{CONFIG} says model_type={kind!r}; " if kind else ""
    raise WeightsError(
        f"{source.location}: {len(source.tensors)} tensors of no known model, the first being {', '.join(list(source.tensors)[:6])}; {told}"
        f"known names: {', '.join(NAME_MAPS)}; known formats: {FORMATS}"
    )
