"""The artefact `model/`: weights, model, preprocessing and labels in one folder that needs nothing else, and the predictor that reads it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import adapters, data, distribution, evaluation, files, models, reporting, tasks, trees, weights
from ftjax.commands import recommended, verify, written
from ftjax.config import MeshConfig, RecommendationConfig, TextConfig
from ftjax.data import Catalogue, InteractionPreprocessing, LanguagePreprocessing, Preprocessing, TextPreprocessing
from ftjax.errors import ConfigError, DataError, WeightsError
from ftjax.evaluation import Evaluator, Measures
from ftjax.evaluation.sampling import Sampling
from ftjax.models import ModelSpec
from ftjax.training.plan import Plan, predict
from ftjax.trees import Tree

ADAPTER = "adapter.safetensors"
ORIGINAL = "original"
"""Folder of the files that a decoder came with and that an export hands on: how it generates, its tokenizer's settings."""
_OF_TEXT = (TextPreprocessing, LanguagePreprocessing)


def write(plan: Plan, params: Tree, batch_stats: Tree, workdir: Path, adapted: Tree | None = None) -> None:
    """Write the artefact, read it back, and only when it answers as the trained model did give it its name `model/`; the card follows later.

    Args:
      plan: the run.
      params: the chosen parameters.
      batch_stats: the batch statistics that belong to them.
      workdir: the run directory.
      adapted: the same parameters with their adapters, which are then also kept by themselves, in `model/adapter/`; None, or without any: nothing is.

    Raises:
      TrainingFailed: what was read back is not what was trained.
    """
    folder, unchecked = workdir / "model", workdir / "model.unchecked"
    flat = {path: np.asarray(leaf) for path, leaf in (trees.flatten(params) | trees.flatten(batch_stats)).items()}
    described: dict[str, Any] = {"spec": plan.model.spec.to_json(), "classes": list(plan.dataset.classes)}
    described |= {"input": plan.selection.input.to_json()} if plan.selection.input else {}
    metadata = {"format": "ftjax", "task": plan.config.task.name} | {key: json.dumps(value) for key, value in described.items()}
    apart = sorted({row.kind for row in adapters.kept_apart(plan.bound)})
    metadata |= {"apart": ", ".join(apart)} if apart else {}
    weights.save_safetensors(unchecked / "weights.safetensors", flat, metadata)
    files.write_json(unchecked / "model.json", _description(plan) | described)
    verify.same_weights(flat, weights.open_weights(str(unchecked / "weights.safetensors")).tensors)
    if isinstance(plan.preprocessing, _OF_TEXT):
        plan.preprocessing.tokenizer.save(unchecked / data.TOKENIZER)
    recommended.write_items(unchecked, plan.dataset.catalogue)
    if plan.model.family.name == "decoder" and plan.selection.folder is not None:
        weights.carry(plan.selection.folder, unchecked / ORIGINAL)
    if adapted is not None and plan.bound:
        _write_adapter(plan, adapted, batch_stats, unchecked / "adapter" / ADAPTER)
    loaded = load(unchecked)
    verify.same_answers(
        plan,
        _answers(plan.evaluator, params, {"batch_stats": batch_stats}, plan),
        _answers(loaded.evaluator, loaded.params, loaded.extra, plan),
    )
    shutil.rmtree(folder, ignore_errors=True)
    unchecked.rename(folder)


def _write_adapter(plan: Plan, adapted: Tree, batch_stats: Tree, path: Path) -> None:
    """What training made, without the weights it stands on: every array that the pretrained file does not have, and what the adapters are."""
    left_out = plan.base_paths
    flat = {name: np.asarray(leaf) for name, leaf in (trees.flatten(adapted) | trees.flatten(batch_stats)).items() if name not in left_out}
    source = plan.load.source if plan.load is not None else None
    described: dict[str, Any] = {
        "spec": plan.model.spec.to_json(),
        "adapter": dataclasses.asdict(plan.config.adapter),
        "bound": _rows(plan.bound),
        "base": {"source": source.location, "sha256": source.sha256} if source else None,
    }
    weights.save_safetensors(path, flat, {"format": "ftjax-adapter"} | {key: json.dumps(value) for key, value in described.items()})


def _description(plan: Plan) -> dict[str, Any]:
    """What model.json says beside the specification."""
    return {
        "format": 1,
        "task": plan.config.task.name,
        "task_settings": tasks.task_settings(plan.task),
        "top_k": plan.config.evaluation.top_k,
        "preprocessing": plan.preprocessing.to_json(),
        "precision": plan.config.model.precision,
        "batch_size": plan.evaluation_batch,
        "max_pixels": plan.config.data.max_pixels,
    } | ({"kept_apart": _rows(kept)} if (kept := adapters.kept_apart(plan.bound)) else {})


