"""S3-Rec (Zhou et al. 2020): SASRec with BERT's blocks, in torch's layouts. What only its pretraining needs is left out.

Item i of its data has row i, ids are the whole numbers from 1, row 0 is padding and the last one the mask.
"""

from __future__ import annotations

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import LINEAR, TORCH_NORM, Line, NameMap, Recognised, count_up, norm_lines
from ftjax.weights.source import Source

HEADS = 2
"""Of every model that its authors published; the file does not say."""

_BLOCK = "encoder/block_{i}"
_ATTENTION, _MLP = "item_encoder.layer.{i}.attention", "item_encoder.layer.{i}.intermediate"


def _detect(source: Source) -> Recognised | None:
    names = list(source.tensors)
    if not {"item_embeddings.weight", "position_embeddings.weight", "item_encoder.layer.0.attention.query.weight", "LayerNorm.weight"} <= set(names):
        return None
    shape = source.tensors.shape
    rows, width = shape("item_embeddings.weight")
    if width % HEADS or rows < 3:
        raise WeightsError(
            f"{source.location}: an S3-Rec of width {width} with {rows} rows of items; allowed: an even width, and an item beside padding and mask"
        )
    options = {
        "positions": shape("position_embeddings.weight")[0],
        "count_from": "newest",
        "width": width,
        "depth": count_up("item_encoder.layer.{i}.attention.query.weight", names),
        "heads": HEADS,
        "hidden": shape("item_encoder.layer.0.intermediate.dense_1.weight")[0],
        "activation": "gelu",
        "epsilon": 1e-12,
        "norm": "post",
        "causal": True,
        "scale": False,
        "special": 1,
    }
    why = f"{HEADS} heads and gelu as its authors published it; item i is row i"
    return Recognised("sasrec", options, rows - 2, None, S3REC.name, None, why, classes=tuple(map(str, range(1, rows - 1))))


def _linear(source: str, target: str) -> tuple[Line, ...]:
    return Line(f"{source}.weight", f"{target}/kernel", LINEAR), Line(f"{source}.bias", f"{target}/bias")


def _table(_: Recognised) -> tuple[Line, ...]:
    return (
        Line("item_embeddings.weight", "item/embedding"),
        Line("position_embeddings.weight", "stem/position/embedding"),
        *norm_lines("LayerNorm", "stem/norm", ".", TORCH_NORM),
        *(line for name in ("query", "key", "value") for line in _linear(f"{_ATTENTION}.{name}", f"{_BLOCK}/attention/{name}")),
        *_linear(f"{_ATTENTION}.dense", f"{_BLOCK}/attention/out"),
        *norm_lines(f"{_ATTENTION}.LayerNorm", f"{_BLOCK}/norm1", ".", TORCH_NORM),
        *_linear(f"{_MLP}.dense_1", f"{_BLOCK}/mlp/up"),
        *_linear(f"{_MLP}.dense_2", f"{_BLOCK}/mlp/down"),
        *norm_lines(f"{_MLP}.LayerNorm", f"{_BLOCK}/norm2", ".", TORCH_NORM),
    )


S3REC = NameMap(
    "S3-Rec",
    _detect,
    _table,
    ignored=(
        (r"attribute_embeddings\.weight", "attributes are predicted in pretraining only"),
        (r"(aap|mip|map|sp)_norm\.(weight|bias)", "a head of pretraining"),
    ),
)
