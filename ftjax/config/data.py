"""Where examples come from, how they are cleaned, split and sampled, and how they are changed at random."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ftjax.config.units import Duration

IMAGE_SOURCES = ("digits", "image_folder", "npz", "tfds", "webdataset", "array_record", "hf_disk")

TEXT_SOURCES = ("table", "conll", "squad", "plain_text")

INTERACTION_SOURCES = ("interactions",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the examples come from and how they are validated, cleaned, split and sampled."""

    source: Literal[
        "digits",
        "image_folder",
        "npz",
        "tfds",
        "webdataset",
        "array_record",
        "hf_disk",
        "table",
        "conll",
        "squad",
        "plain_text",
        "interactions",
    ] = "digits"
    """Pictures (digits; image_folder, also in a zip or tar; npz; tfds; webdataset, tar shards; array_record, what `ftjax data convert` writes; hf_disk, what
    Hugging Face's save_to_disk writes), or text: a table with columns, CoNLL lines `word ... tag`, SQuAD JSON, or plain_text, a file
    that is one long text; or interactions, a log of users and items."""
    path: str | None = None
    """Folder or archive of photos, `.npz` file, tensorflow-datasets `data_dir` (None: `TFDS_DATA_DIR`, or `~/tensorflow_datasets`), tar shards, folder of a
    saved data set; for text the file of the training rows, or a folder with `train.*` and perhaps `validation.*` and `test.*`. Tar shards and tables may be
    several files: `part-{000..012}.tar`, `part-*.jsonl`."""
    validation_path: str | None = None
    """Text only: the file of the validation rows, where `path` is one file."""
    test_path: str | None = None
    """Text only: the file of the test rows, where `path` is one file."""
    name: str | None = None
    """tensorflow-datasets only: the data set, `name[/config][:version]`; None where `path` is the folder of one data set."""
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
    difficulty: str | None = None
    """With `curriculum`: the `cartography.jsonl` of a run with `train.cartography`; it has to know every training row."""
    curriculum: Literal["off", "easy_first", "hard_first", "ambiguous"] = "off"
    """easy_first, hard_first: a fifth of the rows of each class at first, those with the highest (lowest) confidence, linearly more until `curriculum_until`
    (Bengio et al. 2009, Hacohen & Weinshall 2019). ambiguous: of each class the share `fraction` with the highest variability (Swayamdipta et al. 2020)."""
    curriculum_until: Duration = "50%"
    """easy_first, hard_first: from here on every row is trained on, once an epoch."""
    mixture: tuple[tuple[str, float], ...] = ()
    """Further data sets to train on, `(path, weight)`, of the same source and with classes of `path`, whose weight is 1; validation and test are those of
    `path` alone. Of tensorflow-datasets also `(name, weight)`."""
    mixture_temperature: float = 1.0
    """With `mixture`: data sets of n rows and weight w are drawn in proportion to (n w)^(1 / temperature); above 1 draws small ones more often."""
    bad_files: Literal["error", "skip", "repair"] = "error"
    """What an unreadable file does: end the run with the full list, or be left out and named in data.json; "repair" (pictures) keeps what is left of a JPEG
    file that was cut short, if that is at least half of its lines, names it too, and leaves the others out."""
    duplicates: Literal["report", "drop", "error"] = "drop"
    """What an exact copy in another split does. "drop" keeps test over validation over training, so test never shrinks."""
    near_duplicates: Literal["off", "report", "drop"] = "report"
    """What is almost the same (a resized or brightened picture, a text with another word): named in data.json, or dropped as an exact copy elsewhere is."""
    near_image_similarity: float = 0.95
    """Correlation of grey 16 x 16 thumbnails from which on two pictures are almost the same; smaller ones than 32 pixels are not compared."""
    near_text_similarity: float = 0.8
    """Share of common runs of 5 characters (Jaccard) from which on two texts are almost the same."""
    label_errors: Literal["off", "report", "drop"] = "off"
    """classification, with pretrained weights and the extra `clean`: training rows whose label is probably wrong by confident learning (Northcutt et al. 2021)
    on the features of the pretrained body are named in data.json, or left out. Validation and test rows are judged too, and never dropped."""
    outliers: Literal["off", "report", "drop"] = "off"
    """The same for rows that lie far from all others in the feature space of the pretrained body."""
    cache: str | None = None
    """A directory that runs share for what is computed once from the data: `features/`, what a frozen body says of each row, and `pictures/`, pictures decoded
    to the model's size. None: features go to `cache` in the work directory, and pictures stay in memory as `cache_megabytes` says."""
    drop: str | None = None
    """A file with the id of a row on each line (`#` begins a comment): these rows are left out before anything else. `ftjax data report` writes one."""
    max_pixels: int = 50_000_000
    """Images with more pixels are refused (decompression bombs)."""
    cache_megabytes: int = 4096
    """Decoded images are kept in memory as uint8 while they fit in this; otherwise they are decoded for every batch."""
    workers: int = 4
    """How many rows, and in training batches, are prepared at once. What they are does not depend on it."""
    worker_kind: Literal["threads", "processes"] = "threads"
    """Who decodes pictures: as many threads, or as many processes, which share no lock of Python's, and whose crash is an error with the file's name."""


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
    prompt: str | None = None
    """language_modeling, preference: column with what is asked."""
    response: str | None = None
    """language_modeling: column with the answer; preference: with the better answer."""
    rejected: str | None = None
    """preference: column with the worse answer."""
    messages: str | None = None
    """language_modeling, preference: column with a list of messages, `{"role", "content"}` or ShareGPT's `{"from", "value"}`."""
    system: str | None = None
    """language_modeling, preference: column with a system message."""
    template: str | None = None
    """language_modeling, preference: how turns become a text: "tokenizer" (its own chat template), "prompt_response", "alpaca", "chatml", or a Jinja file.
    None: the tokenizer's own, and "prompt_response" where it has none."""
    learn: Literal["response", "all"] = "response"
    """language_modeling: learn what the assistant says, or every token. Plain text is learnt as a whole."""
    packing: bool = True
    """language_modeling: put several documents in a row of `max_length` tokens in training; none sees another, so the loss is the same."""
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
