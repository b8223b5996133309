"""The whole schema of a run: frozen dataclasses, one per room, about a hundred knobs.

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

Method = Literal[
    "full",
    "probe",
    "lp_ft",
    "layer_decay",
    "discriminative",
    "gradual",
    "bitfit",
    "norms",
    "attention",
    "partial",
    "auto_rgn",
    "l2_sp",
    "ball",
    "spd",
    "mixout",
    "scratch",
]
"""The usual tables of coefficients and anchors; `recipes.py` says what each stands for."""

IMAGE_SOURCES = ("digits", "image_folder", "npz", "tfds", "webdataset", "array_record", "hf_disk")
TEXT_SOURCES = ("table", "conll", "squad")

Duration = str
"""`"3 epochs"`, `"500 steps"`, `"2000 examples"` or `"10%"` (of the whole run)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from and how they are validated, cleaned, split and sampled."""

    source: Literal["digits", "image_folder", "npz", "tfds", "webdataset", "array_record", "hf_disk", "table", "conll", "squad"] = "digits"
    """Pictures (digits; image_folder, also in a zip or tar; npz; tfds; webdataset, tar shards; array_record, what `ftjax data convert` writes; hf_disk, what
    Hugging Face's save_to_disk writes), or text: a table with columns, CoNLL lines `word ... tag`, or SQuAD JSON."""
    path: str | None = None
    """Folder or archive of photos, `.npz` file, tensorflow-datasets `data_dir`, tar shards, folder of a saved data set; for text the file of the training rows,
    or a folder with `train.*` and perhaps `validation.*` and `test.*`. Tar shards and tables may be several files: `part-{000..012}.tar`, `part-*.jsonl`."""
    validation_path: str | None = None
    """Text only: the file of the validation rows, where `path` is one file."""
    test_path: str | None = None
    """Text only: the file of the test rows, where `path` is one file."""
    name: str | None = None
    """tensorflow-datasets only: the data set, `name[/config][:version]`."""
    validation_fraction: float = 0.15
    """Share of the training rows that becomes the validation split where the data bring none."""
    test_fraction: float = 0.15
    """Share of all rows that becomes the test split where the data bring none."""
    split: Literal["stratified", "hash", "group", "time"] = "stratified"
    """How the splits that the data do not bring are made: by class; by a hash of each id alone, so that no row moves when data grow; whole groups; the newest
    rows for test and those before them for validation. Exact copies stay together ("hash" and "time" judge them after the split, by `duplicates`)."""
    group: str | None = None
    """split="group" or "hash": what rows that stay together have in common: a column of a table, or for pictures a regular expression with one group that is
    searched in the id, such as `(patient_\\d+)_`."""
    torn_groups: Literal["error", "warn"] = "error"
    """What a group does that splits given by the data tear apart."""
    time: str | None = None
    """split="time": the column of a table that holds ISO dates or numbers."""
    folds: int | None = None
    """k-fold: the rows that are not for test are cut into so many folds, and `fold` is the validation split. None: one split by `validation_fraction`."""
    fold: int = 0
    """With `folds`: the one that validates, from 0."""
    test_fold: int | None = None
    """With `folds`: nested, this one of as many outer folds is the test split, from 0. None: the test split does not change with the fold."""
    labels_per_class: int | None = None
    """Keep this many training examples of each class (None: all). Validation and test stay whole."""
    fraction: float | None = None
    """Keep this share of the training examples of each class (None: all); the examples of a smaller share are among those of a larger one."""
    class_floor: int = 1
    """With `fraction`: keep at least so many of each class."""
    max_per_class: int | None = None
    """Keep at most this many training examples of each class (None: all)."""
    sampling: Literal["natural", "balanced", "sqrt"] = "natural"
    """How often training examples are drawn: each once an epoch; all classes equally often; in proportion to the root of their size."""
    mixture: tuple[tuple[str, float], ...] = ()
    """Further data sets to train on, `(path, weight)`, of the same source and with classes of `path`, whose weight is 1; validation and test are those of
    `path` alone."""
    mixture_temperature: float = 1.0
    """With `mixture`: data sets of n rows and weight w are drawn in proportion to (n w)^(1 / temperature); above 1 draws small ones more often."""
    bad_files: Literal["error", "skip"] = "error"
    """What an unreadable file does: end the run with the full list, or be left out and named in data.json."""
    duplicates: Literal["report", "drop", "error"] = "drop"
    """What an exact copy in another split does. "drop" keeps test over validation over training, so test never shrinks."""
    near_duplicates: Literal["off", "report", "drop"] = "report"
    """What is almost the same (a resized or brightened picture, a text with another word): named in data.json, or dropped as an exact copy elsewhere is."""
    near_image_similarity: float = 0.95
    """Correlation of grey 16 x 16 thumbnails from which on two pictures are almost the same; smaller ones than 32 pixels are not compared."""
    near_text_similarity: float = 0.8
    """Share of common runs of 5 characters (Jaccard) from which on two texts are almost the same."""
    drop: str | None = None
    """A file with the id of a row on each line (`#` begins a comment): these rows are left out before anything else. `ftjax data report` writes one."""
    max_pixels: int = 50_000_000
    """Images with more pixels are refused (decompression bombs)."""
    cache_megabytes: int = 4096
    """Decoded images are kept in memory as uint8 while they fit in this; otherwise they are decoded for every batch."""
    workers: int = 4
    """Threads that prepare batches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How text is read and cut into tokens; only text sources read it. Columns that are left open are guessed, and the guess is shown."""

    text: str | None = None
    """Name of the column with the text (its number, from 0, in a table without a header)."""
    text_pair: str | None = None
    """Column with the second text of a pair; None: guessed while `text` is open too, otherwise there is no pair."""
    label: str | None = None
    """Column with the label; several, separated by commas, for a multi-label table with a 0/1 column for each label."""
    label_separator: str | None = None
    """multi_label: what separates the labels in one column; None: a comma where there is one."""
    format: Literal["auto", "csv", "tsv", "jsonl", "json", "parquet", "arrow"] = "auto"
    """auto: by the file's ending, and for texts by what is in it."""
    delimiter: str | None = None
    """What separates columns; None: found out."""
    header: bool | None = None
    """Whether the first line names the columns; None: found out."""
    encoding: str | None = None
    """Of the file, as Python names it; None: UTF-8 (with or without mark), else what its bytes say, else latin-1 with a warning."""
    max_length: int | None = None
    """Tokens of an example, special ones included; longer ones are cut and counted. None: what the model takes, at most 256."""
    buckets: int = 4
    """Lengths that batches are padded to: so many shapes are compiled, chosen so that little is padded."""
    lowercase: bool = False
    """Make texts lower case before they are cut into tokens; it becomes part of the tokenizer that is saved with the model."""
    truncation: Literal["right", "left", "middle"] = "right"
    """What a text that is too long loses: its end, its beginning, or its middle, so that a quarter of what fits comes from its head and the rest from its tail
    (Sun et al. 2019)."""
    stride: int = 64
    """question_answering: tokens by which the windows of a long context overlap."""


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
    saturation: float = 0.0
    """Largest relative change of saturation."""
    hue: float = 0.0
    """Largest turn of the hue, as a share of the colour circle; at most 0.5."""
    rand_augment: int = 0
    """RandAugment (Cubuk et al. 2020): so many operations, drawn for each picture; 2 is usual, 0 is off."""
    rand_magnitude: float = 9.0
    """Strength of RandAugment's operations, 0 to 10."""
    erasing: float = 0.0
    """Share of the pictures in which a random rectangle becomes noise (Zhong et al. 2020); 0.25 is usual."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang et al. 2018): two pictures of a batch and their labels are blended, lambda ~ Beta(alpha, alpha); 0.2 is usual, 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al. 2019): a rectangle of another picture is pasted in, labels mixed by area; 1 is usual, 0 is off. With mixup: one of both."""
    token_dropout: float = 0.0
    """Text: share of the tokens that training replaces by the mask token (or the unknown one, where there is no mask); special tokens stay."""
    neftune: float = 0.0
    """Text: uniform noise on the embeddings of at most this / sqrt(tokens * width) (NEFTune, Jain et al. 2023); 5 to 15 are usual, 0 is off."""


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
    dropout: float | None = None
    """None: 0 for pictures; 0.1 for text, as encoders are pretrained and fine-tuned everywhere."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of operands; parameters, accumulation and the loss stay float32."""
    remat: bool = False
    """Recompute activations block by block in the backward pass, to save memory."""
    scan: bool = False
    """Trace one block and repeat it: quicker to trace where there are many blocks, slower to run on CPUs; for models whose blocks are alike."""
    pool: Literal["pooler", "first", "mean"] | None = None
    """Text: what the head sees: BERT's pooler, the first token, or the mean over tokens; None: what the weights were made for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoefficientConfig:
    """How far each iteration may move each parameter (the law, `docs/architecture.md`)."""

    rules: Rules | None = None
    """The table `(path pattern, coefficient)`; 0 freezes by structure; None: the method's table."""
    layer_decay: float | None = None
    """Multiply the coefficient of a group by `layer_decay ** (distance from the head)`; None: 1."""
    layer_decay_convention: Literal["beit", "electra"] = "beit"
    """The distance: "beit" (also MAE) gives the top block 1, "electra" gives it 2; both give the head 0."""
    unfreeze_every: Duration | None = None
    """Gradual unfreezing: a group starts to train this long after the one above it; None: all at once."""
    auto: Literal["none", "rgn"] = "none"
    """Measured coefficients: "rgn" multiplies each parameter's by its relative gradient norm, divided by the largest (Lee et al. 2023)."""
    auto_every: Duration = "1 epochs"
    """How often they are measured again."""
    phases: Literal["structure", "arithmetic"] = "structure"
    """A parameter that rests for a phase: left out of that phase's program (one compilation per phase), or multiplied by 0 (one in all)."""
    head_factor: float | None = None
    """Multiply the head's coefficient by this; None: the method's."""
    decay_rules: Rules | None = None
    """Which parameters decay: multipliers of `optimizer.weight_decay`; None: matrices and filters yes, vectors no."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """How far the whole run may move each parameter from its pretrained value theta0; x = theta - theta0. None: that force is off."""

    rules: Rules | None = None
    """How strongly each parameter is anchored: multiplies `pull` and `select`, divides `ball`; 0 leaves it free. None: pretrained matrices and filters."""
    pull: float | None = None
    """L2-SP: adds pull * x to the velocity. 1 / (learning rate * pull) is its memory in steps."""
    ball: float | None = None
    """Largest norm of x (MARS-SP, TPGM); in units of `ball_unit`."""
    ball_norm: Literal["l2", "mars"] = "l2"
    """Norm of a whole parameter ("l2"), or the largest sum of absolute values that enters one output ("mars")."""
    ball_unit: Literal["relative", "absolute"] = "relative"
    """"relative": times the same norm of theta0."""
    select: float | None = None
    """SPD: where the descent points home, shorten x by this times its relative growth (Tian et al. 2024)."""
    mixout: float | None = None
    """Train with this share of the elements of x set to zero at random, the rest scaled up (Lee et al. 2020)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The direction and the learning rate."""

    name: Literal["adamw", "sgd", "lion", "muon", "adafactor"] = "adamw"
    learning_rate: float | None = None
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "slanted"] = "cosine"
    """From the peak to zero at the last step (constant: stays; slanted: ULMFiT's triangle, down to a 32nd)."""
    warmup: Duration = "10%"
    weight_decay: float | None = None
    clip_norm: float | None = 1.0
    """Global norm of the live gradients above which they are scaled down; None: never."""
    beta1: float = 0.9
    """Of the first moment; in a schedule-free run the weight of the average at the point of the gradient."""
    beta2: float = 0.999
    """Of the second moment; adafactor's decay grows up to it."""
    epsilon: float = 1e-8
    momentum: float = 0.9
    """sgd and muon (whose authors take 0.95)."""
    schedule_free: bool = False
    """Average instead of decay (Defazio et al. 2024): evaluate the running average; wants schedule="constant"."""
    sam: float | None = None
    """Sharpness-aware: the gradient is taken this far uphill, at twice the cost (Foret et al. 2021); None: off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is predicted, and the loss."""

    name: Literal["classification", "multi_label", "regression", "token_classification", "question_answering", "sentence_embedding"] = "classification"
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
    baselines: tuple[Literal["majority", "pretrained", "probe", "scratch"], ...] = ("majority", "pretrained", "probe")
    """Measured on the same test examples. "pretrained", the model as it came, only where its head is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AfterConfig:
    """What is done with the weights after training. Whatever is asked for competes with the best checkpoint on the validation split."""

    candidates: tuple[Literal["ema", "swa", "wise_ft", "lines", "uniform_soup", "greedy_soup"], ...] = ()
    """Weights made from the trained ones; the best on validation are tested and exported. None asked for: the best checkpoint."""
    ema_decay: float = 0.999
    """Of the exponential average; starts lower and warms up to this, min(decay, (1 + t) / (10 + t)), t counting from the first step of the run."""
    swa_from: Duration = "75%"
    """When the uniform average begins."""
    soup: int = 5
    """Best checkpoints that are kept for a soup."""
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Shares of the displacement at which the curve "accuracy against distance" is measured; `wise_ft` and `lines` choose among them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgettingConfig:
    """Follow what the pretrained model knew: its answers on other examples, through its own pretrained head."""

    path: str | None = None
    """A folder of photos or an `.npz` file of what the model was pretrained on; None: off."""
    examples: int = 200
    """At most this many are followed, the same ones at every evaluation."""


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
    text: TextConfig = dataclasses.field(default_factory=TextConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    coefficient: CoefficientConfig = dataclasses.field(default_factory=CoefficientConfig)
    anchor: AnchorConfig = dataclasses.field(default_factory=AnchorConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    after: AfterConfig = dataclasses.field(default_factory=AfterConfig)
    forgetting: ForgettingConfig = dataclasses.field(default_factory=ForgettingConfig)
    report: ReportConfig = dataclasses.field(default_factory=ReportConfig)
