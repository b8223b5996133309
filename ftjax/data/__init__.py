"""Data: collect -> validate -> clean -> split -> sample on the host, then batches by step number, then transforms on the device.

Pixels travel as uint8; only `transforms` runs inside the compiled step.
"""

from ftjax.data.collect import collect
from ftjax.data.dataset import SPLITS, UNLABELLED, Batch, Dataset, InMemory, Progress, Split
from ftjax.data.held_out import read_held_out
from ftjax.data.image_format import ImageFormat
from ftjax.data.load import batch_at, eval_batches, train_batches
from ftjax.data.predict import read_images
from ftjax.data.transforms import (
    Augmentation,
    Brightness,
    Contrast,
    HorizontalFlip,
    Normalize,
    Preprocessing,
    RandomResizedCrop,
    augmentations,
)

__all__ = [
    "SPLITS",
    "UNLABELLED",
    "Augmentation",
    "Batch",
    "Brightness",
    "Contrast",
    "Dataset",
    "HorizontalFlip",
    "ImageFormat",
    "InMemory",
    "Normalize",
    "Preprocessing",
    "Progress",
    "RandomResizedCrop",
    "Split",
    "augmentations",
    "batch_at",
    "collect",
    "eval_batches",
    "read_held_out",
    "read_images",
    "train_batches",
]
