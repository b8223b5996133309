"""Data: collect -> validate -> clean -> split -> sample on the host, then batches by step number, then transforms on the device.

Pixels travel as uint8, texts as tokens; only `transforms` runs inside the compiled step.
"""

from ftjax.data.augment import (
    Augmentation,
    Brightness,
    Contrast,
    HorizontalFlip,
    Hue,
    Mixing,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    Saturation,
    augmentations,
    mixing,
)
from ftjax.data.collect import collect
from ftjax.data.curriculum import PACED, available, paced
from ftjax.data.dataset import SPLITS, UNLABELLED, Batch, Dataset, InMemory, Progress, Split, image_split
from ftjax.data.held_out import read_held_out
from ftjax.data.image_format import ImageFormat
from ftjax.data.interactions import (
    Catalogue,
    Histories,
    InteractionPreprocessing,
    as_histories,
    collect_interactions,
    histories_split,
    histories_to_predict,
    log_shares_of,
    read_histories,
    told_unknown,
)
from ftjax.data.labelled import labelled_images, labelled_texts
from ftjax.data.language.collect import collect_language, labelled_language
from ftjax.data.language.encoding import Encoder
from ftjax.data.language.ends import open_template, read_ends
from ftjax.data.language.preprocessing import LanguagePreprocessing
from ftjax.data.load import batch_at, batches_of_every_shape, eval_batches, of_one_length, shares_of_every_shape, steps_per_epoch, train_batches
from ftjax.data.predict import read_images
from ftjax.data.sample import draw_by_class
from ftjax.data.text import TOKENIZER, TextPreprocessing, check_vocabulary, collect_text, open_tokenizer, read_texts, texts_split
from ftjax.data.transforms import Normalize, Preprocessing

__all__ = [
    "PACED",
    "SPLITS",
    "TOKENIZER",
    "UNLABELLED",
    "Augmentation",
    "Batch",
    "Catalogue",
    "Brightness",
    "Contrast",
    "Dataset",
    "Encoder",
    "HorizontalFlip",
    "Hue",
    "Histories",
    "ImageFormat",
    "InMemory",
    "InteractionPreprocessing",
    "LanguagePreprocessing",
    "Mixing",
    "Normalize",
    "Preprocessing",
    "Progress",
    "RandAugment",
    "RandomErasing",
    "RandomResizedCrop",
    "Saturation",
    "Split",
    "TextPreprocessing",
    "augmentations",
    "available",
    "batch_at",
    "batches_of_every_shape",
    "check_vocabulary",
    "collect",
    "collect_interactions",
    "collect_language",
    "collect_text",
    "draw_by_class",
    "eval_batches",
    "histories_split",
    "histories_to_predict",
    "as_histories",
    "read_histories",
    "told_unknown",
    "image_split",
    "mixing",
    "labelled_images",
    "labelled_language",
    "labelled_texts",
    "log_shares_of",
    "open_template",
    "open_tokenizer",
    "paced",
    "read_ends",
    "read_held_out",
    "read_images",
    "read_texts",
    "shares_of_every_shape",
    "steps_per_epoch",
    "texts_split",
    "train_batches",
]
