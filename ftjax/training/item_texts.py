"""The texts of items through a frozen sentence encoder: one vector each, computed once before a run and kept with the model."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from ftjax import data, models, trees, weights
from ftjax.errors import ConfigError
from ftjax.models import ModelSpec

LONGEST = 128
"""Tokens of a text that are read."""
_BATCH = 64


def width_of(encoder: str | None) -> int:
    """Numbers in a text's vector; 0 without an encoder.

    Raises:
      ConfigError: it is no encoder of texts.
    """
    return 0 if encoder is None else int(_recognised(encoder)[1].options["width"])


def encode(texts: Sequence[str], encoder: str) -> Float32[np.ndarray, "texts width"]:
    """The encoder's mean over each text's tokens, of length 1; 0 for an empty text.

    Args:
      texts: of the items.
      encoder: a directory with a model and its tokenizer, or `hf://owner/name`.

    Raises:
      ConfigError: it is no encoder of texts.
    """
    source, recognised = _recognised(encoder)
    options = models.for_output(recognised.family, recognised.options, "embedding")
    model = models.build(ModelSpec(recognised.family, options, int(options["width"])))
    assert source.folder is not None
    tokenizer = data.open_tokenizer(source.folder, encoder)
    preprocessing = data.TextPreprocessing(tokenizer, min(LONGEST, model.longest or LONGEST), "sentence_embedding")
    shapes = trees.flatten(jax.eval_shape(model.init, jax.random.key(0))[0])
    plan = weights.plan(source, recognised, {path: (leaf.shape, str(leaf.dtype)) for path, leaf in shapes.items()}, reinitialise=(), fresh=("head",))
    params = trees.unflatten({path: jnp.asarray(leaf) for path, leaf in plan.apply({path: np.zeros(0) for path in shapes}).items()})
    return _vectors(model, params, preprocessing, texts)


def _vectors(model: models.Model, params: trees.Tree, preprocessing: data.TextPreprocessing, texts: Sequence[str]) -> np.ndarray:
    known = [row for row, text in enumerate(texts) if text.strip()]
    found = np.zeros((len(texts), int(model.spec.options["width"])), np.float32)
    if not known:
        return found
    split = data.texts_split([texts[row] for row in known], preprocessing)
    features = jax.jit(lambda batch: model.features(params, {}, preprocessing.inputs(batch)))
    for batch in data.eval_batches(split, _BATCH):
        real = batch["weight"] > 0
        vectors = np.asarray(features(batch))[real]
        found[np.asarray(known)[batch["id"][real]]] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found


@functools.lru_cache(maxsize=2)
def _recognised(encoder: str) -> tuple[weights.Source, weights.Recognised]:
    source = weights.open_weights(encoder)
    recognised = weights.recognise(source)
    family = models.FAMILIES[recognised.family]
    if family.reads != "text" or recognised.family == "decoder":
        raise ConfigError(f"recommendation.text_encoder={encoder!r} holds a {recognised.family}, which is no encoder of texts")
    return source, recognised
