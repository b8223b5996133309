"""What the pretrained body says of the data before anything is decided: labels that are probably wrong, and rows far from all others.

The data room may not import models, so the features are computed here and judged there (`data/suspects.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32

from ftjax import data, distribution, models
from ftjax.config import Config
from ftjax.data import Dataset, Split, label_errors, suspects, suspects_policy
from ftjax.errors import ConfigError
from ftjax.training.feature_cache import FeatureCache, feature_key
from ftjax.training.stage import Preprocessing
from ftjax.trees import Tree

Features = Callable[[Split], Float32[np.ndarray, "rows width"]]


def asked(config: Config, dataset: Dataset | None) -> tuple[str, ...]:
    """The kinds of findings that a run wants and its data have not been inspected for.

    Raises:
      ConfigError: there are no pretrained features, the package is missing, or what is left out would undo a mixture.
    """
    wanted = tuple(kind for kind in suspects.KINDS if getattr(config.data, kind) != "off" and (dataset is None or kind not in dataset.report))
    for kind in wanted:
        value = getattr(config.data, kind)
        if config.model.pretrained is None or config.method == "scratch":
            raise ConfigError(f"data.{kind}={value!r} judges rows by the features of pretrained weights; set model.pretrained, or leave it 'off'")
        if value == "drop" and config.data.mixture:
            raise ConfigError(f"data.{kind}='drop' would change the shares of data.mixture; use 'report', and data.drop for the rows that should go")
    if "label_errors" in wanted:
        label_errors.check_cleanlab(f"data.label_errors={config.data.label_errors!r}")
    return wanted


def inspected(config: Config, dataset: Dataset, kinds: Sequence[str], features: Features) -> tuple[Dataset, Mapping[str, np.ndarray]]:
    """The data set with findings of these kinds, without the rows that are dropped; and the features of the splits that are left."""
    values = {name: features(split) for name, split in dataset.splits.items()}
    found = findings({name: suspects.Part(split.ids, split.labels, values[name]) for name, split in dataset.splits.items()}, dataset, kinds, config.seed)
    cleaned = suspects_policy.applied(dataset, config.data, found, shown(dataset.splits, found))
    train = dataset.splits["train"]
    if len(cleaned.splits["train"]) < len(train):
        row_of = {name: row for row, name in enumerate(train.ids)}
        values["train"] = np.asarray(values["train"])[[row_of[name] for name in cleaned.splits["train"].ids]]
    return cleaned, values


def findings(parts: suspects.Parts, dataset: Dataset, kinds: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """What is found of each kind."""
    found = {}
    if "label_errors" in kinds:
        found["label_errors"] = suspects.find_label_errors(parts, dataset.classes, suspects.copies(dataset.report), seed)
    if "outliers" in kinds:
        found["outliers"] = suspects.find_outliers(parts, dataset.classes, suspects.copies(dataset.report))
    return found


def shown(splits: Mapping[str, Split], found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a person sees of the most suspicious rows, while all of them are still there; by id."""
    names = dict.fromkeys((row["split"], row["id"]) for one in found.values() for row in one["rows"][: suspects.SHOWN])
    row_of = {name: {one: row for row, one in enumerate(split.ids)} for name, split in splits.items()}
    return {name: splits[split].show(row_of[split][name]) for split, name in names}


class Body:
    """A model as what turns rows into features: `[rows width]` float32, what the head sees of each row as it will be tested."""

    def __init__(self, model: models.Model, preprocessing: Preprocessing, mesh: Mesh, cache: FeatureCache, batch_size: int, workers: int) -> None:
        """Nothing is computed yet.

        Args:
          model: its head is not looked at.
          preprocessing: between a row and the model.
          mesh: the devices.
          cache: where features are kept.
          batch_size: rows of a batch, a multiple of the devices that share one.
          workers: threads that read rows; 0 where they lie in memory.
        """
        self.model, self.preprocessing, self.mesh, self.cache, self.batch_size, self.workers = model, preprocessing, mesh, cache, batch_size, workers
        # The parameters are arguments: closed over, they would be constants in the program.
        self._features = jax.jit(lambda params, extra, batch: model.features(params, extra, preprocessing.inputs(batch)))

    def features(self, params: Tree, batch_stats: Tree, split: Split, report: Mapping[str, Any]) -> Float32[np.ndarray, "rows width"]:
        """From the cache, or computed; `report` is data.json of the split's data set."""
        if self.cache.folder is None or jax.process_count() > 1:
            return self._computed(params, batch_stats, split)
        return self.cache.get(self._key(params, batch_stats, split, report), lambda: self._computed(params, batch_stats, split))

    def keep(self, params: Tree, batch_stats: Tree, split: Split, report: Mapping[str, Any], values: np.ndarray) -> None:
        """Put features that are known into the cache."""
        if self.cache.folder is not None and jax.process_count() == 1:
            self.cache.put(self._key(params, batch_stats, split, report), values)

    def _key(self, params: Tree, batch_stats: Tree, split: Split, report: Mapping[str, Any]) -> dict[str, Any]:
        collected = report.get("collected", report["fingerprint"])
        return feature_key(self.model, self.preprocessing, params, batch_stats, collected, split.ids, (self.batch_size, *split.buckets), self.mesh.size)

    def _computed(self, params: Tree, batch_stats: Tree, split: Split) -> Float32[np.ndarray, "rows width"]:
        parts, ids = [], []
        for batch in self._batches(split):
            used = batch["weight"] > 0
            parts.append(np.asarray(self._features(params, {"batch_stats": batch_stats}, distribution.put_batch(batch, self.mesh)))[used])
            ids.append(batch["id"][used])
        return np.concatenate(parts)[np.argsort(np.concatenate(ids))]

    def _batches(self, split: Split) -> Iterator[data.Batch]:
        return data.eval_batches(split, self.batch_size, self.workers)
