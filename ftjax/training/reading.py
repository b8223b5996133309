"""What differs between pictures and text before the plan stands: how the data are collected, and what lies between a row and the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from ftjax import data, models
from ftjax.config import INTERACTION_SOURCES, TEXT_SOURCES, Config
from ftjax.data import Dataset, ImageFormat, Split
from ftjax.data.text import Tokenizer
from ftjax.errors import ConfigError
from ftjax.tasks import LANGUAGE
from ftjax.training import recommender
from ftjax.training.select import Selection
from ftjax.training.stage import Preprocessing

LONGEST = 256
"""Tokens of an example where neither the configuration nor the model asks for fewer."""
LONGEST_WRITTEN = 512
"""The same of models that write."""


class Reader(Protocol):
    """One modality's way from the files to the model."""

    def collect(self, config: Config, progress: data.Progress | None) -> Dataset:
        """The three splits and the report."""
        ...

    def labelled(self, config: Config, classes: Sequence[str]) -> Split:
        """Every row that can be read, neither cleaned nor split."""
        ...

    def preprocessing(self, config: Config, dataset: Dataset) -> Preprocessing:
        """What lies between a row and the model; `config` has every open value filled."""
        ...


def reader(config: Config, selection: Selection) -> Reader:
    """The reader for what the model reads.

    Raises:
      ConfigError: the data are of another kind than the model, or the task is one of texts.
      DataError: there is no tokenizer with the model, or it does not fit.
    """
    text = config.data.source in TEXT_SOURCES
    items = config.data.source in INTERACTION_SOURCES
    if selection.reads != ("text" if text else "items" if items else "images"):
        sources = {"text": TEXT_SOURCES, "items": INTERACTION_SOURCES}.get(selection.reads)
        allowed = ", ".join(map(repr, sources)) if sources else "a source of pictures"
        raise ConfigError(f"the model ({selection.family}) reads {selection.reads}, data.source={config.data.source!r} does not give it; allowed: {allowed}")
    if items != (config.task.name == "recommendation"):
        raise ConfigError(
            f"task.name={config.task.name!r} and data.source={config.data.source!r}: histories are for task.name='recommendation', and nothing else is"
        )
    if items:
        return _Interactions(selection)
    if not text and config.task.name != "classification":
        raise ConfigError(f"task.name={config.task.name!r} is for texts; pictures are classified: task.name='classification'")
    return _Texts.open(config, selection) if text else _Pictures(selection)


@dataclasses.dataclass(frozen=True)
class _Pictures:
    selection: Selection

    @property
    def image(self) -> ImageFormat:
        """How a file becomes an array."""
        size, held = self.selection.image_size, self.selection.input
        assert size is not None
        assert held is not None
        return ImageFormat(size=size, interpolation=held.interpolation, crop_fraction=held.crop_fraction)

    def collect(self, config: Config, progress: data.Progress | None) -> Dataset:
        """Pictures, decoded once."""
        return data.collect(config.data, self.image, config.seed, progress=progress)

    def labelled(self, config: Config, classes: Sequence[str]) -> Split:
        """Pictures, decoded for the model."""
        return data.labelled_images(config.data, self.image, classes)

    def preprocessing(self, config: Config, dataset: Dataset) -> Preprocessing:
        """How images enter the model; it travels with the artefact."""
        assert self.selection.input is not None
        normalize = data.Normalize(self.selection.input.mean, self.selection.input.std)
        changes, mixing = data.augmentations(config.augment), data.mixing(config.augment)
        return data.Preprocessing(image=self.image, normalize=normalize, augment=changes, mixing=mixing, views=config.evaluation.views)


@dataclasses.dataclass(frozen=True)
class _Texts:
    tokenizer: Tokenizer
    max_length: int

    @classmethod
    def open(cls, config: Config, selection: Selection) -> _Texts | _Written:
        """The tokenizer that came with the model."""
        if selection.folder is None:
            raise ConfigError(f"data.source={config.data.source!r} needs model.pretrained: a directory with a model and its tokenizer.json")
        tokenizer = data.open_tokenizer(selection.folder, str(config.model.pretrained))
        data.check_vocabulary(tokenizer, int(selection.options["vocabulary"]))
        tokenizer = dataclasses.replace(tokenizer.lowercased() if config.text.lowercase else tokenizer, truncation=config.text.truncation)
        takes = models.build(selection.spec(selection.own_outputs)).longest or LONGEST
        wanted = config.text.max_length or min(LONGEST if config.task.name not in LANGUAGE else LONGEST_WRITTEN, takes)
        if wanted > takes:
            raise ConfigError(f"text.max_length={wanted}: {config.model.pretrained} takes at most {takes} tokens")
        if config.task.name not in LANGUAGE:
            return cls(tokenizer, wanted)
        ends = data.read_ends(selection.folder, tokenizer)
        template = data.open_template(selection.folder, config.text.template, ends, tokenizer)
        return _Written(data.Encoder(tokenizer, ends, template, wanted, config.text.learn))

    def collect(self, config: Config, progress: data.Progress | None) -> Dataset:
        """Texts, cut into tokens once."""
        return data.collect_text(config.data, config.text, config.task, self.tokenizer, self.max_length, config.seed)

    def labelled(self, config: Config, classes: Sequence[str]) -> Split:
        """Texts, cut into tokens."""
        return data.labelled_texts(config.data, config.text, config.task, self.tokenizer, self.max_length, classes)

    def preprocessing(self, config: Config, dataset: Dataset) -> Preprocessing:
        """How texts enter the model; it travels with the artefact."""
        columns = dataset.report.get("columns", {})
        bound = (columns["text"]["column"], columns["text_pair"]["column"] if "text_pair" in columns else None) if "text" in columns else None
        return data.TextPreprocessing(self.tokenizer, self.max_length, config.task.name, bound, config.text.stride, config.augment.token_dropout)


@dataclasses.dataclass(frozen=True)
class _Written:
    """Texts that a model learns to write."""

    encoder: data.Encoder

    def collect(self, config: Config, progress: data.Progress | None) -> Dataset:
        """Documents in tokens, packed where they train."""
        return data.collect_language(config.data, config.text, config.task, self.encoder, config.seed)

    def labelled(self, config: Config, classes: Sequence[str]) -> Split:
        """Nothing: what is written has no label."""
        raise ConfigError(f"task.name={config.task.name!r} learns to write, and rows without a label cannot be judged; allowed: task.name='classification'")

    def preprocessing(self, config: Config, dataset: Dataset) -> Preprocessing:
        """How documents enter the model; it travels with the artefact."""
        columns = {role: entry["column"] for role, entry in dataset.report.get("columns", {}).items()}
        return data.LanguagePreprocessing(self.encoder, config.task.name, tuple(sorted(columns.items())), dataset.report["form"])


@dataclasses.dataclass(frozen=True)
class _Interactions:
    """Histories of users."""

    selection: Selection

    def collect(self, config: Config, progress: data.Progress | None) -> Dataset:
        """The log, cut into histories and what came next."""
        return data.collect_interactions(config.data, config.text, config.recommendation, config.seed)

    def labelled(self, config: Config, classes: Sequence[str]) -> Split:
        """Nothing: histories have no label."""
        raise ConfigError("histories have no label that could be judged; allowed: task.name='classification'")

    def preprocessing(self, config: Config, dataset: Dataset) -> Preprocessing:
        """How histories enter the model; it travels with the artefact."""
        return recommender.preprocessing_of(config.recommendation, dataset, self.selection.family)
