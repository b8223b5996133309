"""What happens to pixels on the device, inside the step: random changes in training, and the normalisation that the model expects.

Operations (`data/augment`) are frozen dataclasses on float images `[batch h w 3]` in 0..1. The key of an example comes from the step's key and the example's id
alone, so its change depends on neither its place in the batch nor its neighbours, on any number of devices. Only mixing reads a second row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from ftjax.data.augment import OPERATIONS, VIEWS, Augmentation, Images, Mixing, looks, mixed
from ftjax.data.image_format import ImageFormat
from ftjax.errors import ConfigError, DataError, did_you_mean


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
class Preprocessing:
    """Everything between a file and the model. It is saved with the model, so that prediction sees what evaluation saw."""

    image: ImageFormat
    normalize: Normalize
    augment: tuple[Augmentation, ...] = ()
    mixing: Mixing | None = None
    views: str = "one"
    """What a test looks at, a key of `VIEWS`."""

    def __post_init__(self) -> None:
        if self.views not in VIEWS:
            raise ConfigError(f"evaluation.views={self.views!r}: {did_you_mean(self.views, VIEWS)}")

    @property
    def views_of_one(self) -> int:
        """How often a test looks at each picture."""
        return VIEWS[self.views]

    @property
    def is_random(self) -> bool:
        """Whether training sees an example differently each time."""
        return bool(self.augment) or self.mixing is not None

    def train(self, images: UInt8[Array, "batch h w 3"], key: Key[Array, ""], ids: Int[Array, " batch"], dtype: Any = jnp.float32) -> Images:
        """Augmented and normalised training images. Operation k of example i draws from `fold_in(fold_in(key, i), k)`; give a new `key` each step.

        The draws are made in float32 whatever `dtype` is, so that training in float64 sees the same changes.
        """
        return self.normalize(self._changed(images, key, ids, dtype))

    def _changed(self, images: UInt8[Array, "batch h w 3"], key: Key[Array, ""], ids: Int[Array, " batch"], dtype: Any) -> Images:
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(ids)
        pixels = _to_float(images, dtype)
        for position, operation in enumerate(self.augment):
            pixels = operation(pixels, jax.vmap(lambda one, position=position: jax.random.fold_in(one, position))(keys))
        return pixels

    def evaluate(self, images: UInt8[Array, "batch h w 3"], dtype: Any = jnp.float32) -> Images:
        """Normalised images, nothing random."""
        return self.normalize(_to_float(images, dtype))

    def inputs(self, batch: Mapping[str, Array]) -> Images:
        """What the model reads of a batch in evaluation and prediction."""
        return self.evaluate(batch["image"])

    def test_inputs(self, batch: Mapping[str, Array]) -> Float[Array, "batch*views h w 3"]:
        """What the model reads of a batch when it is tested: all views of the first picture, then all of the second, so that they stay on its device."""
        if self.views == "one":
            return self.inputs(batch)
        views = jnp.stack([self.normalize(view) for view in looks(_to_float(batch["image"], jnp.float32), self.views)], axis=1)
        return views.reshape(-1, *views.shape[2:])

    def training_batch(self, batch: Mapping[str, Array], key: Key[Array, ""]) -> Mapping[str, Array]:
        """The whole batch before it is cut into parts: with mixing every row has its partner beside it, the labels too."""
        return batch if self.mixing is None else self.mixing.paired(batch, key)

    def training_inputs(self, batch: Mapping[str, Array], key: Key[Array, ""], dtype: Any = jnp.float32) -> Images:
        """What the model reads of a `training_batch` or a part of one: changed at random by (key, example), a partner by its own id."""
        if self.mixing is None:
            return self.train(batch["image"], key, batch["id"], dtype)
        own, other = (self._changed(batch[f"image{which}"], key, batch[f"id{which}"], dtype) for which in ("", "_b"))
        return self.normalize(mixed(own, other, batch["mix"], batch["box"]))

    def to_json(self) -> dict[str, Any]:
        """A value for JSON from which `from_json` makes an equal one."""
        operations = [{"name": type(operation).__name__, **dataclasses.asdict(operation)} for operation in self.augment]
        return {
            "image": dataclasses.asdict(self.image),
            "normalize": dataclasses.asdict(self.normalize),
            "augment": operations,
            "mixing": None if self.mixing is None else dataclasses.asdict(self.mixing),
            "views": self.views,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`; descriptions from before there was mixing do without it and see a picture once.

        Raises:
          DataError: an unknown operation or field.
        """
        older: dict[str, Any] = {"mixing": None, "views": "one"}
        value = {**older, **value}
        _check_keys(value, ("image", "normalize", "augment", "mixing", "views"), "preprocessing")
        operations = []
        for entry in value["augment"]:
            if entry["name"] not in OPERATIONS:
                raise DataError(f"preprocessing: operation {entry['name']!r} is unknown: {did_you_mean(entry['name'], OPERATIONS)}")
            operations.append(_from_fields(OPERATIONS[entry["name"]], {key: entry[key] for key in entry if key != "name"}))
        mixing = None if value["mixing"] is None else _from_fields(Mixing, value["mixing"])
        return cls(_from_fields(ImageFormat, value["image"]), _from_fields(Normalize, value["normalize"]), tuple(operations), mixing, value["views"])


def _to_float(images: UInt8[Array, "batch h w 3"], dtype: Any) -> Images:
    return images.astype(dtype) / 255.0


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
