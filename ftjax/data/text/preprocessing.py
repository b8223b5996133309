"""What lies between a batch of texts and the model. It is saved with the model, beside its tokenizer, so that prediction cuts texts as training did."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from ftjax.data.text.tokenizer import FILE, Tokenizer, open_tokenizer
from ftjax.errors import ConfigError, DataError, did_you_mean

_INPUTS = ("tokens", "mask", "segments")
_FIELDS = ("max_length", "task", "tokenizer", "columns", "stride")
_NEWER: dict[str, Any] = {"truncation": "right", "token_dropout": 0.0}
"""Fields that older descriptions lack, with what they mean there."""


@dataclasses.dataclass(frozen=True)
class TextPreprocessing:
    """How texts enter the model.

    Attributes:
      tokenizer: the model's.
      max_length: tokens of an example, special ones included.
      task: the task's name: sentence_embedding reads two texts as two inputs.
      columns: of the text and the second text in the training data (None: there was no pair); None where they are not known.
      stride: tokens by which windows overlap (question_answering).
      token_dropout: share of the tokens that training replaces by `tokenizer.blank`.
    """

    tokenizer: Tokenizer
    max_length: int
    task: str
    columns: tuple[str, str | None] | None = None
    stride: int = 64
    token_dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.token_dropout < 1:
            raise ConfigError(f"augment.token_dropout={self.token_dropout!r} is out of range; allowed: from 0 up to, not including, 1")
        if self.token_dropout and self.tokenizer.blank is None:
            raise ConfigError(
                f"augment.token_dropout={self.token_dropout:g}: {self.tokenizer.where} has neither a mask nor an unknown token to put in the place "
                "of others; leave it 0"
            )

    @property
    def views_of_one(self) -> int:
        """How often a test looks at each text."""
        return 1

    @property
    def is_random(self) -> bool:
        """Whether training sees an example differently each time."""
        return self.token_dropout > 0

    def inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the model reads of a batch: `tokens`, `mask`, `segments` `[batch length]`; anchors and then positives, `[2*batch length]`, where there are."""
        if "pair_tokens" not in batch:
            return {key: jnp.asarray(batch[key]) for key in _INPUTS}
        return {key: jnp.concatenate([batch[key], batch[f"pair_{key}"]]) for key in _INPUTS}

    def test_inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the model reads of a batch when it is tested."""
        return self.inputs(batch)

    def training_batch(self, batch: Mapping[str, Array], key: Key[Array, ""]) -> Mapping[str, Array]:
        """The batch as it is: texts need nothing of each other."""
        return batch

    def training_inputs(self, batch: Mapping[str, Array], key: Key[Array, ""], dtype: Any = jnp.float32) -> dict[str, Array]:
        """What the model reads of a batch in training: the same, some of its tokens blank; other noise is inside the model.

        A text's tokens are drawn from `fold_in(fold_in(key, id), side)`, where side is 1 for the second text of a pair that is read by itself.
        """
        inputs = self.inputs(batch)
        if not self.token_dropout:
            return inputs
        sides = 1 if "pair_tokens" not in batch else 2
        keys = jnp.concatenate([jax.vmap(lambda row, side=side: jax.random.fold_in(jax.random.fold_in(key, row), side))(batch["id"]) for side in range(sides)])
        return inputs | {"tokens": self._blanked(inputs["tokens"], inputs["mask"], keys)}

    def _blanked(self, tokens: Int[Array, "batch length"], mask: Bool[Array, "batch length"], keys: Key[Array, " batch"]) -> Int[Array, "batch length"]:
        draw = jax.vmap(lambda key: jax.random.uniform(key, tokens.shape[1:], jnp.float32))(keys)
        special = jnp.isin(tokens, jnp.array(self.tokenizer.specials, jnp.int32))
        return jnp.where(mask & ~special & (draw < self.token_dropout), jnp.int32(self.tokenizer.blank), tokens)

    def to_json(self) -> dict[str, Any]:
        """A value for JSON; the tokenizer is named by its digest and lies beside it in a file."""
        columns = None if self.columns is None else list(self.columns)
        return {
            "max_length": self.max_length,
            "task": self.task,
            "tokenizer": self.tokenizer.digest,
            "columns": columns,
            "stride": self.stride,
            "truncation": self.tokenizer.truncation,
            "token_dropout": self.token_dropout,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> TextPreprocessing:
        """The inverse of `to_json`, with the tokenizer from `folder`.

        Raises:
          DataError: an unknown or missing field, or another tokenizer.
          WeightsError: there is no tokenizer, or it is damaged.
        """
        value = {**_NEWER, **value}
        for key in value:
            if key not in (*_FIELDS, *_NEWER):
                raise DataError(f"preprocessing: unknown field {key!r}: {did_you_mean(key, (*_FIELDS, *_NEWER))}")
        missing = [key for key in _FIELDS if key not in value]
        if missing:
            raise DataError(f"preprocessing: the field {missing[0]!r} is missing")
        file = Path(folder) / FILE
        tokenizer = open_tokenizer(file if file.exists() else folder, str(folder))
        # Of the file's bytes: a later version of the library may write the same tokenizer differently.
        if hashlib.sha256(file.read_bytes()).hexdigest() != value["tokenizer"]:
            raise DataError(f"{file} is not the tokenizer that the model was trained with: its content has changed")
        columns = value["columns"]
        bound = None if columns is None else (columns[0], columns[1])
        cutting = dataclasses.replace(tokenizer, truncation=value["truncation"])
        return cls(cutting, int(value["max_length"]), value["task"], bound, int(value["stride"]), float(value["token_dropout"]))
