"""Mixup and CutMix: a picture and its label get a share of another row of the batch.

The one change that needs two rows, so it has two halves: `paired` sees the whole batch, before it is cut into micro-batches, and puts each row's partner beside
it; `mixed` sees a row and its partner. So no number depends on how a batch is computed. The loss reads `label_b` and `mix`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ftjax.data.augment.draws import Images
from ftjax.data.augment.erasing import within
from ftjax.errors import ConfigError

_MIXING = 2**31 - 1
"""What mixing folds into the key of the step; operations fold in an example's id."""


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixup and CutMix with their alphas; 0 is off, with both on every row draws one of them (as timm's `Mixup` does, there for a batch).

    The share of a row itself is `lambda ~ Beta(alpha, alpha)`, drawn for each row. Mixup (Zhang et al. 2018, arXiv:1710.09412) takes
    `lambda x + (1 - lambda) x_b`. CutMix (Yun et al. 2019, arXiv:1905.04899) pastes a rectangle of the partner with sides `sqrt(1 - lambda)` of the picture's
    about a random middle, cut off at the border; lambda is then the share that was not pasted over, counted in pixels.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or not max(self.mixup, self.cutmix) > 0:
            raise ConfigError(f"{self}: both alphas must be 0 or more, and one of them above 0")

    def paired(self, batch: Mapping[str, Array], key: Key[Array, ""]) -> dict[str, Array]:
        """The batch with each row's partner and share.

        The partner is the row a random number of places further on, one number for all. A row of weight 0 is nobody's partner and has none: its share is 1.

        Returns:
          `batch` and `image_b`, `id_b`, `label_b` of the partner; `mix` float32 `[batch]`, the row's own share of picture and label; `box` int32 `[batch 4]`,
          what is pasted (top, left, bottom, right), empty where the whole pictures are mixed.

        Raises:
          ConfigError: there is no other row.
        """
        rows, height, width, _ = batch["image"].shape
        if rows < 2:
            raise ConfigError(
                "augment.mixup and augment.cutmix mix a row with another one of its batch, and there is none; allowed: train.batch_size of 2 or more"
            )
        key = jax.random.fold_in(key, _MIXING)
        partner = (jnp.arange(rows) + jax.random.randint(key, (), 1, rows, jnp.int32)) % rows
        mix, box = jax.vmap(lambda row: self._share(jax.random.fold_in(key, row), height, width))(batch["id"])
        alone = (batch["weight"] <= 0) | (batch["weight"][partner] <= 0)
        others = {f"{name}_b": batch[name][partner] for name in ("image", "id", "label")}
        return {**batch, **others, "mix": jnp.where(alone, 1.0, mix), "box": jnp.where(alone[:, None], 0, box)}

    def _share(self, key: Key[Array, ""], height: int, width: int) -> tuple[Float[Array, ""], Int[Array, " edges"]]:
        of_kind, of_share, of_place = jax.random.split(key, 3)
        pasted = jax.random.uniform(of_kind, (), jnp.float32) < 0.5 if self.mixup and self.cutmix else jnp.array(self.cutmix > 0)
        alpha = jnp.where(pasted, jnp.float32(self.cutmix or self.mixup), jnp.float32(self.mixup or self.cutmix))
        share = symmetric_beta(jax.random.uniform(of_share, (2,), jnp.float32), alpha)
        box = jnp.where(pasted, _box(share, jax.random.uniform(of_place, (2,), jnp.float32), height, width), 0)
        area = (box[2] - box[0]) * (box[3] - box[1])
        return jnp.where(pasted, 1.0 - area.astype(jnp.float32) / (height * width), share), box


def mixed(images: Images, others: Images, mix: Float[Array, " batch"], box: Int[Array, "batch 4"]) -> Images:
    """Every picture with its partner mixed in (where the box is empty) or pasted into the box."""
    inside = jax.vmap(lambda one: within(one, *images.shape[1:3]))(box)[..., None]
    pasted = (box[:, 2:] > box[:, :2]).all(axis=1).reshape(-1, 1, 1, 1)
    share = jnp.where(pasted, jnp.where(inside, 0.0, 1.0), mix.reshape(-1, 1, 1, 1)).astype(images.dtype)
    return share * images + (1 - share) * others


def symmetric_beta(draw: Float[Array, " two"], alpha: Float[Array, ""]) -> Float[Array, ""]:
    """`Beta(alpha, alpha)` from two numbers uniform in 0..1, in closed form: `(1 + t / sqrt(2 alpha + t^2)) / 2`, t Student's with 2 alpha degrees of freedom.

    With `t^2 = 2 alpha (u^(-1 / alpha) - 1) cos^2(2 pi v)` (Bailey 1994, Math. Comp. 62, 779-781). Samplers that reject are loops, slow to compile and to run.
    """
    angle = jnp.cos(2 * jnp.pi * draw[1])
    odds = jnp.expm1(-jnp.log(draw[0]) / alpha) * angle**2
    return (1 + jnp.sign(angle) * jnp.sqrt(1 / (1 + 1 / odds))) / 2


def _box(share: Float[Array, ""], middle: Float[Array, " axes"], height: int, width: int) -> Int[Array, " edges"]:
    """The rectangle that leaves about `share` of the picture, cut off at the border."""
    size = jnp.array([height, width])
    half = jnp.floor(jnp.sqrt(1.0 - share) * size).astype(jnp.int32) // 2
    place = jnp.floor(middle * size).astype(jnp.int32)
    return jnp.concatenate([jnp.clip(place - half, 0, size), jnp.clip(place + half, 0, size)]).astype(jnp.int32)
