"""Hugging Face's BERT (also MiniLM), RoBERTa (also XLM-R and CamemBERT) and DistilBERT, with heads for texts, tokens and answers, or none.

Names may carry the body's prefix (`bert.`), `module.` of parallel training, or neither; old files write `LayerNorm.gamma` and `beta`. The options
recognised say what the file was made for; a run may ask for another end of the same body (`models.for_output`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

from ftjax.errors import WeightsError
from ftjax.weights.maps.base import LINEAR, TORCH_NORM, Line, NameMap, Recognised, norm_lines
from ftjax.weights.maps.hf import Table, classes_of, config_of, needs_config
from ftjax.weights.maps.hf_text import ACTIVATIONS, check_rows, pooling_of
from ftjax.weights.source import Source

_ROLES = ("attention/query", "attention/key", "attention/value", "attention/out", "norm1", "mlp/up", "mlp/down", "norm2")
_SELF = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm")
_BERT = (*_SELF, "intermediate.dense", "output.dense", "output.LayerNorm")
_DISTIL = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm")


@dataclasses.dataclass(frozen=True)
class Kind:
    """One of the three: the prefix of its body, the names of a block's layers in the order of `_ROLES`, the keys of `config.json`.

    Attributes:
      head: what stands before the linear layer of its classifier of texts: a pooler ("linear"), or a dense layer with tanh or relu.
    """

    prefix: str
    shown: str
    model_types: tuple[str, ...]
    block: str
    layers: tuple[str, ...]
    keys: dict[str, str]
    head: str
    pool: str


_KEYS = {"width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads", "hidden": "intermediate_size", "activation": "hidden_act"}
_DISTIL_KEYS = {"width": "dim", "depth": "n_layers", "heads": "n_heads", "hidden": "hidden_dim", "activation": "activation"}
BERT = Kind("bert", "BERT", ("bert",), "encoder.layer.{i}", _BERT, _KEYS, "linear", "pooler")
ROBERTA = Kind("roberta", "RoBERTa", ("roberta", "xlm-roberta", "camembert"), "encoder.layer.{i}", _BERT, _KEYS, "tanh", "first")
DISTILBERT = Kind("distilbert", "DistilBERT", ("distilbert",), "transformer.layer.{i}", _DISTIL, _DISTIL_KEYS, "relu", "first")


def kind_of(options: dict[str, Any]) -> Kind:
    """Which of the three a model of ours is: RoBERTa counts positions from 2, DistilBERT has no segments."""
    return ROBERTA if options["position_offset"] else BERT if options["segments"] else DISTILBERT


def _bare(name: str) -> str:
    """A tensor's name in today's spelling without any prefix."""
    name = name.removeprefix("module.")
    name = re.sub(r"LayerNorm\.(gamma|beta)$", lambda found: f"LayerNorm.{'weight' if found[1] == 'gamma' else 'bias'}", name)
    return re.sub(r"^(bert|roberta|distilbert)\.", "", name)


def _normalise(name: str, recognised: Recognised, kind: Kind) -> str:
    bare = _bare(name)
    return f"{_prefix(kind, recognised)}{bare}" if bare.startswith(("embeddings.", "encoder.", "transformer.", "pooler.")) else bare


def _prefix(kind: Kind, recognised: Recognised) -> str:
    """A bare model (`BertModel`) is saved without the prefix that it has inside a classifier."""
    return "" if recognised.options["output"] == "embedding" else f"{kind.prefix}."


def _linear(source: str, target: str) -> tuple[Line, ...]:
    return Line(f"{source}.weight", f"{target}/kernel", LINEAR), Line(f"{source}.bias", f"{target}/bias")


def _table(recognised: Recognised, kind: Kind) -> tuple[Line, ...]:
    prefix, ours = _prefix(kind, recognised), "encoder/block_{i}"
    stem, block = f"{prefix}embeddings", f"{prefix}{kind.block}"
    tables = (("word", "word"), ("position", "position"), ("segment", "token_type"))
    lines = [Line(f"{stem}.{theirs}_embeddings.weight", f"stem/{name}/embedding") for name, theirs in tables]
    lines += norm_lines(f"{stem}.LayerNorm", "stem/norm", ".", TORCH_NORM)
    for role, layer in zip(_ROLES, kind.layers):
        lines += norm_lines(f"{block}.{layer}", f"{ours}/{role}", ".", TORCH_NORM) if "norm" in role else _linear(f"{block}.{layer}", f"{ours}/{role}")
    return (*lines, *_end(recognised, kind, f"{prefix}pooler.dense"))


def _end(recognised: Recognised, kind: Kind, pooler: str) -> tuple[Line, ...]:
    """Pooler and head. A BERT without pooler gets a new one as transformers would make it, which is a head with tanh on the first token."""
    options = recognised.options
    dense = options["head"] != "linear"
    pooled = _linear(pooler, "head/dense" if dense else "pooler") if kind is BERT else ()
    if recognised.num_classes is None:
        return () if dense else pooled
    if options["output"] == "tokens":
        return (*pooled, *_linear("classifier", "head"), *_linear("qa_outputs", "head"))
    if kind is ROBERTA:
        return (*_linear("classifier.dense", "head/dense"), *_linear("classifier.out_proj", "head"))
    return (*pooled, *(_linear("pre_classifier", "head/dense") if kind is DISTILBERT else ()), *_linear("classifier", "head"))


def _detect(source: Source, kind: Kind) -> Recognised | None:
    config = config_of(source, *kind.model_types)
    if config is None:
        markers = [f"{prefix}{kind.prefix}.embeddings.word_embeddings.weight" for prefix in ("", "module.")]
        needs_config(source, [*markers, *(("embeddings.word_embeddings.weight",) if kind is BERT else ())], kind.shown)
        return None
    names = {_bare(name): name for name in source.tensors}
    options = _options(config, kind)
    check_rows(source, config, names.get("embeddings.word_embeddings.weight"), options["vocabulary"])
    end, head = _made_for(config, kind, names)
    pool, why = pooling_of(source)
    if pool is not None and head is None:
        end |= {"pool": pool, "head": "linear", "output": "embedding"}
    classes, named = classes_of(config, source, head) if head else (None, None)
    why = why or _no_pooler(kind, head, end)
    return Recognised("bert", options | end, classes, None, f"Hugging Face {kind.shown}", None, why, named)


def _options(config: Table, kind: Kind) -> dict[str, Any]:
    """The body's options.

    Raises:
      WeightsError: a key of `config.json` that cannot be computed here.
    """
    config.must_be("position_embedding_type", "absolute")
    config.must_be("is_decoder", False)
    config.must_be("add_cross_attention", False)
    keys = kind.keys
    activation = config.values.get(keys["activation"], "gelu")
    if activation not in ACTIVATIONS:
        raise config.refuse(keys["activation"], ", ".join(ACTIVATIONS))
    padding = config.values.get("pad_token_id", 1)
    if kind is ROBERTA and (type(padding) is not int or padding < 0):
        raise config.refuse("pad_token_id", "the number of the padding token: positions are counted from it")
    options = {name: config.natural(keys[name]) for name in ("width", "depth", "heads", "hidden")}
    if options["width"] % options["heads"]:
        raise config.refuse(keys["heads"], f"a divisor of {keys['width']}={options['width']}")
    return {
        "vocabulary": config.natural("vocab_size"),
        "positions": config.natural("max_position_embeddings"),
        "position_offset": padding + 1 if kind is ROBERTA else 0,
        "segments": 0 if kind is DISTILBERT else config.natural("type_vocab_size"),
        **options,
        "epsilon": 1e-12 if kind is DISTILBERT else config.number("layer_norm_eps", 1e-12),
        "activation": ACTIVATIONS[activation],
    }


def _made_for(config: Table, kind: Kind, names: dict[str, str]) -> tuple[dict[str, Any], str | None]:
    """The options of the end, and the tensor of the head's last layer; None: the file has no head that we have."""
    architectures = config.values.get("architectures") or [""]
    made = str(architectures[0]) if isinstance(architectures, list) else ""
    dense = {ROBERTA.prefix: "classifier.out_proj.weight", DISTILBERT.prefix: "pre_classifier.weight"}.get(kind.prefix)
    tokens = {"pool": kind.pool, "head": "linear", "output": "tokens"}
    texts = {"pool": kind.pool, "head": kind.head, "output": "sequence"}
    if "qa_outputs.weight" in names:
        return tokens, names["qa_outputs.weight"]
    if dense in names and (kind is ROBERTA or "classifier.weight" in names):
        return texts, names["classifier.out_proj.weight" if kind is ROBERTA else "classifier.weight"]
    if "classifier.weight" in names and not made.endswith("ForMultipleChoice"):
        of_texts = kind is BERT and "pooler.dense.weight" in names and not made.endswith("ForTokenClassification")
        return (texts if of_texts else tokens), names["classifier.weight"]
    if kind is BERT and "pooler.dense.weight" not in names:
        return {"pool": "first", "head": "tanh", "output": "sequence"}, None
    return texts, None


