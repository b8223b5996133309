"""What lies between a batch of documents and a model that writes. It is saved with the model, so that prompts are written as training wrote them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from ftjax.data.language.encoding import Encoder
from ftjax.data.language.ends import Ends
from ftjax.data.language.template import Template
from ftjax.data.text.tokenizer import FILE, Tokenizer, open_tokenizer
from ftjax.errors import DataError

_INPUTS = ("tokens", "document")
_FIELDS = ("max_length", "task", "tokenizer", "template", "ends", "learn", "columns", "form")


@dataclasses.dataclass(frozen=True)
class LanguagePreprocessing:
    """How conversations and passages enter the model.

    Attributes:
      encoder: cuts them into tokens.
      task: the task's name.
      columns: of the training data, by what they hold.
      form: how the training data's rows were read: "passage", "pair", "chat" or "preference" (`forms.Form`).
    """

    encoder: Encoder
    task: str
    columns: tuple[tuple[str, str], ...] = ()
    form: str = "chat"

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self.encoder.tokenizer

    @property
    def views_of_one(self) -> int:
        """How often a test looks at each text."""
        return 1

    @property
    def is_random(self) -> bool:
        """Training sees an example the same each time."""
        return False

    def inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """`tokens` and `document` `[batch length]`; chosen and then rejected answers, `[2*batch length]`, where there are two."""
        if "pair_tokens" not in batch:
            return {key: jnp.asarray(batch[key]) for key in _INPUTS}
        return {key: jnp.concatenate([batch[key], batch[f"pair_{key}"]]) for key in _INPUTS}

    def test_inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the model reads of a batch when it is tested."""
        return self.inputs(batch)

    def training_batch(self, batch: Mapping[str, Array], key: Key[Array, ""]) -> Mapping[str, Array]:
        """The batch as it is."""
        return batch

    def training_inputs(self, batch: Mapping[str, Array], key: Key[Array, ""], dtype: Any = jnp.float32) -> dict[str, Array]:
        """The same as tested."""
        return self.inputs(batch)

    def to_json(self) -> dict[str, Any]:
        """A value for JSON; the tokenizer is named by its digest and lies beside it in a file."""
        encoder = self.encoder
        return {
            "writes": True,
            "max_length": encoder.max_length,
            "task": self.task,
            "tokenizer": encoder.tokenizer.digest,
            "template": {"source": encoder.template.source, "name": encoder.template.name, "bos": encoder.template.bos, "eos": encoder.template.eos},
            "ends": dataclasses.asdict(encoder.ends),
            "learn": encoder.learn,
            "columns": dict(self.columns),
            "form": self.form,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> LanguagePreprocessing:
        """The inverse of `to_json`, with the tokenizer from `folder`.

        Raises:
          DataError: a field is missing, or another tokenizer.
          WeightsError: there is no tokenizer, or it is damaged.
        """
        missing = next((key for key in _FIELDS if key not in value), None)
        if missing:
            raise DataError(f"preprocessing: the field {missing!r} is missing; {folder} was written by an older ftjax: train again")
        file = Path(folder) / FILE
        tokenizer = open_tokenizer(file, str(folder))
        if hashlib.sha256(file.read_bytes()).hexdigest() != value["tokenizer"]:
            raise DataError(f"{file} is not the tokenizer that the model was trained with: its content has changed")
        encoder = Encoder(tokenizer, Ends(**value["ends"]), Template(**value["template"]), int(value["max_length"]), value["learn"])
        return cls(encoder, value["task"], tuple(sorted(value["columns"].items())), value["form"])
