"""Select the model: from the pretrained files, from the zoo by name, or both where they agree."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ftjax import models, weights
from ftjax.config import INTERACTION_SOURCES, Config
from ftjax.errors import ConfigError, WeightsError
from ftjax.models import InputSpec, ModelSpec
from ftjax.tasks import LANGUAGE
from ftjax.training import item_texts, recommender

PLAIN_INPUT = InputSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear", crop_fraction=1.0)
"""For weights that say nothing of their input and have no namesake in the zoo: pixels from -1 to 1, the whole picture."""


_OUTPUTS = {"token_classification": "tokens", "question_answering": "tokens", "sentence_embedding": "embedding"}
_OUTPUTS |= dict.fromkeys(LANGUAGE, "language")
"""What a model of texts gives, where it is not one answer an example."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which architecture, how its input looks, and the files its weights come from."""

    family: str
    options: Mapping[str, Any]
    image_size: tuple[int, int] | None
    input: InputSpec | None
    """How pixels are prepared; None: the model reads text."""
    source: weights.Source | None
    recognised: weights.Recognised | None
    folder: Path | None = None
    """Where the tokenizer lies; also for a model from scratch."""
    same_end: bool = True
    """Whether the run's head sees what the pretrained one saw."""

    def fits(self, task: str) -> bool:
        """Whether the pretrained head may have been trained for this task on this end of the model."""
        trained = self.source.metadata.get("task", task) if self.source else task
        return self.same_end and trained == task

    @property
    def reads(self) -> Literal["images", "text", "items"]:
        """What goes into the model."""
        return models.FAMILIES[self.family].reads

    @property
    def own_outputs(self) -> int:
        """Width of what a model gives whose task does not say it: the vocabulary, or a vector."""
        return int(self.options["vocabulary" if self.options.get("output") == "language" else "width"])

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the pretrained head's classes, where the file knows them."""
        if self.recognised is not None and self.recognised.classes is not None:
            return self.recognised.classes
        if self.source is None or self.source.metadata.get("format") != "ftjax" or "classes" not in self.source.metadata:
            return None
        try:
            names = json.loads(self.source.metadata["classes"])
        except ValueError:
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise WeightsError(f"{self.source.location}: the metadata 'classes' must be a JSON list of names")
        return tuple(names)

    def spec(self, num_classes: int) -> ModelSpec:
        """The model with a head for `num_classes`."""
        return ModelSpec(family=self.family, options=self.options, num_classes=num_classes, image_size=self.image_size)


def select(config: Config) -> Selection:
    """The architecture and the weights that the configuration asks for.

    Raises:
      ConfigError: neither a name nor files are given, or the files hold another architecture than the name.
      WeightsError: the files cannot be opened or recognised.
    """
    name, pretrained = config.model.name, config.model.pretrained
    if pretrained is None:
        return _recommender(config) if config.data.source in INTERACTION_SOURCES else _from_zoo(config)
    source = weights.open_weights(pretrained)
    recognised = weights.recognise(source)
    if models.FAMILIES[recognised.family].reads == "text":
        return _text(config, source, recognised)
    if models.FAMILIES[recognised.family].reads == "items":
        recommender.check_pretrained(config, recognised.options, recognised.family)
        kept = source if config.method != "scratch" else None
        return Selection(recognised.family, recognised.options, None, None, kept, recognised if kept else None)
    known = _named_like(recognised)
    if name is not None and name not in known:
        spec, _ = models.named(name, 1)
        held = " or ".join(known) or f"{recognised.family} {recognised.options}"
        raise ConfigError(
            f"{source.location} holds {held}, model.name={name!r} is {spec.family} {spec.options}; leave model.name open to take what the file holds"
        )
    image_size = config.model.image_size or recognised.input_size or recognised.image_size
    held_input = InputSpec.from_json(recognised.input) if recognised.input else None
    input_spec = held_input or (models.named(known[0], 1)[1] if known else PLAIN_INPUT)
    kept = None if config.method == "scratch" else source
    return Selection(recognised.family, recognised.options, image_size, input_spec, kept, recognised if kept else None)


def _text(config: Config, source: weights.Source, recognised: weights.Recognised) -> Selection:
    """An encoder with the output that the task asks for, and the pooling that the configuration or the weights ask for.

    Raises:
      ConfigError: a name of the zoo is given, which has no text models.
    """
    if config.model.name is not None:
        raise ConfigError(f"{source.location} holds {recognised.family}, a text encoder without a name; leave model.name={config.model.name!r} open")
    output = _OUTPUTS.get(config.task.name, "sequence")
    options = dict(models.for_output(recognised.family, recognised.options, output, config.model.pool))
    same_end = all(options.get(name) == recognised.options.get(name) for name in ("output", "pool", "head"))
    recognised = dataclasses.replace(recognised, options=options)
    kept = config.method != "scratch"
    return Selection(recognised.family, options, None, None, source if kept else None, recognised if kept else None, source.folder, same_end)


def _recommender(config: Config) -> Selection:
    """A recommender by its family's name, with the sizes that the configuration asks for.

    Raises:
      ConfigError: another method than scratch, or there is no such family or size.
    """
    if config.method != "scratch":
        raise ConfigError(
            f"method={config.method!r} needs model.pretrained: a run directory or a file with a recommender; allowed without it: method='scratch'"
        )
    family, options = recommender.options_of(config, item_texts.width_of(config.recommendation.text_encoder))
    return Selection(family, options, None, None, None, None)


def _from_zoo(config: Config) -> Selection:
    name = config.model.name
    if config.method != "scratch":
        raise ConfigError(
            f"method={config.method!r} needs model.pretrained: a file, a directory, builtin:digits or hf://owner/name; allowed without it: method='scratch'"
        )
    if name is None:
        raise ConfigError(f"method='scratch' needs model.name or model.pretrained (for its architecture); allowed: {', '.join(models.names())}")
    spec, input_spec = models.named(name, 1, config.model.image_size)
    return Selection(spec.family, spec.options, spec.image_size, input_spec, None, None)


def _named_like(recognised: weights.Recognised) -> list[str]:
    """Names of the zoo's models with this architecture."""
    family = recognised.family
    held = models.build(ModelSpec(family, recognised.options, 1, recognised.image_size)).spec.options
    specs = {name: models.named(name, 1)[0] for name in models.names()}
    return [name for name, spec in specs.items() if spec.family == family and dict(spec.options) == dict(held)]