def _rows(bound: Sequence[adapters.Bound]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(row) | {"fields": dict(row.fields)} for row in bound]


def _answers(evaluator: Evaluator, params: Tree, extra: Tree, plan: Plan) -> list[np.ndarray]:
    """The outputs for the first batches of the test split, as evaluation sees them; weight 0 rows left out, in both halves where texts come in pairs."""
    batches = list(itertools.islice(data.eval_batches(plan.dataset.splits["test"], plan.evaluation_batch), verify.CHECKED_BATCHES))
    parts = evaluator.parts(params, extra, batches, logits=True)
    return [part["logits"][np.resize(part["weight"] > 0, len(part["logits"]))] for part in parts]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Predictor:
    """A finished run's model, ready to answer for new pictures, texts or histories."""

    model: models.Model
    preprocessing: Any
    task: Any
    measures: Measures
    classes: tuple[str, ...]
    params: Tree
    extra: dict[str, Any]
    evaluator: Evaluator
    batch_size: int
    max_pixels: int
    catalogue: Catalogue
    """The items of a recommender, or no more than the classes' names."""

    def __repr__(self) -> str:
        """One line for a notebook: the model, its task and its classes."""
        names = f", {len(self.classes)} classes ({', '.join(self.classes[:3])}{', ...' if len(self.classes) > 3 else ''})" if self.classes else ""
        return f"Predictor({self.model.spec.family}, {trees.count(self.params):,} parameters, {type(self.task).__name__}{names})"

    @property
    def reads_text(self) -> bool:
        """Whether the model reads texts rather than pictures."""
        return isinstance(self.preprocessing, _OF_TEXT)

    @property
    def writes(self) -> bool:
        """Whether the model writes texts."""
        return isinstance(self.preprocessing, LanguagePreprocessing)

    @property
    def recommends(self) -> bool:
        """Whether the model reads histories and recommends items."""
        return isinstance(self.preprocessing, InteractionPreprocessing)

    def recommend(self, histories: Any, *, top_k: int = 10, exclude: Sequence[str] | Mapping[str, Sequence[str]] = ()) -> list[dict[str, Any]]:
        """The best items after each history; users need not have been trained on.

        Args:
          histories: lists of ids, oldest first, or `{user: list}`, or the path of a log.
          top_k: length of the lists.
          exclude: items that nobody is recommended, or `{user: items}`; what is in a history is not recommended anyway.

        Returns:
          `{"id", "items": [{"item", "score", "text"}, ...]}` for each user; "text" where the run knew what items are called.

        Raises:
          ConfigError: the model does not recommend, or `top_k` is out of range.
          DataError: there are no histories, or an excluded item or user is not there.
        """
        if not self.recommends:
            raise ConfigError(f"{self!r} does not recommend; allowed: predict")
        if isinstance(histories, (str, os.PathLike)):
            histories = data.read_histories(os.fspath(histories), TextConfig(), RecommendationConfig())
        return recommended.recommend(self, data.as_histories(histories), top_k=top_k, exclude=exclude)[0]

    def write(
        self, asked: Sequence[Any], *, max_tokens: int | None = None, temperature: float = 0.0, seed: int = 0, names: Sequence[str] | None = None
    ) -> list[str]:
        """What the model answers; after plain text, if that is what it was trained on, how it goes on.

        Args:
          asked: prompts: texts, or lists of messages `{"role", "content"}`, or turns.
          max_tokens: of an answer, at most; None: 128, or as many as the model has places for after the longest prompt.
          temperature: 0: always the best token.
          seed: of what is drawn above that.
          names: of the prompts, for messages; None: "prompt 0", "prompt 1", ...

        Raises:
          ConfigError: the model does not write, or a prompt is too long: the message names it, before anything is written.
          DataError: a prompt asks nothing, or the template refuses it.
        """
        if not self.writes:
            raise ConfigError(f"{self!r} does not write texts; allowed: predict")
        called = [f"prompt {row}" for row in range(len(asked))] if names is None else names
        prompts = [self._prompt(prompt, name) for prompt, name in zip(asked, called, strict=True)]
        most = max_tokens if max_tokens is not None else written.most_tokens(self.model, prompts)
        encoder = self.preprocessing.encoder
        sampling = Sampling(max_tokens=most, temperature=temperature, seed=seed, stop_ids=encoder.stops)
        return written.answers(self.model, self.params, encoder.tokenizer, prompts, sampling, called)

    def _prompt(self, prompt: Any, name: str) -> list[int]:
        try:
            return self.preprocessing.encoder.prompt(written.asked(prompt, self.preprocessing.form)).tolist()
        except DataError as error:
            raise DataError(f"{name}: {error}") from None

    def logits(self, split: data.Split) -> np.ndarray:
        """float32 `[n classes]`, one row per example, in order."""
        return np.asarray(self.records(split).logits)

    def records(self, split: data.Split, order: np.ndarray | None = None) -> Any:
        """Records with the model's outputs, by the compiled function that evaluated the run.

        Args:
          split: what is to be answered.
          order: for each of the split's labels what it is called here; None: the same.
        """
        batches = data.eval_batches(split, self.batch_size)
        named = batches if order is None else ({**batch, "label": order[batch["label"]]} for batch in batches)
        return self.evaluator.run(self.params, self.extra, named, split, logits=True)

    def rows(self, split: data.Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """The predictions for a split as dicts, one per example in order."""
        return self.measures.rows(self.records(split), split, probabilities=probabilities)

    def predict(self, examples: Any, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """Answer for new examples.

        Args:
          examples: pictures: uint8 `[n h w 3]` (or `[n h w]`) arrays of any size, a folder, a file, or a list of files. Texts: a list of texts, or of pairs
            `(text, second text)`; or the path of a file. Histories: as `recommend` reads them.
          probabilities: with the probability of every class.

        Returns:
          One dict per example, `{"id", "label", "probability"}` for classes; `id` is the file, or the row.

        Raises:
          DataError: a file cannot be read, or the array is not of images.
        """
        if self.recommends:
            return self.recommend(examples)
        found = self._arrays(examples) if isinstance(examples, np.ndarray) else self._texts(examples) if self.reads_text else self.read(examples)
        return self.rows(found, probabilities=probabilities)

    def read(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, bad_files: Literal["error", "skip"] = "error") -> data.Split:
        """The images of files or of a folder, as the model wants them; "skip" leaves unreadable ones out and names them in `rejected`."""
        given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        return data.read_images([os.fspath(path) for path in given], self.preprocessing.image, bad_files=bad_files, max_pixels=self.max_pixels)[1]

    def _texts(self, examples: Any) -> data.Split:
        if isinstance(examples, (str, os.PathLike)):
            return data.read_texts(os.fspath(examples), self.preprocessing, TextConfig())[1]
        return data.texts_split(list(examples), self.preprocessing)

    def _arrays(self, images: np.ndarray) -> data.Split:
        if self.reads_text:
            raise DataError(f"the model reads texts, not an array of {images.dtype}; give a list of texts, or the path of a file")
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
            raise DataError(f"images are {images.dtype}{list(images.shape)}; allowed: uint8 [n h w], [n h w 1] or [n h w 3], 0 to 255")
        colour = np.broadcast_to(images[..., None] if images.ndim == 3 else images, (*images.shape[:3], 3))
        pixels = np.stack([self.preprocessing.image.fit(np.ascontiguousarray(image)) for image in colour])
        ids = tuple(str(row) for row in range(len(pixels)))
        return data.image_split(ids, np.full(len(ids), data.UNLABELLED, np.int32), data.InMemory(pixels, np.arange(len(ids))))


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
    preprocessing = _preprocessing(description["preprocessing"], folder)
    classes = tuple(description["classes"])
    task = tasks.restore_task(description["task"], classes, description["task_settings"])
    measures = evaluation.measures_of(task, int(description["top_k"]))
    model = models.build(ModelSpec.from_json(description["spec"]), precision=description["precision"])
    params, extra = _variables(model, folder / "weights.safetensors", description.get("kept_apart", []))
    batch_size = int(description["batch_size"])
    mesh = distribution.make_mesh(MeshConfig(data=1), jax.local_devices()[:1])
    evaluator = Evaluator(
        lambda params, extra, batch: predict(model, preprocessing, params, extra, batch),
        measures,
        batch_size=batch_size,
        put=lambda batch: distribution.put_batch(batch, mesh),
    )
    catalogue = recommended.read_items(folder, classes)
    return Predictor(model, preprocessing, task, measures, classes, params, extra, evaluator, batch_size, int(description["max_pixels"]), catalogue)


def _preprocessing(described: Mapping[str, Any], folder: Path) -> Preprocessing | TextPreprocessing | LanguagePreprocessing | InteractionPreprocessing:
    """How rows enter the model: pictures, histories, or texts by the tokenizer beside the weights."""
    if "histories" in described:
        return InteractionPreprocessing.from_json(described)
    if "writes" in described:
        return LanguagePreprocessing.from_json(described, folder)
    return Preprocessing.from_json(described) if "image" in described else TextPreprocessing.from_json(described, folder)


def _variables(model: models.Model, file: Path, kept_apart: Sequence[Mapping[str, Any]]) -> tuple[Tree, dict[str, Any]]:
    """Parameters and batch statistics of the file, every leaf accounted for; with the bottlenecks and prompts that no weight stands for."""
    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    params = adapters.laid_out(params, kept_apart)
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
