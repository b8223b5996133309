"""What happens to pixels on the device, inside the step: random changes in training, and the normalisation that the model expects.

Operations are frozen dataclasses on float images `[batch h w 3]` in 0..1. The key of an example comes from the step's key and the example's id alone, so its
change depends on neither its place in the batch nor its neighbours, on any number of devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from ftjax.config import AugmentConfig
from ftjax.data.image_format import ImageFormat
from ftjax.errors import ConfigError, DataError, did_you_mean

Images = Float[Array, "batch h w 3"]
Keys = Key[Array, " batch"]

_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601), as in Pillow and torchvision."""


@dataclasses.dataclass(frozen=True)
class Normalize:
    """`(pixels - mean) / std` per channel, pixels in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"normalisation mean={self.mean}, std={self.std}: three of each are needed, and std above 0")

    def __call__(self, images: Images) -> Images:
        """Normalise; the type of `images` is kept."""
        mean, std = (jnp.asarray(values, images.dtype).reshape(1, 1, 1, 3) for values in (self.mean, self.std))
        return (images - mean) / std


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """Cut out a random rectangle and resize it to the whole picture (Szegedy et al. 2014, arXiv:1409.4842).

    Area `a ~ U(min_area, 1)` of the picture and ratio of the sides `r`, log-uniform in `[min_ratio, max_ratio]`, give width `sqrt(a r)` and height
    `sqrt(a / r)` of the picture's sides, cut to 1 where they exceed it (torchvision draws again instead). The place is uniform. Interpolation is linear; as the
    rectangle only grows, antialiasing would change nothing.
    """

    min_area: float
    min_ratio: float = 3 / 4
    max_ratio: float = 4 / 3

    def __post_init__(self) -> None:
        if not (0 < self.min_area <= 1 and 0 < self.min_ratio <= self.max_ratio):
            raise ConfigError(f"{self}: min_area must be above 0 and at most 1, and min_ratio above 0 and at most max_ratio")

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Crop every image by its own key; shapes stay."""
        return jax.vmap(self._one)(images, keys)

    def _one(self, image: Float[Array, "h w 3"], key: Key[Array, ""]) -> Float[Array, "h w 3"]:
        draw = jax.random.uniform(key, (4,), jnp.float32).astype(image.dtype)
        area = self.min_area + (1.0 - self.min_area) * draw[0]
        low, high = jnp.log(jnp.asarray([self.min_ratio, self.max_ratio], image.dtype))
        ratio = jnp.exp(low + (high - low) * draw[1])
        share = jnp.minimum(1.0, jnp.sqrt(jnp.stack([area / ratio, area * ratio])))
        size = jnp.asarray(image.shape[:2], image.dtype)
        corner = draw[2:] * (1.0 - share) * size
        scale = 1.0 / share
        crop = jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -corner * scale, method="linear", antialias=False)
        return jnp.clip(crop, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"{self}: probability must lie in 0..1")

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Mirror those whose key says so."""
        flip = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32) < self.probability)(keys)
        return jnp.where(flip.reshape(-1, 1, 1, 1), images[:, :, ::-1, :], images)


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Multiply by a factor `~ U(1 - amount, 1 + amount)`, clipped to 0..1."""

    amount: float

    def __post_init__(self) -> None:
        _check_amount(self, self.amount)

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Brighten or darken every image by its own factor."""
        return jnp.clip(images * _factors(keys, self.amount, images.dtype), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Stretch the distance to the picture's mean luminance by a factor `~ U(1 - amount, 1 + amount)`, clipped to 0..1."""

    amount: float

    def __post_init__(self) -> None:
        _check_amount(self, self.amount)

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Stretch or flatten every image by its own factor."""
        weights = jnp.asarray(_LUMINANCE, images.dtype).reshape(1, 1, 1, 3)
        mean = (images * weights).sum(axis=-1, keepdims=True).mean(axis=(1, 2), keepdims=True)
        return jnp.clip(mean + (images - mean) * _factors(keys, self.amount, images.dtype), 0.0, 1.0)


Augmentation = RandomResizedCrop | HorizontalFlip | Brightness | Contrast
_AUGMENTATIONS: dict[str, type[Augmentation]] = {op.__name__: op for op in (RandomResizedCrop, HorizontalFlip, Brightness, Contrast)}


def augmentations(config: AugmentConfig) -> tuple[Augmentation, ...]:
    """The operations that the configuration turns on, in the order in which they are applied."""
    crop = config.crop_min_area is not None and config.crop_min_area < 1.0
    wanted = (
        RandomResizedCrop(config.crop_min_area) if crop and config.crop_min_area is not None else None,
        HorizontalFlip() if config.horizontal_flip else None,
        Brightness(config.brightness) if config.brightness else None,
        Contrast(config.contrast) if config.contrast else None,
    )
    return tuple(op for op in wanted if op is not None)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Everything between a file and the model. It is saved with the model, so that prediction sees what evaluation saw."""

    image: ImageFormat
    normalize: Normalize
    augment: tuple[Augmentation, ...] = ()

    def train(self, images: UInt8[Array, "batch h w 3"], key: Key[Array, ""], ids: Int[Array, " batch"], dtype: Any = jnp.float32) -> Images:
        """Augmented and normalised training images. Operation k of example i draws from `fold_in(fold_in(key, i), k)`; give a new `key` each step.

        The draws are made in float32 whatever `dtype` is, so that training in float64 sees the same changes.
        """
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(ids)
        pixels = _to_float(images, dtype)
        for position, operation in enumerate(self.augment):
            pixels = operation(pixels, jax.vmap(lambda one, position=position: jax.random.fold_in(one, position))(keys))
        return self.normalize(pixels)

    def evaluate(self, images: UInt8[Array, "batch h w 3"], dtype: Any = jnp.float32) -> Images:
        """Normalised images, nothing random."""
        return self.normalize(_to_float(images, dtype))

    def inputs(self, batch: Mapping[str, Array]) -> Images:
        """What the model reads of a batch in evaluation and prediction."""
        return self.evaluate(batch["image"])

    def training_inputs(self, batch: Mapping[str, Array], key: Key[Array, ""], dtype: Any = jnp.float32) -> Images:
        """What the model reads of a batch in training: changed at random by (key, example)."""
        return self.train(batch["image"], key, batch["id"], dtype)

    def to_json(self) -> dict[str, Any]:
        """A value for JSON from which `from_json` makes an equal one."""
        operations = [{"name": type(operation).__name__, **dataclasses.asdict(operation)} for operation in self.augment]
        return {"image": dataclasses.asdict(self.image), "normalize": dataclasses.asdict(self.normalize), "augment": operations}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`.

        Raises:
          DataError: an unknown operation or field.
        """
        _check_keys(value, ("image", "normalize", "augment"), "preprocessing")
        operations = []
        for entry in value["augment"]:
            if entry["name"] not in _AUGMENTATIONS:
                raise DataError(f"preprocessing: operation {entry['name']!r} is unknown: {did_you_mean(entry['name'], _AUGMENTATIONS)}")
            operations.append(_from_fields(_AUGMENTATIONS[entry["name"]], {key: entry[key] for key in entry if key != "name"}))
        return cls(_from_fields(ImageFormat, value["image"]), _from_fields(Normalize, value["normalize"]), tuple(operations))


def _to_float(images: UInt8[Array, "batch h w 3"], dtype: Any) -> Images:
    return images.astype(dtype) / 255.0


def _factors(keys: Keys, amount: float, dtype: Any) -> Float[Array, "batch 1 1 1"]:
    draw = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32, 1.0 - amount, 1.0 + amount))(keys)
    return draw.astype(dtype).reshape(-1, 1, 1, 1)


def _check_amount(operation: Any, amount: float) -> None:
    if not 0 <= amount <= 1:
        raise ConfigError(f"{operation}: amount must lie in 0..1")


def _check_keys(value: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in allowed:
            raise DataError(f"{where}: unknown field {key!r}: {did_you_mean(key, allowed)}")
    missing = [key for key in allowed if key not in value]
    if missing:
        raise DataError(f"{where}: the field {missing[0]!r} is missing")


def _from_fields(kind: type, value: Mapping[str, Any]) -> Any:
    names = tuple(field.name for field in dataclasses.fields(kind))
    _check_keys(value, names, f"preprocessing: {kind.__name__}")
    return kind(**{key: tuple(given) if isinstance(given, list) else given for key, given in value.items()})
