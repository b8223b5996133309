"""What a recommender needs before the plan stands and around the step: its sizes, and for evaluation the user's vector against the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax import data, models, tasks
from ftjax.config import Config, RecommendationConfig
from ftjax.data import Dataset, InteractionPreprocessing
from ftjax.errors import ConfigError, did_you_mean
from ftjax.tasks import Candidates
from ftjax.trees import Tree

HIDES = "bert4rec"
"""The family that fills gaps."""
_SIZES = ("width", "depth", "heads")


def options_of(config: Config, text_width: int) -> tuple[str, dict[str, Any]]:
    """Family and options of a recommender from scratch.

    Args:
      config: names the family (`model.name`) and its sizes.
      text_width: numbers that the sentence encoder gives a text; 0: there is none.

    Raises:
      ConfigError: there is no such family, or it has no such size.
    """
    name, wanted = config.model.name, config.recommendation
    if name not in models.RECOMMENDERS:
        told = "needs model.name, or model.pretrained" if name is None else f"cannot train {name!r}"
        raise ConfigError(f"data.source={config.data.source!r} {told}; {did_you_mean(str(name), models.RECOMMENDERS)}")
    family = models.FAMILIES[name]
    options = {size: value for size in _SIZES if (value := getattr(wanted, size)) is not None}
    for size in options:
        if size not in family.options:
            raise ConfigError(f"recommendation.{size}={options[size]}: {name} has none; leave it open")
    width = options.get("width", family.options["width"])
    if "hidden" in family.options:
        options |= {"hidden": width * (4 if name == HIDES else 1), "positions": wanted.max_length}
    if name == "two_tower":
        options |= {"text_width": text_width, "ids": wanted.item_ids, "temperature": wanted.temperature}
        if not text_width and not wanted.item_ids:
            raise ConfigError("two_tower reads the items' texts: give recommendation.text_encoder (and items_path), or recommendation.item_ids=True")
    return name, options


def check_pretrained(config: Config, spec_options: Mapping[str, Any], family: str) -> None:
    """Refuse what pretrained weights cannot do.

    Raises:
      ConfigError: another name or size than they have, or histories that are too long for them.
    """
    wanted = config.recommendation
    if config.model.name not in (None, family):
        raise ConfigError(f"{config.model.pretrained} holds a {family}; leave model.name={config.model.name!r} open")
    for size in _SIZES:
        value = getattr(wanted, size)
        if value is not None and value != spec_options.get(size):
            raise ConfigError(f"recommendation.{size}={value}: {config.model.pretrained} has {spec_options.get(size)}; leave it open")
    positions = spec_options.get("positions", wanted.max_length)
    if wanted.max_length > positions:
        raise ConfigError(f"recommendation.max_length={wanted.max_length}: {config.model.pretrained} has positions for {positions} items")


def preprocessing_of(config: RecommendationConfig, dataset: Dataset, family: str) -> InteractionPreprocessing:
    """How histories enter the model; it travels with the artefact."""
    by_popularity = config.negative_sampling != "uniform" and dataset.catalogue is not None
    return InteractionPreprocessing(
        items=len(dataset.classes),
        max_length=config.max_length,
        hides=family == HIDES,
        mask_probability=config.mask_probability,
        mask_last=config.mask_last,
        loss=config.loss,
        negatives=tasks.negatives_of(config),
        negative_sampling=config.negative_sampling,
        log_shares=data.log_shares_of(dataset.catalogue.counts) if by_popularity and dataset.catalogue is not None else None,
    )


def users_of(
    model: models.Model, preprocessing: InteractionPreprocessing, params: Tree, extra: Tree, batch: Mapping[str, Array]
) -> Float[Array, "batch width"]:
    """The vector of every history as it will be tested: that of its last place, or of the mask behind it."""
    inputs = preprocessing.test_inputs(batch)
    hidden = model.body(params, extra, inputs, train=False)[0]
    return jnp.take_along_axis(hidden, last_place(inputs["items"])[:, None, None], axis=1)[:, 0]


def last_place(items: Int[Array, "batch length"]) -> Int[Array, " batch"]:
    """Where each row's last item stands."""
    return jnp.maximum((items > 0).sum(1) - 1, 0)


def candidates(model: models.Model, preprocessing: InteractionPreprocessing, params: Tree, extra: Tree, batch: Mapping[str, Array]) -> Candidates:
    """Every user of a batch and all items, to be scored a piece at a time."""
    return Candidates(users_of(model, preprocessing, params, extra, batch), model.items(params, extra)[: 1 + preprocessing.items])
