"""What models that write need around the step: the log-probability of every token in evaluation, and that of every answer before training (DPO's reference)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ftjax import data, models
from ftjax.data import Dataset, LanguagePreprocessing, Split
from ftjax.tasks import Features, Preference, token_scores
from ftjax.trees import Tree

CHUNK = 2048
"""Tokens whose logits evaluation holds at once."""


def token_outputs(
    model: models.Model, preprocessing: LanguagePreprocessing, params: Tree, extra: Tree, batch: Mapping[str, Array]
) -> Float[Array, "n length 2"]:
    """Of every token its log-probability given those before it in its document, and 1 where no other was more likely; 0 where nothing is predicted."""
    inputs = preprocessing.test_inputs(batch)
    hidden = model.body(params, extra, inputs, train=False)[0]
    scores = token_scores(Features(hidden, functools.partial(model.head, params)), inputs["tokens"], inputs["document"], CHUNK)
    return jnp.stack([scores.log_probability, scores.best], axis=2).astype(jnp.float32)


def with_reference(
    dataset: Dataset,
    task: Preference,
    model: models.Model,
    preprocessing: LanguagePreprocessing,
    params: Tree,
    put: Callable[[Mapping[str, np.ndarray]], Any],
    batch_size: int,
) -> Dataset:
    """The data set whose batches have `reference` float32 `[batch 2]`: log-probabilities of both answers under `params`, worked out once.

    Args:
      dataset: of preference.
      task: says how an answer's tokens are summed.
      model: the one that will train.
      preprocessing: what lies between a batch and the model.
      params: theta0.
      put: places a batch on the devices.
      batch_size: rows that are looked at together.
    """

    @jax.jit
    def answers(params: Tree, batch: Mapping[str, Array]) -> Array:
        outputs = token_outputs(model, preprocessing, params, {}, batch)
        return task.of_scores(outputs[:, :, 0], jnp.concatenate([batch["learn"], batch["pair_learn"]]))

    def measured(split: Split) -> Split:
        reference = np.zeros((len(split), 2), np.float32)
        for batch in data.eval_batches(split, batch_size):
            real = batch["weight"] > 0
            reference[batch["id"][real]] = np.asarray(answers(params, put(batch)))[real]
        return dataclasses.replace(split, fields=lambda rows: {**split.fields(rows), "reference": reference[np.asarray(rows)]})

    return dataclasses.replace(dataset, splits={name: measured(split) for name, split in dataset.splits.items()})
