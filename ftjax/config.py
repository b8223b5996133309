"""The whole schema of a run: frozen dataclasses, one per room, about sixty knobs.

A field whose default is None is left open: `recipes.py` fills it from the method, the modality and the data, and says why.
Reading, overriding and writing configurations is `configuration.py`; this file only says what there is.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Value = float | tuple[tuple[str, float], ...]
"""A coefficient: a number, or a schedule as points `((when, value), ...)` with linear interpolation; `when` is a duration."""

Rules = tuple[tuple[str, Value], ...]
"""An ordered table of `(pattern, value)`; the first match wins. A pattern is a regular expression for the whole path, or `group:` and one for the group."""

Method = Literal["full", "probe", "layer_decay", "partial", "scratch"]
"""The usual tables of coefficients; `recipes.py` says what each stands for."""

Duration = str
"""`"3 epochs"`, `"500 steps"`, `"2000 examples"` or `"10%"` (of the whole run)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from and how they are validated, cleaned, split and sampled."""

    source: Literal["digits", "image_folder", "npz", "tfds"] = "digits"
    path: str | None = None
    """Folder of photos, `.npz` file, or tensorflow-datasets `data_dir`."""
    name: str | None = None
    """tensorflow-datasets only: the data set, `name[/config][:version]`."""
    validation_fraction: float = 0.15
    """Share of the training rows that becomes the validation split where the data bring none."""
    test_fraction: float = 0.15
    """Share of all rows that becomes the test split where the data bring none."""
    labels_per_class: int | None = None
    """Keep this many training examples of each class (None: all). Validation and test stay whole."""
    bad_files: Literal["error", "skip"] = "error"
    """What an unreadable file does: end the run with the full list, or be left out and named in data.json."""
    duplicates: Literal["report", "drop", "error"] = "drop"
    """What an exact copy in another split does. "drop" keeps test over validation over training, so test never shrinks."""
    max_pixels: int = 50_000_000
    """Images with more pixels are refused (decompression bombs)."""
    cache_megabytes: int = 4096
    """Decoded images are kept in memory as uint8 while they fit in this; otherwise they are decoded for every batch."""
    workers: int = 4
    """Threads that prepare batches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of a training image, on the device, inside the step. All off by default but what a recipe turns on."""

    crop_min_area: float | None = None
    """Random resized crop: smallest share of the area that is kept (1.0: no crop)."""
    horizontal_flip: bool | None = None
    """Mirror half of the images. Wrong for digits and text."""
    brightness: float = 0.0
    """Largest relative change of brightness."""
    contrast: float = 0.0
    """Largest relative change of contrast."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, from which weights, computed how."""

    name: str | None = None
    """A model of the zoo (`ftjax.models.names()`); None: what the pretrained files hold."""
    pretrained: str | None = None
    """`builtin:digits`, a file or directory, or `hf://owner/name`; None only with `method="scratch"`."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels that the model sees; None: what the weights were trained with."""
    head: Literal["auto", "keep", "new"] = "auto"
    """The pretrained head: kept (you vouch that its classes are yours, in the same order), or new. auto: kept only where the file names your classes."""
    batch_statistics: Literal["frozen", "updated"] | None = None
    """Batch norm's mean and variance: kept from pretraining, or followed."""
    drop_path: float = 0.0
    """Stochastic depth: drop rate of the last block, linear from 0 at the first."""
    dropout: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of operands; parameters, accumulation and the loss stay float32."""
    remat: bool = False
    """Recompute activations block by block in the backward pass, to save memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoefficientConfig:
    """How far each iteration may move each parameter (the law, `docs/architecture.md`)."""

    rules: Rules | None = None
    """The table `(path pattern, coefficient)`; 0 freezes by structure; None: the method's table."""
    layer_decay: float | None = None
    """Multiply the coefficient of a group by `layer_decay ** (distance from the head)`; None: 1."""
    head_factor: float | None = None
    """Multiply the head's coefficient by this; None: the method's."""
    decay_rules: Rules | None = None
    """Which parameters decay: multipliers of `optimizer.weight_decay`; None: matrices and filters yes, vectors no."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The direction and the learning rate."""

    name: Literal["adamw", "sgd", "lion"] = "adamw"
    learning_rate: float | None = None
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """From the peak to zero at the last step (constant: stays)."""
    warmup: Duration = "10%"
    weight_decay: float | None = None
    clip_norm: float | None = 1.0
    """Global norm of the live gradients above which they are scaled down; None: never."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.9
    """sgd only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is predicted, and the loss."""

    name: Literal["classification"] = "classification"
    label_smoothing: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how large, how often."""

    duration: Duration | None = None
    batch_size: int | Literal["all"] | None = None
    """Examples per optimiser step, over all devices; "all": full batch."""
    microbatches: int = 1
    """The batch is computed in this many parts whose exact sums are divided once."""
    evaluate_every: Duration | None = None
    log_every: Duration = "10 steps"
    checkpoint_every: Duration = "10%"
    patience: int | None = None
    """Stop after this many evaluations without a better validation metric; None: never."""
    max_bad_steps: int = 3
    """Stop after this many steps in a row whose loss or gradient is not finite (none of them is applied)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis of the mesh; -1: all that are left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured and against what."""

    metric: str = "accuracy"
    """Picks the checkpoint on the validation split."""
    batch_size: int = 100
    top_k: int = 5
    bootstrap: int = 1000
    """Resamples of the test set behind each interval."""
    confidence: float = 0.95
    baselines: tuple[Literal["majority", "pretrained", "probe", "scratch"], ...] = ("majority", "pretrained", "probe")
    """Measured on the same test examples. "pretrained", the model as it came, only where its head is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What a person sees."""

    progress: Literal["auto", "live", "plain", "none"] = "auto"
    tensorboard: bool = False
    thumbnails: int = 24
    """Worst and least certain test images that report.html shows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One run. `ftjax.finetune(config)` and `--config` take the same value."""

    method: Method = "full"
    seed: int = 0
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    coefficient: CoefficientConfig = dataclasses.field(default_factory=CoefficientConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    report: ReportConfig = dataclasses.field(default_factory=ReportConfig)
