"""What lies between a batch of texts and the model. It is saved with the model, beside its tokenizer, so that prediction cuts texts as training did."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from ftjax.data.text.tokenizer import FILE, Tokenizer, open_tokenizer
from ftjax.errors import DataError, did_you_mean

_INPUTS = ("tokens", "mask", "segments")
_FIELDS = ("max_length", "task", "tokenizer", "columns", "stride")


@dataclasses.dataclass(frozen=True)
class TextPreprocessing:
    """How texts enter the model.

    Attributes:
      tokenizer: the model's.
      max_length: tokens of an example, special ones included.
      task: the task's name: sentence_embedding reads two texts as two inputs.
      columns: of the text and the second text in the training data (None: there was no pair); None where they are not known.
      stride: tokens by which windows overlap (question_answering).
    """

    tokenizer: Tokenizer
    max_length: int
    task: str
    columns: tuple[str, str | None] | None = None
    stride: int = 64

    def inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the model reads of a batch: `tokens`, `mask`, `segments` `[batch length]`; anchors and then positives, `[2*batch length]`, where there are."""
        if "pair_tokens" not in batch:
            return {key: jnp.asarray(batch[key]) for key in _INPUTS}
        return {key: jnp.concatenate([batch[key], batch[f"pair_{key}"]]) for key in _INPUTS}

    def training_inputs(self, batch: Mapping[str, Array], key: Key[Array, ""], dtype: Any = jnp.float32) -> dict[str, Array]:
        """What the model reads of a batch in training: the same; texts are changed inside the model, if at all."""
        return self.inputs(batch)

    def to_json(self) -> dict[str, Any]:
        """A value for JSON; the tokenizer is named by its digest and lies beside it in a file."""
        columns = None if self.columns is None else list(self.columns)
        return {"max_length": self.max_length, "task": self.task, "tokenizer": self.tokenizer.digest, "columns": columns, "stride": self.stride}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> TextPreprocessing:
        """The inverse of `to_json`, with the tokenizer from `folder`.

        Raises:
          DataError: an unknown or missing field, or another tokenizer.
          WeightsError: there is no tokenizer, or it is damaged.
        """
        for key in value:
            if key not in _FIELDS:
                raise DataError(f"preprocessing: unknown field {key!r}: {did_you_mean(key, _FIELDS)}")
        missing = [key for key in _FIELDS if key not in value]
        if missing:
            raise DataError(f"preprocessing: the field {missing[0]!r} is missing")
        file = Path(folder) / FILE
        tokenizer = open_tokenizer(file if file.exists() else folder, str(folder))
        # Of the file's bytes: a later version of the library may write the same tokenizer differently.
        if hashlib.sha256(file.read_bytes()).hexdigest() != value["tokenizer"]:
            raise DataError(f"{file} is not the tokenizer that the model was trained with: its content has changed")
        columns = value["columns"]
        return cls(tokenizer, int(value["max_length"]), value["task"], None if columns is None else (columns[0], columns[1]), int(value["stride"]))
