"""The files in which tokenizers come, all made into one form: the content of a tokenizer.json.

Nothing is believed about a file's size before it is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from ftjax.data.text.sentencepiece_files import sentencepiece
from ftjax.errors import WeightsError

_LARGEST = 256 * 2**20
"""Bytes; the largest tokenizer.json in use (Gemma's) has 35 million."""
_PADS = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<|endoftext|>")
_WORD_PIECE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BYTE_LEVEL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def read_definition(folder: Path, where: str) -> tuple[str, Path]:
    """The tokenizer's definition as JSON, and the file it came from.

    Raises:
      WeightsError: there is none, or it is damaged.
    """
    if folder.is_file():
        return _sentencepiece(folder).to_str() if folder.suffix == ".model" else _read(folder), folder
    if (folder / "tokenizer.json").is_file():
        return _read(folder / "tokenizer.json"), folder / "tokenizer.json"
    if (folder / "vocab.txt").is_file():
        return _word_piece(folder / "vocab.txt").to_str(), folder / "vocab.txt"
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _byte_level(folder / "vocab.json", folder / "merges.txt").to_str(), folder / "vocab.json"
    spm = _sentencepiece_file(folder)
    if spm is not None:
        return _sentencepiece(spm).to_str(), spm
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) if folder.is_dir() else "nothing"
    raise WeightsError(
        f"{where} has no tokenizer: allowed are tokenizer.json, vocab.txt (WordPiece), vocab.json with merges.txt (byte-level BPE) and "
        "tokenizer.model (SentencePiece); "
        f"it holds {found or 'nothing'}"
    )


def known_pad(folder: Path, named: str | None, id_of: Callable[[str], int | None]) -> int:
    """Id of the padding token: as the tokenizer's settings or the files beside it name it, or by its usual names, or else 0."""
    stated = (named, _setting(folder / "tokenizer_config.json", "pad_token"), _setting(folder / "special_tokens_map.json", "pad_token"))
    for token in (*stated, *_PADS):
        token = token.get("content") if isinstance(token, dict) else token
        number = id_of(token) if isinstance(token, str) else None
        if number is not None:
            return number
    return 0


def _read(path: Path) -> str:
    size = path.stat().st_size
    if size > _LARGEST:
        raise WeightsError(f"{path} has {size:,} bytes; no tokenizer has more than {_LARGEST:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is damaged: byte {error.start} is not UTF-8") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: {error}") from None


def _setting(path: Path, key: str, default: Any = None) -> Any:
    value = _json(path) if path.is_file() else {}
    return value.get(key, default) if isinstance(value, dict) else default


def _sentencepiece_file(folder: Path) -> Path | None:
    """`tokenizer.model` or `spiece.model`, else the only file that ends so; not XLM-R's `sentencepiece.bpe.model`, whose ids are other than the model's."""
    named = [folder / name for name in ("tokenizer.model", "spiece.model") if (folder / name).is_file()]
    found = named or sorted(path for path in folder.glob("*.model") if path.name != "sentencepiece.bpe.model")
    return found[0] if named or len(found) == 1 else None


def _sentencepiece(path: Path) -> tokenizers.Tokenizer:
    size = path.stat().st_size
    if size > _LARGEST:
        raise WeightsError(f"{path} has {size:,} bytes; no tokenizer has more than {_LARGEST:,}")
    beside = path.with_name("tokenizer_config.json")
    return sentencepiece(path, path.read_bytes(), bool(_setting(beside, "add_bos_token", True)), bool(_setting(beside, "add_eos_token", False)))


def _word_piece(path: Path) -> tokenizers.Tokenizer:
    """BERT's tokenizer from its list of pieces, one a line; `tokenizer_config.json` beside it says whether case matters."""
    pieces = {piece: number for number, piece in enumerate(_read(path).rstrip("\n").split("\n"))}
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in pieces]
    if missing:
        raise WeightsError(f"{path} is no WordPiece vocabulary: it has no {missing[0]}")
    beside = path.with_name("tokenizer_config.json")
    tokenizer = tokenizers.Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=bool(_setting(beside, "tokenize_chinese_chars", True)),
        strip_accents=_setting(beside, "strip_accents"),
        lowercase=bool(_setting(beside, "do_lower_case", True)),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in _WORD_PIECE if token in pieces])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", pieces["[CLS]"]), ("[SEP]", pieces["[SEP]"])],
    )
    return tokenizer


def _byte_level(vocabulary: Path, merges: Path) -> tokenizers.Tokenizer:
    """RoBERTa's tokenizer from its vocabulary and its merges, one a line."""
    pieces = _json(vocabulary)
    missing = [token for token in ("<s>", "</s>") if not isinstance(pieces, dict) or token not in pieces]
    if missing:
        raise WeightsError(f"{vocabulary} is no vocabulary of an encoder: it has no {missing[0]}")
    lines = [line for line in _read(merges).split("\n") if line and not line.startswith("#version")]
    pieced = [line.rstrip("\r").split(" ") for line in lines]
    damaged = next((number for number, pair in enumerate(pieced, 1) if len(pair) != 2), None)
    if damaged is not None:
        raise WeightsError(f"{merges} is damaged: merge {damaged} is {lines[damaged - 1]!r}, not two pieces")
    spaced = bool(_setting(vocabulary.with_name("tokenizer_config.json"), "add_prefix_space", False))
    try:
        tokenizer = tokenizers.Tokenizer(models.BPE(pieces, [(first, second) for first, second in pieced]))
    except Exception as error:  # The library raises plain Exceptions.
        raise WeightsError(f"{merges} does not fit {vocabulary.name}: {error}") from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, lstrip=token == "<mask>", special=True) for token in _BYTE_LEVEL if token in pieces])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", pieces["</s>"]), ("<s>", pieces["<s>"]), trim_offsets=True, add_prefix_space=spaced)
    return tokenizer
