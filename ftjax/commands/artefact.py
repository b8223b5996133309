"""The artefact `model/`: weights, model, preprocessing and labels in one folder that needs nothing else, and the predictor that reads it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import data, distribution, evaluation, files, models, reporting, trees, weights
from ftjax.commands import verify
from ftjax.config import MeshConfig
from ftjax.data import Preprocessing
from ftjax.errors import DataError, WeightsError
from ftjax.evaluation import Evaluator, Records
from ftjax.models import ModelSpec
from ftjax.training.plan import Plan, predict
from ftjax.trees import Tree


def write(plan: Plan, params: Tree, batch_stats: Tree, records: Records, workdir: Path) -> None:
    """Write the artefact, read it back, and only when it answers as the trained model did give it its name `model/`; the card follows later.

    Args:
      plan: the run.
      params: the chosen parameters.
      batch_stats: the batch statistics that belong to them.
      records: of the test split, with logits, from these parameters.
      workdir: the run directory.

    Raises:
      TrainingFailed: what was read back is not what was trained.
    """
    folder, unchecked = workdir / "model", workdir / "model.unchecked"
    flat = {path: np.asarray(leaf) for path, leaf in (trees.flatten(params) | trees.flatten(batch_stats)).items()}
    described = {"spec": plan.model.spec.to_json(), "input": plan.selection.input.to_json(), "classes": list(plan.dataset.classes)}
    metadata = {"format": "ftjax"} | {key: json.dumps(value) for key, value in described.items()}
    weights.save_safetensors(unchecked / "weights.safetensors", flat, metadata)
    files.write_json(unchecked / "model.json", _description(plan) | described)
    verify.same_weights(flat, weights.open_weights(str(unchecked / "weights.safetensors")).tensors)
    verify.same_answers(plan, records, load(unchecked).records(_first_batches(plan)))
    shutil.rmtree(folder, ignore_errors=True)
    unchecked.rename(folder)


def _description(plan: Plan) -> dict[str, Any]:
    """What model.json says beside the specification."""
    return {
        "format": 1,
        "task": plan.config.task.name,
        "preprocessing": plan.preprocessing.to_json(),
        "precision": plan.config.model.precision,
        "batch_size": plan.evaluation_batch,
        "max_pixels": plan.config.data.max_pixels,
    }


def _first_batches(plan: Plan) -> Iterator[Mapping[str, np.ndarray]]:
    """The first batches of the test split, as evaluation sees them."""
    return itertools.islice(data.eval_batches(plan.dataset.splits["test"], plan.evaluation_batch), verify.CHECKED_BATCHES)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A finished run's model, ready to label images."""

    model: models.Model
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    params: Tree
    extra: dict[str, Any]
    evaluator: Evaluator
    batch_size: int
    max_pixels: int

    def logits(self, split: data.Split) -> np.ndarray:
        """float32 `[n classes]`, one row per image, in order."""
        return np.asarray(self.records(data.eval_batches(split, self.batch_size)).logits)

    def records(self, batches: Iterator[Mapping[str, np.ndarray]]) -> Records:
        """Records with logits, by the compiled function that evaluated the run."""
        return self.evaluator.run(self.params, self.extra, batches, logits=True)

    def predict(self, images: np.ndarray | str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, probabilities: bool = False) -> list[dict[str, Any]]:
        """Label images: uint8 `[n h w 3]` (or `[n h w]`) arrays of any size, a folder, a file, or a list of files.

        Returns:
          One `{"id", "label", "probability"}` per image (`"probabilities": {class: p}` on request); `id` is the file, or the row of the array.

        Raises:
          DataError: a file cannot be read as an image, or the array is not of images.
        """
        found = self._arrays(images) if isinstance(images, np.ndarray) else self.read(images)
        return evaluation.prediction_rows(self.logits(found), found.ids, self.classes, probabilities=probabilities)

    def read(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, bad_files: Literal["error", "skip"] = "error") -> data.Split:
        """The images of files or of a folder, as the model wants them; "skip" leaves unreadable ones out and names them in `rejected`."""
        given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        return data.read_images([os.fspath(path) for path in given], self.preprocessing.image, bad_files=bad_files, max_pixels=self.max_pixels)[1]

    def _arrays(self, images: np.ndarray) -> data.Split:
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
            raise DataError(f"images are {images.dtype}{list(images.shape)}; allowed: uint8 [n h w], [n h w 1] or [n h w 3], 0 to 255")
        colour = np.broadcast_to(images[..., None] if images.ndim == 3 else images, (*images.shape[:3], 3))
        pixels = np.stack([self.preprocessing.image.fit(np.ascontiguousarray(image)) for image in colour])
        ids = tuple(str(row) for row in range(len(pixels)))
        return data.Split(ids, np.full(len(ids), data.UNLABELLED, np.int32), data.InMemory(pixels, np.arange(len(ids))))


def load(workdir: str | os.PathLike[str]) -> Predictor:
    """The model of a finished run, from its directory (or from a copy of its `model/`).

    Raises:
      DataError: there is no finished run there.
      WeightsError: the weights do not fit the description beside them.
    """
    folder = Path(workdir) / "model" if (Path(workdir) / "model").is_dir() else Path(workdir)
    if not (folder / "model.json").is_file():
        raise DataError(f"{workdir} holds no finished run: {folder / 'model.json'} is missing; train with --workdir {workdir} first")
    description = files.read_json(folder / "model.json")
    preprocessing = Preprocessing.from_json(description["preprocessing"])
    model = models.build(ModelSpec.from_json(description["spec"]), precision=description["precision"])
    params, extra = _variables(model, folder / "weights.safetensors")
    batch_size = int(description["batch_size"])
    mesh = distribution.make_mesh(MeshConfig(data=1), jax.local_devices()[:1])
    evaluator = Evaluator(
        lambda params, extra, batch: predict(model, preprocessing, params, extra, batch),
        batch_size=batch_size,
        put=lambda batch: distribution.put_batch(batch, mesh),
    )
    return Predictor(model, preprocessing, tuple(description["classes"]), params, extra, evaluator, batch_size, int(description["max_pixels"]))


def _variables(model: models.Model, file: Path) -> tuple[Tree, dict[str, Any]]:
    """Parameters and batch statistics of the file, every leaf accounted for."""
    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    expected = trees.flatten(params) | trees.flatten(extra.get("batch_stats", {}))
    source = weights.open_weights(str(file))
    missing, unexpected = sorted(expected.keys() - source.tensors.keys()), sorted(source.tensors.keys() - expected.keys())
    if missing or unexpected:
        raise WeightsError(f"{file} does not fit model.json beside it; missing: {missing[:4]}, unexpected: {unexpected[:4]}")

    def read(path: str, leaf: Any) -> jax.Array:
        array = source.tensors[path]
        if array.shape != leaf.shape:
            raise WeightsError(f"{file}: {path} has shape {array.shape}, model.json asks for {leaf.shape}")
        return jnp.asarray(array)

    return trees.map_with_path(read, params), {"batch_stats": trees.map_with_path(read, extra["batch_stats"])} if extra.get("batch_stats") else {}


def write_card(workdir: Path) -> None:
    """`model/README.md`, from what the run directory says."""
    reporting.write_card(workdir)
