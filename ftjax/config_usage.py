"""Values that were set and that nothing would read: keys of the configuration that only some choices read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ftjax.config import ADAPTERS, APART, IMAGE_SOURCES, INTERACTION_SOURCES, TEXT_SOURCES, Config, RecommendationConfig
from ftjax.configuration import keys
from ftjax.errors import ConfigError


def check_used(config: Config) -> None:
    """Refuse a value that was set and that nothing would read.

    Raises:
      ConfigError: naming the key and what would read it.
    """
    default = dict(keys(Config()))
    given = dict(keys(config))
    if config.method in ADAPTERS and config.adapter.kind not in (None, config.method):
        raise ConfigError(f"adapter.kind={config.adapter.kind!r} and method={config.method!r} are two shapes; leave adapter.kind open")
    for key, choice, chosen, readers in _READ_BY:
        value = given[key]
        if value != default[key] and chosen(config) not in readers:
            allowed = " and ".join(map(repr, readers))
            raise ConfigError(f"{key}={value!r} is set and nothing reads it: {choice} is {chosen(config)!r}; it is read by {allowed}")


_OF_IMAGES = ("crop_min_area", "horizontal_flip", "brightness", "contrast", "saturation", "hue", "rand_augment", "erasing", "mixup", "cutmix")
_OF_TABLES = ("text", "text_pair", "label")
_OF_FILES = ("format", "delimiter", "header")
_OF_EXAMPLES = (
    *("split", "group", "torn_groups", "time", "folds", "labels_per_class", "fraction", "max_per_class", "sampling"),
    *("duplicates", "near_duplicates", "drop"),
)
"""Keys of data whose rows are examples by themselves, each with a label; events of a log are not."""

_CUT = ("classification", "multi_label", "regression", "sentence_embedding")
"""Tasks that read a text as a whole; the others answer for single tokens and need the place where a text was cut."""

_LANGUAGE = ("language_modeling", "preference")

_LOW_RANK = ("rank", "alpha", "scaling", "rank_pattern", "alpha_pattern")
_BOTTLENECKS, _PROMPTS = APART[:2], APART[2:]

_LABELLED = ("classification", "multi_label", "regression", "token_classification")

_OF_INTERACTIONS = tuple(field.name for field in dataclasses.fields(RecommendationConfig))
_DRAWING = ("sampled_softmax", "bce", "gbce", "bpr")
"""Losses that draw items against the right one."""
_OF_MOMENTS = ("validation_from", "test_from")

_READ_BY: tuple[tuple[str, str, Callable[[Config], str], tuple[str, ...]], ...] = (
    ("data.path", "data.source", lambda config: config.data.source, (*IMAGE_SOURCES[1:], *TEXT_SOURCES, *INTERACTION_SOURCES)),
    *((f"data.{key}", "data.source", lambda config: config.data.source, (*IMAGE_SOURCES, *TEXT_SOURCES)) for key in _OF_EXAMPLES),
    ("data.validation_path", "data.source", lambda config: config.data.source, TEXT_SOURCES),
    ("data.test_path", "data.source", lambda config: config.data.source, TEXT_SOURCES),
    ("data.validation_fraction", "data.folds", lambda config: _given(config.data.folds), ("off",)),
    *((f"data.{key}", "recommendation.leave_out", lambda config: _left_out(config), ("time",)) for key in ("validation_fraction", "test_fraction")),
    ("data.test_fraction", "data.test_fold", lambda config: _given(config.data.test_fold), ("off",)),
    ("data.group", "data.split", lambda config: config.data.split, ("group", "hash")),
    ("data.torn_groups", "data.group", lambda config: _given(config.data.group), ("on",)),
    ("data.time", "data.split", lambda config: config.data.split, ("time",)),
    *((f"data.{key}", "data.folds", lambda config: _given(config.data.folds), ("on",)) for key in ("fold", "test_fold")),
    ("data.curriculum", "task.name", lambda config: config.task.name, ("classification",)),
    ("data.difficulty", "data.curriculum", lambda config: config.data.curriculum, ("easy_first", "hard_first", "ambiguous")),
    ("data.curriculum_until", "data.curriculum", lambda config: config.data.curriculum, ("easy_first", "hard_first")),
    *((f"data.{key}", "task.name", lambda config: config.task.name, ("classification",)) for key in ("label_errors", "outliers")),
    ("data.mixture", "data.source", lambda config: config.data.source, (*IMAGE_SOURCES[1:], *TEXT_SOURCES)),
    ("data.mixture_temperature", "data.mixture", lambda config: "on" if config.data.mixture else "off", ("on",)),
    ("data.class_floor", "data.fraction", lambda config: _given(config.data.fraction), ("on",)),
    ("data.near_image_similarity", "data.near_duplicates", lambda config: _near(config), ("report of pictures", "drop of pictures")),
    ("data.near_text_similarity", "data.near_duplicates", lambda config: _near(config), ("report of texts", "drop of texts")),
    ("data.max_pixels", "data.source", lambda config: config.data.source, IMAGE_SOURCES),
    ("data.worker_kind", "data.source", lambda config: config.data.source, IMAGE_SOURCES),
    ("data.cache_megabytes", "data.source", lambda config: config.data.source, IMAGE_SOURCES),
    *((f"augment.{key}", "data.source", lambda config: config.data.source, IMAGE_SOURCES) for key in _OF_IMAGES),
    ("augment.rand_magnitude", "augment.rand_augment", lambda config: "on" if config.augment.rand_augment else "off", ("on",)),
    *((f"augment.{key}", "data.source", lambda config: config.data.source, TEXT_SOURCES) for key in ("neftune", "token_dropout")),
    ("evaluation.views", "data.source", lambda config: config.data.source, IMAGE_SOURCES),
    *((f"text.{key}", "data.source", lambda config: config.data.source, TEXT_SOURCES) for key in ("max_length", "lowercase")),
    *((f"text.{key}", "data.source", lambda config: config.data.source, (*TEXT_SOURCES, *INTERACTION_SOURCES)) for key in ("encoding", "buckets")),
    *((f"text.{key}", "data.source", lambda config: config.data.source, ("table", *INTERACTION_SOURCES)) for key in _OF_FILES),
    *((f"text.{key}", "data.source", lambda config: config.data.source, ("table",)) for key in _OF_TABLES),
    ("text.label_separator", "task.name", lambda config: config.task.name, ("multi_label",)),
    ("text.truncation", "task.name", lambda config: config.task.name if config.data.source in TEXT_SOURCES else config.data.source, _CUT),
    ("text.stride", "task.name", lambda config: config.task.name, ("question_answering",)),
    ("model.pool", "data.source", lambda config: config.data.source, TEXT_SOURCES),
    ("model.image_size", "data.source", lambda config: config.data.source, IMAGE_SOURCES),
    *((f"adapter.{key}", "method", lambda config: config.method, ADAPTERS) for key in ("kind", "base")),
    ("adapter.pretrained", "method", lambda config: config.method, ("lora", "dora", "ia3")),
    *((f"adapter.{key}", "adapter.pretrained", lambda config: _given(config.adapter.pretrained), ("off",)) for key in ("targets", *_LOW_RANK, "base")),
    ("adapter.targets", "method", lambda config: config.method, tuple(kind for kind in ADAPTERS if kind not in _PROMPTS)),
    ("adapter.dropout", "method", lambda config: config.method, (*ADAPTERS[:3], *_BOTTLENECKS)),
    ("adapter.units", "method", lambda config: config.method, _BOTTLENECKS),
    ("adapter.units_scale", "method", lambda config: config.method, _BOTTLENECKS[:1]),
    ("adapter.tokens", "method", lambda config: config.method, _PROMPTS),
    *((f"adapter.{key}", "method", lambda config: config.method, ADAPTERS[:3]) for key in _LOW_RANK),
    ("adapter.block", "method", lambda config: config.method, ("oft",)),
    ("task.imbalance", "task.name", lambda config: config.task.name, ("classification", "multi_label", "token_classification")),
    ("task.focal_gamma", "task.imbalance", lambda config: config.task.imbalance, ("focal",)),
    ("task.r_drop", "task.name", lambda config: config.task.name, ("classification",)),
    ("task.temperature", "task.name", lambda config: config.task.name, ("sentence_embedding",)),
    ("task.max_answer_length", "task.name", lambda config: config.task.name, ("question_answering",)),
    ("train.cartography", "task.name", lambda config: config.task.name, ("classification",)),
    *((f"text.{key}", "task.name", lambda config: config.task.name, _LANGUAGE) for key in ("prompt", "response", "messages", "system", "template")),
    ("text.rejected", "task.name", lambda config: config.task.name, ("preference",)),
    *((f"text.{key}", "task.name", lambda config: config.task.name, ("language_modeling",)) for key in ("learn", "packing")),
    ("task.beta", "task.name", lambda config: config.task.name, ("preference",)),
    ("task.length_normalised", "task.name", lambda config: config.task.name, ("preference",)),
    ("task.z_loss", "task.name", lambda config: config.task.name, ("language_modeling",)),
    ("task.loss_chunk", "task.name", lambda config: config.task.name, _LANGUAGE),
    ("train.batch_tokens", "data.source", lambda config: config.data.source, TEXT_SOURCES),
    ("data.name", "data.source", lambda config: config.data.source, ("tfds",)),
    ("optimizer.momentum", "optimizer.name", lambda config: _direction(config), ("sgd", "muon")),
    ("optimizer.beta1", "optimizer.name", lambda config: _direction(config), ("adamw", "lion", "muon", "schedule_free")),
    ("optimizer.beta2", "optimizer.name", lambda config: config.optimizer.name, ("adamw", "lion", "muon", "adafactor")),
    ("optimizer.epsilon", "optimizer.name", lambda config: config.optimizer.name, ("adamw", "muon")),
    ("coefficient.auto_every", "coefficient.auto", lambda config: "rgn" if config.method == "auto_rgn" else config.coefficient.auto, ("rgn",)),
    ("coefficient.layer_decay_convention", "coefficient.layer_decay", lambda config: _on(config, config.coefficient.layer_decay, _DECAYED), ("on",)),
    ("anchor.ball_norm", "anchor.ball", lambda config: _on(config, config.anchor.ball, ("ball",)), ("on",)),
    ("anchor.ball_unit", "anchor.ball", lambda config: _on(config, config.anchor.ball, ("ball",)), ("on",)),
    ("after.ema_decay", "after.candidates", lambda config: _asked(config, "ema"), ("ema",)),
    ("after.swa_from", "after.candidates", lambda config: _asked(config, "swa"), ("swa",)),
    ("after.soup", "after.candidates", lambda config: _asked(config, "uniform_soup", "greedy_soup"), ("uniform_soup", "greedy_soup")),
    ("forgetting.path", "data.source", lambda config: config.data.source, (*IMAGE_SOURCES, *INTERACTION_SOURCES)),
    ("forgetting.examples", "forgetting.path", lambda config: "off" if config.forgetting.path is None else "on", ("on",)),
    ("text.label", "task.name", lambda config: config.task.name, _LABELLED),
    ("evaluation.top_k", "task.name", lambda config: config.task.name, ("classification",)),
    *((f"recommendation.{key}", "data.source", lambda config: config.data.source, INTERACTION_SOURCES) for key in _OF_INTERACTIONS),
    ("recommendation.sampled_by", "recommendation.sampled_negatives", lambda config: _given(config.recommendation.sampled_negatives), ("on",)),
    *((f"recommendation.{key}", "recommendation.loss", lambda config: config.recommendation.loss, _DRAWING) for key in ("negatives", "negative_sampling")),
    ("recommendation.gbce_t", "recommendation.loss", lambda config: config.recommendation.loss, ("gbce",)),
    *((f"recommendation.{key}", "model.name", lambda config: _recommender(config), ("bert4rec", "pretrained")) for key in ("mask_probability", "mask_last")),
    *((f"recommendation.{key}", "model.name", lambda config: _recommender(config), ("two_tower",)) for key in ("item_ids", "temperature")),
    *((f"recommendation.{key}", "recommendation.leave_out", lambda config: config.recommendation.leave_out, ("time",)) for key in _OF_MOMENTS),
)
"""Keys that only some choices read: `(key, the key of the choice, the choice, who reads it)`."""

_DECAYED = ("layer_decay", "discriminative")


def _recommender(config: Config) -> str:
    """The family, where it is said."""
    return config.model.name or ("pretrained" if config.model.pretrained else "open")


def _near(config: Config) -> str:
    """What is done with near duplicates of what."""
    kind = "texts" if config.data.source in TEXT_SOURCES else "pictures"
    return "off" if config.data.near_duplicates == "off" else f"{config.data.near_duplicates} of {kind}"


def _direction(config: Config) -> str:
    """The direction whose first moment is in question: a schedule-free run has the average in its place, weighed by beta1."""
    return "schedule_free" if config.optimizer.schedule_free else config.optimizer.name


def _left_out(config: Config) -> str:
    """What a log of interactions is split by; other data are split by shares, as by time."""
    return config.recommendation.leave_out if config.data.source in INTERACTION_SOURCES else "time"


def _given(value: object) -> str:
    return "off" if value is None else "on"


def _on(config: Config, value: float | None, methods: tuple[str, ...]) -> str:
    """Whether a number is set, or will be by the method's recipe."""
    return "off" if value is None and config.method not in methods else "on"


def _asked(config: Config, *names: str) -> str:
    """The first of these candidates that is asked for, or what is asked for instead."""
    return next((name for name in names if name in config.after.candidates), ", ".join(config.after.candidates) or "empty")
