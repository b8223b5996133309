"""What the Hugging Face formats of text encoders share: names of activations, the size of the vocabulary, and sentence-transformers' pooling."""

from __future__ import annotations

from collections.abc import Mapping

from ftjax.errors import WeightsError
from ftjax.weights.maps.hf import Table
from ftjax.weights.readers.hf_config import MODULES, POOLING
from ftjax.weights.source import Source

ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Their names for our activations; the first of ours is the one that is written."""
_POOLS = {"mean": "mean", "mean_tokens": "mean", "cls": "first", "cls_token": "first"}


def written_activation(name: str) -> str:
    """Their name for one of our activations."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def check_rows(source: Source, config: Table, tensor: str | None, vocabulary: int) -> None:
    """Hold the vocabulary of `config.json` against the table of embeddings.

    Raises:
      WeightsError: there are more or fewer rows, or no table at all.
    """
    if tensor is None:
        raise WeightsError(f"{source.location}: {config.values['model_type']} weights without a table of word embeddings; the file may be truncated")
    rows = source.tensors.shape(tensor)[:1]
    if rows != (vocabulary,):
        raise WeightsError(f"{config.where}: vocab_size={vocabulary}, but {tensor!r} has {list(rows)} rows; allowed: the number of rows")


def pooling_of(source: Source) -> tuple[str | None, str]:
    """How sentence-transformers pools this model (None: it is none of theirs), and what of it is left out.

    Raises:
      WeightsError: it pools in a way that there is not here.
    """
    if POOLING not in source.settings:
        return None, ""
    table = Table(f"{source.location}/{POOLING}", source.settings[POOLING])
    modes = {key.removeprefix("pooling_mode_") for key, value in table.values.items() if key.startswith("pooling_mode_") and value is True}
    mode = table.values.get("pooling_mode", ", ".join(sorted(modes)))
    if not isinstance(mode, str) or mode not in _POOLS:
        raise WeightsError(f"{table.where}: pooling {mode!r} is not supported; allowed: mean, cls; without {MODULES} the body alone is read")
    modules = source.settings.get(MODULES, {}).get("modules", [])
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
    rest = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    left = f"; its {', '.join(rest)} after the pooling is left out" if rest else ""
    return _POOLS[mode], f"sentence-transformers pools {mode}{left}"
