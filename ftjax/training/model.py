"""The model of a run: built as the configuration says, with the pretrained values put in and adapters bound; and its body before anything is decided."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ftjax import adapters, distribution, models, trees, weights
from ftjax.config import Config
from ftjax.data import Catalogue
from ftjax.training import item_tables
from ftjax.training.feature_cache import FeatureCache
from ftjax.training.inspection import Body
from ftjax.training.select import Selection
from ftjax.training.stage import Preprocessing
from ftjax.trees import Tree

_ADAPTERS = 2**31 - 2
"""What the start of adapters folds into the seed's key."""


def build(config: Config, spec: models.ModelSpec) -> models.Model:
    """The model, computed as the configuration says."""
    settings = config.model
    return models.build(
        spec,
        precision=settings.precision,
        batch_statistics=settings.batch_statistics or "frozen",
        remat=settings.remat,
        drop_path=settings.drop_path,
        dropout=settings.dropout or 0.0,
        scan=settings.scan,
        neftune=config.augment.neftune,
    )


def load(
    config: Config, selection: Selection, model: models.Model, keeps_head: bool, catalogue: Catalogue | None = None
) -> tuple[weights.LoadPlan | None, Tree, dict[str, Any]]:
    """Initial variables, with the pretrained values put in; a recommender's tables row by row, by the ids of the `catalogue`."""
    params, extra = jax.jit(model.init)(jax.random.key(config.seed))
    if catalogue is not None and model.family.reads == "items":
        return item_tables.load(config, selection, model, catalogue, params, extra)
    if selection.source is None or selection.recognised is None:
        return None, params, extra
    initial = trees.flatten(params) | trees.flatten(extra.get("batch_stats", {}))
    target = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in initial.items()}
    fresh = () if keeps_head else ("head",)
    plan = weights.plan(selection.source, selection.recognised, target, reinitialise=(), fresh=fresh, image_size=selection.image_size)
    loaded = plan.apply({path: np.asarray(leaf) for path, leaf in initial.items()})
    fill = functools.partial(trees.map_with_path, lambda path, leaf: jnp.asarray(loaded[path], leaf.dtype))
    return plan, fill(params), {"batch_stats": fill(extra["batch_stats"])} if extra.get("batch_stats") else {}


def bind(config: Config, params: Tree) -> tuple[Tree, tuple[adapters.Bound, ...]]:
    """The parameters with adapters, and what was bound; nothing where the method is none."""
    if config.adapter.kind is None:
        return params, ()
    return adapters.bind(params, config.adapter, jax.random.fold_in(jax.random.key(config.seed), _ADAPTERS))


def pretrained_body(
    config: Config, selection: Selection, classes: int, preprocessing: Preprocessing, mesh: Mesh, store: FeatureCache, *, in_memory: bool = True
) -> tuple[Body, Tree, Tree]:
    """The body as it came, its parameters and its running statistics, before anything else is decided."""
    model = build(config, selection.spec(classes))
    _, params, extra = load(config, selection, model, keeps_head=False)
    size = distribution.whole_batches(mesh, config.evaluation.batch_size)
    return Body(model, preprocessing, mesh, store, size, 0 if in_memory else config.data.workers), params, extra.get("batch_stats", {})
