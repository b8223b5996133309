"""Random changes of pictures on the device, inside the step: frozen dataclasses on float pictures `[batch h w 3]` in 0..1, pure in (key, example)."""

from __future__ import annotations

from ftjax.config import AugmentConfig
from ftjax.data.augment.basic import Brightness, Contrast, HorizontalFlip, RandomResizedCrop
from ftjax.data.augment.colour import Hue, Saturation
from ftjax.data.augment.draws import Images, Keys
from ftjax.data.augment.erasing import RandomErasing
from ftjax.data.augment.mixing import Mixing, mixed
from ftjax.data.augment.rand_augment import RandAugment
from ftjax.data.augment.views import VIEWS, looks

__all__ = [
    "OPERATIONS",
    "VIEWS",
    "Augmentation",
    "Brightness",
    "Contrast",
    "HorizontalFlip",
    "Hue",
    "Images",
    "Keys",
    "Mixing",
    "RandAugment",
    "RandomErasing",
    "RandomResizedCrop",
    "Saturation",
    "augmentations",
    "looks",
    "mixed",
    "mixing",
]

Augmentation = RandomResizedCrop | HorizontalFlip | Brightness | Contrast | Saturation | Hue | RandAugment | RandomErasing
OPERATIONS: dict[str, type[Augmentation]] = {
    op.__name__: op for op in (RandomResizedCrop, HorizontalFlip, Brightness, Contrast, Saturation, Hue, RandAugment, RandomErasing)
}


def augmentations(config: AugmentConfig) -> tuple[Augmentation, ...]:
    """The operations that the configuration turns on, in the order in which they are applied."""
    crop = config.crop_min_area is not None and config.crop_min_area < 1.0
    wanted = (
        RandomResizedCrop(config.crop_min_area) if crop and config.crop_min_area is not None else None,
        HorizontalFlip() if config.horizontal_flip else None,
        Brightness(config.brightness) if config.brightness else None,
        Contrast(config.contrast) if config.contrast else None,
        Saturation(config.saturation) if config.saturation else None,
        Hue(config.hue) if config.hue else None,
        RandAugment(config.rand_augment, config.rand_magnitude) if config.rand_augment else None,
        RandomErasing(config.erasing) if config.erasing else None,
    )
    return tuple(op for op in wanted if op is not None)


def mixing(config: AugmentConfig) -> Mixing | None:
    """Mixup or CutMix, where the configuration turns one on."""
    return Mixing(config.mixup, config.cutmix) if config.mixup or config.cutmix else None
