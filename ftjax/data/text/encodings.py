"""Bytes of a file as text: by its mark, as UTF-8, as GB18030 where the bytes say so, or as latin-1 with a warning; never half of each."""

from __future__ import annotations

import codecs
import dataclasses
import re
from pathlib import Path

from ftjax.data.text.packed import read_unpacked
from ftjax.errors import ConfigError, DataError, did_you_mean

LARGEST_FILE = 2 * 2**30
"""Bytes of a file of text."""
_USUAL = ("utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "koi8_r", "cp1251")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHINESE = re.compile(rb"(?:[\xa1-\xf7][\xa1-\xfe])+")
_HIGH = re.compile(rb"[\x80-\xff]")
_CHINESE_SHARE = 0.8
"""Share of the bytes above 127 that come in pairs of GB2312; text in the alphabets of latin-1 has few such pairs, other encodings decode with errors."""
_MIXED = 0.1
"""Lines that are proper UTF-8 beside lines that are not, as a share of the latter, above which a file is mixed and not of one older encoding."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """The text of a file, the encoding it was read in, and a warning where that was a guess."""

    text: str
    encoding: str
    warning: str | None = None


def read_text(path: Path, encoding: str | None) -> Decoded:
    """The text of a file; line ends become `\\n`.

    Raises:
      ConfigError: there is no such encoding.
      DataError: the file is too large, cannot be unpacked (`.gz`, `.zst`), holds NUL bytes, or is not in the encoding; the message names the line.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DataError(f"{path} has {size:,} bytes; allowed are {LARGEST_FILE:,}: cut it into smaller files, or keep the columns that are needed")
    decoded = decode(read_unpacked(path, LARGEST_FILE), str(path), encoding)
    text = decoded.text.replace("\r\n", "\n")
    return dataclasses.replace(decoded, text=text if "\n" in text else text.replace("\r", "\n"))


def decode(raw: bytes, where: str, encoding: str | None = None) -> Decoded:
    """Bytes as text; `read_text` says how and what is raised."""
    if encoding is not None:
        decoded = Decoded(_strictly(raw, where, _known(encoding)), encoding)
    else:
        marked = next((name for mark, name in _MARKS if raw.startswith(mark)), None)
        decoded = Decoded(_strictly(raw, where, marked), marked) if marked else _guessed(raw, where)
    if "\0" in decoded.text:
        raise DataError(f"{where}: line {_line(decoded.text.encode('utf-8', 'surrogatepass'), 0)} holds a NUL byte; text has none{_wide(raw)}")
    return decoded


def _known(encoding: str) -> str:
    try:
        if codecs.lookup(encoding)._is_text_encoding:
            return encoding
    except LookupError:
        pass
    raise ConfigError(f"text.encoding={encoding!r} is no encoding that Python knows: {did_you_mean(encoding.lower(), _USUAL)}, ...")


def _strictly(raw: bytes, where: str, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise DataError(f"{where}: line {line} is not {encoding}: byte 0x{byte:02x} ({error.reason}); is text.encoding another one?") from None


def _guessed(raw: bytes, where: str) -> Decoded:
    """UTF-8, or an older encoding of the whole file."""
    try:
        return Decoded(raw.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    if b"\0" in raw:
        raise DataError(f"{where}: line {_line(raw, 0)} holds a NUL byte; text has none{_wide(raw)}")
    _check_mixed(raw, where)
    hint = "if letters look wrong, say text.encoding"
    if _is_chinese(raw):
        return Decoded(raw.decode("gb18030"), "gb18030", f"{where} is not UTF-8; it was read as GB18030 (Chinese); {hint}")
    return Decoded(raw.decode("latin-1"), "latin-1", f"{where} is not UTF-8; it was read as latin-1; {hint}")


def _check_mixed(raw: bytes, where: str) -> None:
    good, bad = [], []
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.isascii():
            try:
                line.decode("utf-8")
                good.append(number)
            except UnicodeDecodeError:
                bad.append(number)
    if len(good) > _MIXED * len(bad):
        shown = ", ".join(map(str, bad[:5])) + (f", ... ({len(bad)} in all)" if len(bad) > 5 else "")
        raise DataError(
            f"{where} mixes encodings: line {good[0]} is UTF-8, line {shown} is not; save it in one, or say text.encoding if it is not UTF-8 at all"
        )


def _is_chinese(raw: bytes) -> bool:
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return sum(map(len, _CHINESE.findall(raw))) >= _CHINESE_SHARE * len(_HIGH.findall(raw))


def _line(raw: bytes, byte: int) -> int:
    return raw.count(b"\n", 0, raw.index(byte)) + 1


def _wide(raw: bytes) -> str:
    """A hint where every other byte is NUL."""
    if raw.count(0) < len(raw) * 0.3:
        return ""
    return f"; it looks like UTF-16 without a mark: text.encoding='utf-16-{'le' if raw[1::2].count(0) >= raw[::2].count(0) else 'be'}'"
