"""The forgetting meter: what the model still knows of what it was pretrained on, while it is fine-tuned.

A few examples of the source go through the body as it is now and through the head of the pretrained file, also where the run has a new head. At
theta0 the answers are the pretrained model's own; whatever changes afterwards is the displacement x of the law, seen from the source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
import scipy.special
from jax.sharding import Mesh
from jaxtyping import Float, Int32

from ftjax import adapters, data, distribution, models, trees, weights
from ftjax.config import Config
from ftjax.data import Preprocessing, Split
from ftjax.errors import ConfigError
from ftjax.evaluation import Evaluator, measures_of
from ftjax.tasks import Classification
from ftjax.training.select import Selection
from ftjax.training.state import TrainState
from ftjax.trees import Tree

KEY = "forgetting.path"
HEAD = "head"
"""The head's place in the parameters of every family."""

Reference = Literal["labels", "pretrained answers"]


@dataclasses.dataclass(frozen=True, eq=False)
class Meter:
    """Measures forgetting; one forward pass over a few examples, compiled once, the parameters being arguments."""

    examples: Split
    """What is followed, in the run's own format."""
    labels: Int32[np.ndarray, " examples"] | None
    """Their classes in the pretrained head, where they are known."""
    answers: Float[np.ndarray, "examples classes"]
    """log p of the pretrained model, float64."""
    head: Tree
    evaluator: Evaluator
    batch_size: int

    @property
    def reference(self) -> Reference:
        """What the loss is taken against: the true labels, or what the pretrained model itself answers."""
        return "pretrained answers" if self.labels is None else "labels"

    @property
    def before(self) -> dict[str, float]:
        """The measurement at theta0."""
        return measures_of_answers(self.answers, self.answers, self.labels)

    def measure(self, params: Tree, batch_stats: Tree) -> dict[str, float]:
        """How the source is answered now.

        Args:
          params: of the run, all of them; the head among them is not used.
          batch_stats: of the run.

        Returns:
          `source_loss`: mean of -log p(label); without labels the cross-entropy against the pretrained answers, -sum_k p_theta0(k) log p_theta(k).
          `source_accuracy`: share of right answers; only where there are labels.
          `source_divergence`: mean of KL(p_theta0 || p_theta) in nats; exactly 0 while the body has not moved.
        """
        return measures_of_answers(self.answers, _answers(self.evaluator, self.examples, self.batch_size, params, batch_stats, self.head), self.labels)

    def compare(self, params: Tree, batch_stats: Tree) -> dict[str, Any]:
        """`forgetting` of result.json: before and after, on how many examples, and what the loss is taken against."""
        return {"before": self.before, "after": self.measure(params, batch_stats), "reference": self.reference, "examples": len(self.examples)}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Labels that the pretrained model itself cannot tell are probably not its classes."""
        accuracy, classes = self.before.get("source_accuracy", 1.0), self.answers.shape[1]
        if accuracy > max(0.1, 1.2 / classes):
            return ()
        return (
            f"{KEY}: the pretrained model gives {accuracy:.1%} of these examples the class that their folder or file name says: is it one of its classes, "
            "and does it know pictures of this model.image_size? What it does not know it cannot forget; read the divergence instead",
        )


def prepare_meter(config: Config, selection: Selection, preprocessing: Preprocessing, state: TrainState, mesh: Mesh) -> Meter | None:
    """Read the source examples and let the pretrained model answer them.

    Their labels are class folders (or `.npz` labels, or numbers that the file names of a flat folder begin with) that name the pretrained classes, or
    whole numbers below their count. If a single one is neither, the loss is taken against the pretrained model's own answers instead.

    Args:
      config: `forgetting`, `data`, `model` and `evaluation`.
      selection: the pretrained file.
      preprocessing: of the run; nothing is augmented.
      state: before step 0, in its place on the devices: its body is theta0.
      mesh: where the run lives.

    Raises:
      ConfigError: nothing was pretrained, or the pretrained file has no head.
      DataError: the examples cannot be read.
    """
    settings = config.forgetting
    if settings.path is None:
        return None
    if settings.examples < 1:
        raise ConfigError(f"forgetting.examples={settings.examples}: allowed is 1 or more")
    classes = _pretrained_classes(config, selection)
    model = models.build(selection.spec(classes), precision=config.model.precision)
    head = jax.device_put(_pretrained_head(selection, model), distribution.replicated(mesh))
    policy: Literal["error", "skip"] = "error" if config.data.bad_files == "error" else "skip"
    read: dict[str, Any] = {"bad_files": policy, "max_pixels": config.data.max_pixels, "workers": config.data.workers}
    examples, names = data.read_held_out(settings.path, preprocessing.image, settings.examples, name=KEY, **read)
    batch_size = _whole(min(len(examples), config.evaluation.batch_size), distribution.batch_devices(mesh))

    def predict(params: Tree, extra: Tree, batch: Any) -> jax.Array:
        return model.apply(params, extra, preprocessing.inputs(batch), train=False)[0]

    measures = measures_of(Classification(tuple(map(str, range(classes)))))
    evaluator = Evaluator(predict, measures, batch_size=batch_size, put=lambda batch: distribution.put_batch(batch, mesh))
    # Asked in the state's own placement, so that an unmoved body later gives the same bits.
    answers = _answers(evaluator, examples, batch_size, adapters.without_prompts(state.params), state.extra["batch_stats"], head)
    return Meter(examples, resolve_labels(names, selection.classes, classes), answers, head, evaluator, batch_size)


def resolve_labels(names: Sequence[str | None], classes: Sequence[str] | None, num_classes: int) -> Int32[np.ndarray, " examples"] | None:
    """What each example's source calls its class, as a class of the pretrained head; None unless all of them are.

    >>> resolve_labels(["dog", "cat"], ("cat", "dog"), 2)
    array([1, 0], dtype=int32)
    >>> resolve_labels(["0007", "2"], None, 10)
    array([7, 2], dtype=int32)
    >>> resolve_labels(["0007", "tench"], None, 10) is None
    True
    """
    known = {name: index for index, name in enumerate(classes or ())}
    if all(name in known for name in names):
        return np.array([known[name] for name in names if name is not None], np.int32)
    numbers = [int(name) for name in names if name is not None and name.isdecimal()]
    return np.array(numbers, np.int32) if len(numbers) == len(names) and max(numbers) < num_classes else None


def _whole(size: int, parts: int) -> int:
    """`size`, rounded up so that every device gets as many."""
    return -(-size // parts) * parts


def _pretrained_classes(config: Config, selection: Selection) -> int:
    """How many classes the pretrained head has."""
    if selection.source is None or selection.recognised is None:
        raise ConfigError(f"{KEY}={config.forgetting.path}: nothing is pretrained with method={config.method!r}, so nothing can be forgotten; leave {KEY} open")
    if selection.recognised.num_classes is None:
        raise ConfigError(
            f"{KEY}={config.forgetting.path}: {selection.source.location} has no head (a 'notop' file), so it has no answers to forget; "
            f"use weights with their classification head, or leave {KEY} open"
        )
    return selection.recognised.num_classes


def _pretrained_head(selection: Selection, model: models.Model) -> Tree:
    """The head of the pretrained file, as `model` (which has as many classes) wants it."""
    assert selection.source is not None
    assert selection.recognised is not None
    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    leaves = trees.flatten(params) | trees.flatten(extra.get("batch_stats", {}))
    target = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves.items()}
    plan = weights.plan(selection.source, selection.recognised, target, reinitialise=(), image_size=selection.image_size)
    return trees.map_with_path(lambda path, _: plan.transfers[f"{HEAD}/{path}"].read(selection.source), params[HEAD])


def _answers(evaluator: Evaluator, examples: Split, batch_size: int, params: Tree, batch_stats: Tree, head: Tree) -> Float[np.ndarray, "examples classes"]:
    """log p of every example, float64: body of `params`, head of the pretrained file."""
    extra = {"batch_stats": batch_stats} if batch_stats else {}
    records = evaluator.run({**params, HEAD: head}, extra, data.eval_batches(examples, batch_size), examples, logits=True)
    return log_softmax(records.logits)


def log_softmax(logits: np.ndarray) -> Float[np.ndarray, "examples classes"]:
    """log p, float64."""
    with np.errstate(invalid="ignore"):
        return scipy.special.log_softmax(np.asarray(logits, np.float64), axis=-1)


def measures_of_answers(before: np.ndarray, now: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """Loss, accuracy and divergence from log p of the pretrained model and of the model now."""
    shares = np.exp(before)
    with np.errstate(invalid="ignore"):
        divergence = {"source_divergence": float(np.mean(np.sum(shares * (before - now), axis=-1)))}
        if labels is None:
            return {"source_loss": float(np.mean(-np.sum(shares * now, axis=-1)))} | divergence
    rows = np.arange(len(labels))
    right = now.argmax(axis=-1) == labels
    return {"source_loss": float(np.mean(-now[rows, labels])), "source_accuracy": float(np.mean(right))} | divergence