def _no_pooler(kind: Kind, head: str | None, end: dict[str, Any]) -> str:
    new = kind is BERT and head is None and end["head"] == "tanh"
    return "the file has no pooler: a new head begins with a dense layer and tanh, as transformers would add them" if new else ""


_ANY_PREFIX = r"(module\.)?((bert|roberta|distilbert)\.)?"
IGNORED = (
    (rf"{_ANY_PREFIX}embeddings\.(position_ids|token_type_ids)", "counts 0, 1, 2, ..., or is 0 everywhere: computed, not stored"),
    (r"(module\.)?(cls\.(predictions|seq_relationship)|lm_head|vocab_(transform|layer_norm|projector))\..*", "the head of pretraining, which guessed words"),
    (rf"{_ANY_PREFIX}pooler\.dense\.(weight|bias)", "the pooler, which this model does not use"),
    (r"(module\.)?(classifier|qa_outputs|pre_classifier|classifier\.(dense|out_proj))\.(weight|bias)", "a head for which this model has no place"),
)


def _named(kind: Kind) -> NameMap:
    table, normalise = functools.partial(_table, kind=kind), functools.partial(_normalise, kind=kind)
    return NameMap(f"Hugging Face {kind.shown}", functools.partial(_detect, kind=kind), table, normalise, IGNORED)


HF_BERTS = {kind.prefix: _named(kind) for kind in (BERT, ROBERTA, DISTILBERT)}
"""Every map of this file, by the prefix of its body."""


def refuse_no_counterpart(options: dict[str, Any], kind: Kind) -> None:
    """Refuse ends that there is no model for.

    Raises:
      WeightsError: the pool or the head of a classifier of texts is another than this kind's, or an embedding is pooled as nobody does.
    """
    pool, head, output = options["pool"], options["head"], options["output"]
    if output == "embedding" and pool == "pooler":
        raise WeightsError(f"sentence-transformers has no pooling {pool!r}; allowed: model.pool='mean' or 'first'")
    allowed = [(kind.pool, kind.head), *([("first", "tanh")] if kind is BERT else [])]
    if output == "sequence" and (pool, head) not in allowed:
        choices = " or ".join(f"model.pool={pool!r} with a head {head!r}" for pool, head in allowed)
        raise WeightsError(f"transformers' {kind.shown} for texts has no pool {pool!r} with a head {head!r}; allowed: {choices}; train with that")
