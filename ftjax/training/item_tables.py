"""The tables of items at the start of a run: pretrained rows go where their item is now, and new items begin from their text or at random."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ftjax import models, trees, weights
from ftjax.config import Config
from ftjax.data import Catalogue
from ftjax.errors import ConfigError
from ftjax.training import item_texts
from ftjax.training.select import Selection
from ftjax.trees import Tree

RIDGE = 1.0
"""Of the regression from texts to vectors, in units of one text."""
TEXT = "item/text"


def load(
    config: Config, selection: Selection, model: models.Model, catalogue: Catalogue, params: Tree, extra: Tree
) -> tuple[weights.LoadPlan | None, Tree, dict[str, Any]]:
    """Variables of a recommender before step 0.

    Args:
      config: names the sentence encoder.
      selection: the pretrained file, if there is one.
      model: over the catalogue's items.
      catalogue: ids and texts.
      params: random ones.
      extra: likewise.

    Raises:
      ConfigError: a model of texts, and there are none.
      WeightsError: the file does not fit, or does not say which rows are which items.
    """
    texts = _texts(config, model, catalogue)
    initial = {path: np.asarray(leaf) for path, leaf in (trees.flatten(params) | trees.flatten(extra.get("batch_stats", {}))).items()}
    if TEXT in initial and texts is not None:
        initial[TEXT] = _rows(texts, len(initial[TEXT]))
    plan = None
    if selection.source is not None and selection.recognised is not None:
        target = {path: (leaf.shape, str(leaf.dtype)) for path, leaf in initial.items()}
        items = weights.ItemIds(selection.classes or (), catalogue.ids)
        # What is written about the items is what is written now.
        plan = weights.plan(selection.source, selection.recognised, target, reinitialise=(), fresh=(TEXT,), items=items)
        initial = plan.apply(initial)
        if texts is not None and TEXT not in initial:
            initial, plan = _from_texts(initial, plan, _rows(texts, len(next(iter(_tables(initial).values())))))
    fill = functools.partial(trees.map_with_path, lambda path, leaf: jnp.asarray(initial[path], leaf.dtype))
    return plan, fill(params), {"batch_stats": fill(extra["batch_stats"])} if extra.get("batch_stats") else {}


def _texts(config: Config, model: models.Model, catalogue: Catalogue) -> Float[np.ndarray, "items width"] | None:
    encoder = config.recommendation.text_encoder
    needs = bool(model.spec.options.get("text_width"))
    if encoder is None:
        if needs:
            raise ConfigError(f"recommendation.text_encoder: this {model.spec.family} reads texts of items; name the encoder that it was trained with")
        return None
    if catalogue.texts is None:
        raise ConfigError(f"recommendation.text_encoder={encoder!r} has no texts to read: give recommendation.items_path, or item_text")
    found = item_texts.encode(catalogue.texts, encoder)
    if needs and found.shape[1] != model.spec.options["text_width"]:
        raise ConfigError(
            f"recommendation.text_encoder={encoder!r} gives {found.shape[1]} numbers for a text, the model was trained with {model.spec.options['text_width']}"
        )
    return found


def _rows(texts: Float[np.ndarray, "items width"], rows: int) -> Float[np.ndarray, "rows width"]:
    """With zeros for padding and for what is special."""
    return np.pad(texts, ((1, rows - 1 - len(texts)), (0, 0))).astype(np.float32)


def _tables(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: flat[path] for path in weights.ITEM_TABLES if path in flat}


def _from_texts(flat: dict[str, np.ndarray], plan: weights.LoadPlan, texts: Float[np.ndarray, "rows width"]) -> tuple[dict[str, np.ndarray], weights.LoadPlan]:
    """New items' vectors by ridge regression on texts, fitted on the items that were matched: W = (F^T F + lambda I)^-1 F^T (E - mean), e = f W + mean.

    Items without a text stay random.
    """
    if plan.items is None or not len(plan.items.new):
        return flat, plan
    new = plan.items.new[np.abs(texts[plan.items.new]).sum(1) > 0]
    matched = plan.items.matched[np.abs(texts[plan.items.matched]).sum(1) > 0]
    if not len(new) or not len(matched):
        return flat, plan
    features = texts[matched].astype(np.float64)
    inverse = np.linalg.inv(features.T @ features + RIDGE * np.eye(features.shape[1]))
    for path, table in _tables(flat).items():
        mean = table[matched].mean(0)
        table = table.copy()
        table[new] = texts[new] @ (inverse @ features.T @ (table[matched] - mean)) + mean
        flat = flat | {path: table}
    return flat, dataclasses.replace(plan, items=dataclasses.replace(plan.items, from_texts=new))
