"""A tokenizer of bytes with the ends of texts and chats, a causal stand-in for a decoder, and rows to learn from: small enough for every test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax.data import Encoder, open_template, open_tokenizer, read_ends

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
SIZE = 256 + len(SPECIAL)
UNMARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML as most tokenizers bring it: nothing says what the assistant's is."""


def write_tokenizer(folder: Path, *, bos: bool = True, special: tuple[str, ...] = SPECIAL, **settings: Any) -> Path:
    """`tokenizer.json` and `tokenizer_config.json`; the end of text is the padding, too."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 256)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | settings))
    return folder


def encoder(folder: Path, *, template: str | None = None, max_length: int = 64, learn: str = "response") -> Encoder:
    """What cuts texts into tokens."""
    tokenizer = open_tokenizer(folder, str(folder))
    ends = read_ends(folder, tokenizer)
    return Encoder(tokenizer, ends, open_template(folder, template, ends, tokenizer), max_length, learn)


def decode(encoder: Encoder, ids: np.ndarray) -> str:
    """Tokens as a person reads them, special ones included."""
    return encoder.tokenizer.engine.decode(list(map(int, ids)), skip_special_tokens=False)


class Causal:
    """One layer of causal attention within documents, positions from each document's start: the decoder's functions and nothing else."""

    def __init__(self, vocabulary: int = SIZE, width: int = 8) -> None:
        self.vocabulary, self.width = vocabulary, width

    def init(self, key: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """Random parameters."""
        keys = jax.random.split(key, 4)
        shapes = {"stem": (self.vocabulary, self.width), "position": (512, self.width), "mix": (self.width, self.width)}
        params = {name: {"kernel": 0.5 * jax.random.normal(k, shape, float)} for k, (name, shape) in zip(keys, shapes.items(), strict=False)}
        return params | {"head": {"kernel": 0.5 * jax.random.normal(keys[3], (self.width, self.vocabulary), float)}}, {}

    def body(self, params: Any, extra: Any, inputs: Mapping[str, jax.Array], *, key: Any = None, train: bool = False) -> tuple[jax.Array, Any]:
        """Features of every token."""
        tokens, document = inputs["tokens"], inputs["document"]
        length = tokens.shape[1]
        same = (document[:, :, None] == document[:, None, :]) & (document[:, :, None] > 0) & jnp.tri(length, dtype=bool)[None]
        position = same.sum(axis=2) - 1
        x = params["stem"]["kernel"][tokens] + params["position"]["kernel"][jnp.maximum(position, 0)]
        scores = jnp.where(same, (x @ params["mix"]["kernel"]) @ jnp.swapaxes(x, 1, 2), -1e9)
        return jnp.tanh(x + jax.nn.softmax(scores) @ x), extra

    def head(self, params: Any, features: jax.Array) -> jax.Array:
        """Logits."""
        return features @ params["head"]["kernel"]

    def apply(self, params: Any, extra: Any, inputs: Mapping[str, jax.Array], *, key: Any = None, train: bool = False) -> tuple[jax.Array, Any]:
        """Logits of every token."""
        return self.head(params, self.body(params, extra, inputs)[0]), extra


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(count: int = 60) -> list[dict[str, str]]:
    """Questions with answers."""
    return [{"prompt": f"{i} and {i % 7}", "response": f"make {i + i % 7}" + "!" * (i % 5)} for i in range(count)]


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": SIZE,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "initializer_range": 0.1,
}


def write_llama(folder: Path, **changed: Any) -> Path:
    """A tiny Llama of random weights as a Hugging Face directory, with its tokenizer; `changed` replaces keys of `CONFIG`."""
    from ftjax.weights import save_safetensors

    write_tokenizer(folder)
    config = CONFIG | changed
    width, hidden, kv, draw = 16, 24, 8, np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (SIZE, width), "model.norm.weight": (width,)}
    for block in range(config["num_hidden_layers"]):
        name = f"model.layers.{block}"
        sizes = {"self_attn.q_proj": (width, width), "self_attn.k_proj": (kv, width), "self_attn.v_proj": (kv, width), "self_attn.o_proj": (width, width)}
        sizes |= {"mlp.gate_proj": (hidden, width), "mlp.up_proj": (hidden, width), "mlp.down_proj": (width, hidden)}
        sizes |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
        shapes |= {f"{name}.{layer}.weight": shape for layer, shape in sizes.items()}
    state = {name: (draw.normal(0, 0.2, shape) if len(shape) > 1 else np.ones(shape)).astype(np.float32) for name, shape in shapes.items()}
    (folder / "config.json").write_text(json.dumps(config))
    save_safetensors(folder / "model.safetensors", state, {"format": "pt"})
    return folder
