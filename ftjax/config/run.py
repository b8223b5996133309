"""What is predicted, how long, on which devices, against what, and what a person sees of it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ftjax.config.units import Duration


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is predicted, and the loss."""

    name: Literal[
        "classification",
        "multi_label",
        "regression",
        "token_classification",
        "question_answering",
        "sentence_embedding",
        "language_modeling",
        "preference",
        "recommendation",
    ] = "classification"
    label_smoothing: float | None = None
    imbalance: Literal["none", "balanced", "sqrt", "focal", "logit_adjust", "oversample"] = "none"
    """Rare classes: losses weighted by 1 / frequency or its root, focal loss (Lin et al. 2017), logits shifted by the log frequency (Menon et al. 2021), or
    rare examples drawn more often."""
    focal_gamma: float = 2.0
    r_drop: float | None = None
    """Weight of the divergence between two dropout masks (R-Drop, Liang et al. 2021); doubles the cost; wants model.dropout. None: off."""
    temperature: float = 0.05
    """sentence_embedding: cosines are divided by this in the contrastive loss."""
    max_answer_length: int = 30
    """question_answering: tokens of the longest answer."""
    beta: float = 0.1
    """preference: how strongly the model is held to what it was (DPO's beta); smaller lets it go further."""
    length_normalised: bool = False
    """preference: compare mean log-probabilities of answers instead of sums."""
    z_loss: float | None = None
    """language_modeling: adds this times log(Z)^2, which keeps the logits' normaliser near 1 (PaLM's 1e-4). None: off."""
    loss_chunk: int = 2048
    """language_modeling, preference: tokens whose logits over the vocabulary are held at once; fewer take less memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how large, how often."""

    duration: Duration | None = None
    batch_size: int | Literal["all"] | None = None
    """Examples per optimiser step, over all devices; "all": full batch."""
    batch_tokens: int | None = None
    """Text, instead of `batch_size`: tokens of a batch, padding included; short texts come in larger batches."""
    microbatches: int = 1
    """The batch is computed in this many parts whose exact sums are divided once."""
    evaluate_every: Duration | None = None
    log_every: Duration = "10 steps"
    checkpoint_every: Duration = "10%"
    patience: int | None = None
    """Stop after this many evaluations without a better validation metric, counted once every parameter has begun to train; None: never."""
    max_bad_steps: int = 3
    """Stop after this many steps in a row whose loss or gradient is not finite (none of them is applied)."""
    cartography: bool = False
    """Follow each training example (Swayamdipta et al. 2020): mean and deviation of its label's probability over the times it is trained on, and how often it
    was right, in `cartography.jsonl` and as a map in the report. Read off the steps themselves; `data.difficulty` takes the file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis of the mesh; -1: all that are left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured and against what."""

    metric: str | None = None
    """Picks the checkpoint on the validation split; None: the task's main one."""
    views: Literal["one", "flip", "crops", "crops_flip"] = "one"
    """Pictures: what is averaged for an answer: the picture; with its mirror image; with its four corners enlarged (5 views); all that mirrored, too (10)."""
    batch_size: int = 100
    top_k: int = 5
    bootstrap: int = 1000
    """Resamples of the test set behind each interval."""
    confidence: float = 0.95
    baselines: tuple[Literal["majority", "item_knn", "pretrained", "probe", "scratch"], ...] = ("majority", "item_knn", "pretrained", "probe")
    """Measured on the same test examples; what a task does not have is left out. "pretrained", the model as it came, only where its head is kept;
    "majority" is for recommendation the most popular items, and "item_knn" items that the same users had."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgettingConfig:
    """Follow what the pretrained model knew: its answers on other examples, through its own pretrained head."""

    path: str | None = None
    """A folder of photos or an `.npz` file of what the model was pretrained on; for recommenders a log of the users that it was trained on. None: off."""
    examples: int = 200
    """At most this many are followed, the same ones at every evaluation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What a person sees."""

    progress: Literal["auto", "live", "plain", "none"] = "auto"
    tensorboard: bool = False
    thumbnails: int = 24
    """Worst and least certain test images that report.html shows."""
