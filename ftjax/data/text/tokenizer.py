"""From text to tokens: the Rust library `tokenizers` behind one small value, opened from a model's directory.

What the file says about truncation and padding is switched off: lengths are the configuration's, and padding is made batch by batch.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Bool, Int

from ftjax import files
from ftjax.data.text.shorten import head_and_tail
from ftjax.data.text.tokenizer_files import known_pad, read_definition
from ftjax.errors import ConfigError, WeightsError, did_you_mean

FILE = "tokenizer.json"
TRUNCATIONS = ("right", "left", "middle")
_CHUNK = 2048
"""Texts that are encoded at once: the library's own objects are many times larger than the arrays that are kept."""
_SAMPLE = 2000
_SLACK = 1.25, 1024
"""Embeddings have up to this many times more rows, plus so many, than their tokenizer knows tokens: rows are added for speed, or kept for new tokens."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of n texts or pairs, end to end: those of row i are `ids[starts[i]:starts[i + 1]]`.

    Attributes:
      ids: int32 `[all]`, special tokens included.
      segments: int8 `[all]`: 1 in the second text of a pair, where the tokenizer says so.
      words: int32 `[all]`: which word a token belongs to, -1 for special tokens.
      starts: int64 `[n + 1]`.
      truncated: `[n]`: something was cut off.
    """

    ids: Int[np.ndarray, " all"]
    segments: Int[np.ndarray, " all"]
    words: Int[np.ndarray, " all"]
    starts: Int[np.ndarray, " bounds"]
    truncated: Bool[np.ndarray, " n"]

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens of each row."""
        return np.diff(self.starts).astype(np.int32)

    def padded(self, rows: Int[np.ndarray, " k"], length: int, pad: int) -> dict[str, np.ndarray]:
        """`tokens` and `segments` int32 and `mask` bool, `[k length]`, filled up on the right."""
        mask, where = self.places(rows, length)
        return {
            "tokens": np.where(mask, self.ids[where], np.int32(pad)),
            "mask": mask,
            "segments": np.where(mask, self.segments[where], 0).astype(np.int32),
        }

    def places(self, rows: Int[np.ndarray, " k"], length: int) -> tuple[Bool[np.ndarray, "k length"], Int[np.ndarray, "k length"]]:
        """Which places of `[k length]` hold a token, and which one (0 where there is none)."""
        mask = np.arange(length) < self.lengths[rows][:, None]
        return mask, np.where(mask, self.starts[:-1][rows][:, None] + np.arange(length), 0)

    def unknown(self, token: int | None) -> float:
        """Share of the tokens that are `token`."""
        return float((self.ids == token).mean()) if token is not None and len(self.ids) else 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """What cuts texts into tokens, as it lies in a model's directory.

    Attributes:
      definition: the content of a tokenizer.json, without truncation and padding.
      where: the file it came from.
      pad: id of the padding token (which one it is matters to nobody: padding is masked).
      truncation: what a text that is too long loses: its end ("right"), its beginning ("left") or its "middle".
    """

    definition: str
    where: str
    pad: int
    truncation: str = "right"

    def __post_init__(self) -> None:
        """Open it once, so that a damaged file is met here.

        Raises:
          ConfigError: there is no such truncation.
          WeightsError: the definition is damaged.
        """
        if self.truncation not in TRUNCATIONS:
            raise ConfigError(f"text.truncation={self.truncation!r}: {did_you_mean(self.truncation, TRUNCATIONS)}")
        self.engine  # noqa: B018

    @functools.cached_property
    def engine(self) -> tokenizers.Tokenizer:
        """The library's tokenizer. Nobody changes it."""
        return _open(self.definition, self.where)

    @functools.cached_property
    def unknown(self) -> int | None:
        """Id of the token for what the vocabulary does not have; None where every byte has a token."""
        token = json.loads(self.definition)["model"].get("unk_token")
        return None if token is None else self.engine.token_to_id(token)

    @functools.cached_property
    def specials(self) -> tuple[int, ...]:
        """Ids of the special tokens, in order."""
        named = {index for index, token in self.engine.get_added_tokens_decoder().items() if token.special}
        return tuple(sorted(named.union(self.engine.encode("").ids, self.engine.encode("", "").ids)))

    @functools.cached_property
    def opening(self) -> tuple[int, ...]:
        """Ids of the special tokens that are put in front of a text."""
        encoding = self.engine.encode("a")
        return tuple(itertools.compress(encoding.ids, itertools.accumulate(encoding.special_tokens_mask, min)))

    @functools.cached_property
    def blank(self) -> int | None:
        """Id of the token that stands for one which is not to be seen: the mask, else the unknown token; None where there is neither."""
        masks = [index for index in map(self.engine.token_to_id, ("[MASK]", "<mask>")) if index is not None]
        return masks[0] if masks else self.unknown

    def lowercased(self) -> Tokenizer:
        """The same, making texts lower case before anything else; offsets still are those of the text as it came."""
        value = json.loads(self.definition)
        steps = [{"type": "Lowercase"}, *([value["normalizer"]] if value.get("normalizer") else [])]
        return dataclasses.replace(self, definition=_open(json.dumps(value | {"normalizer": {"type": "Sequence", "normalizers": steps}}), self.where).to_str())

    @functools.cached_property
    def size(self) -> int:
        """One more than the largest id."""
        return 1 + max(self.engine.get_vocab(with_added_tokens=True).values(), default=-1)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the definition."""
        return hashlib.sha256(self.definition.encode()).hexdigest()

    def special(self, pair: bool = False) -> int:
        """Special tokens that are added to a text or a pair."""
        return self.engine.num_special_tokens_to_add(pair)

    def encode(self, texts: Sequence[str] | Sequence[Sequence[str]], pairs: Sequence[str] | None = None, *, max_length: int) -> Tokens:
        """Cut texts into tokens, on all cores.

        Args:
          texts: strings, or lists of words.
          pairs: the second text of each.
          max_length: tokens, special ones included; the longer text of a pair is cut first, where `truncation` says.

        Raises:
          ConfigError: `max_length` leaves no room for a token of each text.
        """
        words = bool(len(texts)) and not isinstance(texts[0], str)
        needed = self.special(pairs is not None) + (1 if pairs is None else 2)
        if max_length < needed:
            raise ConfigError(f"text.max_length={max_length}: allowed is {needed} or more ({needed - self.special(pairs is not None)} and the special tokens)")
        engine = self._cutting(max_length, words)
        inputs: Sequence[Any] = texts if pairs is None else list(zip(texts, pairs))
        encodings = (encoding for chunk in _chunks(inputs) for encoding in engine.encode_batch(chunk, is_pretokenized=words))
        return _joined(encodings, max_length if self.truncation == "middle" else None)

    def encode_apart(self, texts: Sequence[str]) -> Iterator[tokenizers.Encoding]:
        """Each text by itself: no special tokens, nothing cut off."""
        for chunk in _chunks(texts):
            yield from self.engine.encode_batch(chunk, add_special_tokens=False)

    def misfit(self, texts: Sequence[str]) -> float:
        """Share of the tokens of (at most 2,000 evenly spaced of) these texts that are unknown or hold one letter, or part of one, of a longer word."""
        chosen = [texts[row] for row in np.unique(np.linspace(0, len(texts) - 1, _SAMPLE).astype(int))] if len(texts) > _SAMPLE else texts
        bad = total = 0
        for text, encoding in zip(chosen, self.encode_apart([text[:10_000] for text in chosen])):
            ids = np.asarray(encoding.ids)
            total += len(ids)
            bad += int((_crumbs(text, encoding) | (ids == (-1 if self.unknown is None else self.unknown))).sum())
        return bad / total if total else 0.0

    def save(self, path: Path) -> None:
        """Write the definition: a tokenizer.json that this and every other library reads."""
        files.write_text(Path(path), self.definition)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a handful of tokenizers live as long as the run.
    def _cutting(self, max_length: int, words: bool) -> tokenizers.Tokenizer:
        engine = _open(_spaced(self.definition) if words else self.definition, self.where)
        if self.truncation != "middle":
            engine.enable_truncation(max_length, strategy="longest_first", direction=self.truncation)
        return engine


def open_tokenizer(folder: str | Path, where: str) -> Tokenizer:
    """The tokenizer in a model's directory: `tokenizer.json`, or `vocab.txt` (WordPiece, as BERT's), or `vocab.json` with `merges.txt` (byte-level BPE).

    Args:
      folder: the directory, or the tokenizer.json itself.
      where: what the user called it, for messages.

    Raises:
      WeightsError: there is none, or it is damaged; the message names the file.
    """
    definition, path = read_definition(Path(folder), where)
    engine = _open(definition, str(path))
    named = engine.padding or {}
    pad = known_pad(path.parent, named.get("pad_token"), engine.token_to_id)
    engine.no_padding()
    engine.no_truncation()
    return Tokenizer(engine.to_str(), str(path), pad)


def check_vocabulary(tokenizer: Tokenizer, rows: int) -> None:
    """Tokenizer and embedding belong together: every id has a row, and there are not many rows more.

    Raises:
      WeightsError: they do not.
    """
    belongs = "the tokenizer belongs to another model"
    if tokenizer.size > rows:
        raise WeightsError(
            f"{tokenizer.where} has ids up to {tokenizer.size - 1}, the model's embedding only {rows} rows: {belongs}, or tokens were added to it"
        )
    if rows > tokenizer.size * _SLACK[0] + _SLACK[1]:
        raise WeightsError(f"{tokenizer.where} knows {tokenizer.size} tokens, the model's embedding has {rows} rows: {belongs}")


def _open(definition: str, where: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(definition)
    except Exception as error:  # The library raises plain Exceptions.
        raise WeightsError(f"{where} is no tokenizer that the tokenizers library {tokenizers.__version__} can read: {error}") from None


def _spaced(definition: str) -> str:
    """Byte-level tokenizers tell a word inside a text by the space before it; words that come one by one must get theirs back."""
    value = json.loads(definition)
    steps = [value.get("pre_tokenizer") or {}]
    for step in steps:
        steps += step.get("pretokenizers", [])
        if step.get("type") == "ByteLevel":
            step["add_prefix_space"] = True
    return json.dumps(value)


def _chunks(inputs: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(inputs), _CHUNK):
        yield inputs[start : start + _CHUNK]


def _joined(encodings: Iterator[tokenizers.Encoding], without_middle: int | None) -> Tokens:
    """The tokens end to end; with a length, those whose text is longer lose its middle."""
    ids, segments, words, lengths, truncated = [], [], [], [0], []
    for encoding in encodings:
        kept = slice(None) if without_middle is None else head_and_tail(encoding, without_middle)
        ids.append(np.array(encoding.ids, np.int32)[kept])
        segments.append(np.array(encoding.type_ids, np.int8)[kept])
        words.append(np.array([-1 if word is None else word for word in encoding.word_ids], np.int32)[kept])
        lengths.append(len(ids[-1]))
        truncated.append(bool(encoding.overflowing) or len(ids[-1]) < len(encoding))

    def joined(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts or [np.empty(0, np.int32)])

    return Tokens(joined(ids), joined(segments), joined(words), np.cumsum(np.array(lengths, np.int64)), np.array(truncated, bool))


def _crumbs(text: str, encoding: tokenizers.Encoding) -> Bool[np.ndarray, " tokens"]:
    """Tokens that hold one letter of a longer word, or one of several parts of a single character."""
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    words = np.array([-1 if word is None else word for word in encoding.word_ids], np.int64)
    if not len(offsets):
        return np.zeros(0, bool)
    small = (offsets[:, 1] - offsets[:, 0] <= 1) & np.array([text[start:end].isalpha() for start, end in offsets])
    same = np.append(words[1:] == words[:-1], False)
    return small & (same | np.roll(same, 1))
