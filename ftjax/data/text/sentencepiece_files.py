"""SentencePiece's model files as tokenizer.json: byte-pair encoding (Llama, Gemma) and unigram (T5, XLM-R), read without its library.

The file is a protocol buffer of three messages, of which a few fields matter. Control symbols in a text are read as such (as transformers does), where
SentencePiece itself would take them for letters; all other text gets the same tokens.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from ftjax.errors import WeightsError

_UNIGRAM, _BPE = 1, 2
_UNKNOWN, _CONTROL, _USER = 2, 3, 4
_SPACE = "\u2581"
_LARGEST_VALUE = 64


@dataclasses.dataclass(frozen=True)
class Pieces:
    """What a model file says.

    Attributes:
      pieces: text, score and type of each token, in the order of their ids.
      kind: 1 for unigram, 2 for byte-pair encoding.
      byte_fallback: letters without a piece become bytes.
      charsmap: the normalisation, compiled; empty: none.
      prefix: a space is put before a text.
      squeeze: spaces at the ends and doubled ones are taken out.
    """

    pieces: tuple[tuple[str, float, int], ...]
    kind: int
    byte_fallback: bool
    unk: int
    bos: int
    eos: int
    charsmap: bytes
    prefix: bool
    squeeze: bool


def sentencepiece(path: Path, content: bytes, add_bos: bool = True, add_eos: bool = False) -> tokenizers.Tokenizer:
    """The tokenizer of a model file.

    Args:
      path: for messages.
      content: of the file.
      add_bos: put the token that begins a text in front of it, where there is one.
      add_eos: put the one that ends a text behind it.

    Raises:
      WeightsError: the file is damaged, or of a kind that there is not here.
    """
    try:
        found = _parsed(content)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is no SentencePiece model, or a damaged one: {error}") from None
    if found.kind not in (_UNIGRAM, _BPE):
        raise WeightsError(f"{path}: a SentencePiece model of type {found.kind}; allowed: 1 (unigram) and 2 (byte-pair encoding)")
    if not 0 <= found.unk < len(found.pieces):
        raise WeightsError(f"{path}: its unknown piece has number {found.unk}, of {len(found.pieces)}")
    try:
        return _built(found, add_bos, add_eos)
    except Exception as error:  # The library raises plain Exceptions.
        raise WeightsError(f"{path} cannot be made into a tokenizer.json: {error}") from None


def _built(found: Pieces, add_bos: bool, add_eos: bool) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(_model(found))
    tokenizer.normalizer = normalizers.Sequence(_normalisation(found))
    if found.kind == _UNIGRAM:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme="never", split=True)
    strip = [decoders.Strip(" ", 1, 0)] if found.prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    added = [(text, kind) for text, _, kind in found.pieces if kind in (_CONTROL, _USER)]
    tokenizer.add_special_tokens([found.pieces[found.unk][0]])
    for text, kind in added:
        token = tokenizers.AddedToken(text, normalized=False, special=kind == _CONTROL)
        (tokenizer.add_special_tokens if kind == _CONTROL else tokenizer.add_tokens)([token])
    first = found.pieces[found.bos][0] if add_bos and 0 <= found.bos < len(found.pieces) else None
    last = found.pieces[found.eos][0] if add_eos and 0 <= found.eos < len(found.pieces) else None
    if first is not None or last is not None:
        tokenizer.post_processor = _template(first, last, tokenizer)
    return tokenizer


def _template(first: str | None, last: str | None, tokenizer: tokenizers.Tokenizer) -> Any:
    def around(name: str, segment: int) -> list[str]:
        return [f"{piece}:{segment}" for piece in (first, name, last) if piece is not None]

    special = [(piece, tokenizer.token_to_id(piece)) for piece in dict.fromkeys((first, last)) if piece is not None]
    return processors.TemplateProcessing(single=around("$A", 0), pair=around("$A", 0) + around("$B", 1), special_tokens=special)


def _model(found: Pieces) -> Any:
    if found.kind == _UNIGRAM:
        return models.Unigram([(text, score) for text, score, _ in found.pieces], found.unk, found.byte_fallback)
    vocabulary = {text: number for number, (text, _, _) in enumerate(found.pieces)}
    unknown = found.pieces[found.unk][0]
    return models.BPE(vocabulary, _merges(found, vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=found.byte_fallback)


def _merges(found: Pieces, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others; the pieces of the best score first, since that is what SentencePiece merges first."""
    ways = [
        (-score, len(text[:cut]), number, (text[:cut], text[cut:]))
        for number, (text, score, kind) in enumerate(found.pieces)
        if kind not in (_UNKNOWN, _CONTROL, _USER)
        for cut in range(1, len(text))
        if text[:cut] in vocabulary and text[cut:] in vocabulary
    ]
    return [pair for *_, pair in sorted(ways, key=lambda way: (way[0], way[2], way[1]))]


def _normalisation(found: Pieces) -> list[Any]:
    steps: list[Any] = [normalizers.Precompiled(found.charsmap)] if found.charsmap else []
    if found.squeeze:
        # Spaces only: a line's end at the end of a text is a token.
        steps += [normalizers.Replace(tokenizers.Regex(r"\A +| +\z"), ""), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    steps += [normalizers.Prepend(_SPACE)] if found.prefix else []
    return [*steps, normalizers.Replace(" ", _SPACE)]


def _parsed(content: bytes) -> Pieces:
    """ModelProto: 1 pieces, 2 trainer_spec, 3 normalizer_spec.

    Raises:
      ValueError: it is none.
    """
    pieces, trainer, normalizer = [], {}, {}
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(_bytes(value)))
            pieces.append((_bytes(piece[1]).decode("utf-8") if 1 in piece else "", _float(piece.get(2)), int(piece.get(3, 1))))
        elif number in (2, 3):
            (trainer if number == 2 else normalizer).update(_fields(_bytes(value)))
    if not pieces:
        raise ValueError("it has no pieces")
    if len({text for text, _, _ in pieces}) < len(pieces):
        raise ValueError("two of its pieces are the same")
    ids = {name: _signed(trainer.get(field, usual)) for name, (field, usual) in {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2)}.items()}
    return Pieces(
        tuple(pieces),
        int(trainer.get(3, _UNIGRAM)),
        bool(trainer.get(35, 0)),
        **ids,
        charsmap=_bytes(normalizer.get(2, b"")),
        prefix=bool(normalizer.get(3, 1)),
        squeeze=bool(normalizer.get(4, 1)),
    )


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of every field of a message: whole numbers, or bytes.

    Raises:
      ValueError: the message is damaged.
    """
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(content, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, place = content[place : place + size], place + size
        elif kind == 2:
            size, place = _varint(content, place)
            value, place = content[place : place + size], place + size
        else:
            raise ValueError(f"a field of wire type {kind}")
        if place > len(content):
            raise ValueError("it ends inside a field")
        yield tag >> 3, value


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
        if shift > _LARGEST_VALUE:
            raise ValueError("a number of more than 64 bits")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a text should be")
    return value


def _float(value: Any) -> float:
    return 0.0 if value is None else float(struct.unpack("<f", _bytes(value))[0])


def _signed(value: Any) -> int:
    """A 32-bit number that may be negative, as -1 for a token that there is not."""
    return int(value) - 2**64 if int(value) >= 2**63 else int(value)
