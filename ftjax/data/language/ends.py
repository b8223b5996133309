"""Where texts begin and end for a model: its tokens for that, and its chat template, from the files beside its tokenizer."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from ftjax.data.language.template import NAMED, Template, check_template, chosen_source
from ftjax.data.text.tokenizer import Tokenizer
from ftjax.errors import ConfigError, WeightsError, did_you_mean

_FILES = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json")
_EOS = ("</s>", "<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<eos>", "<end_of_turn>", "<|eot_id|>")
_MARKS = re.compile(r"<\|[a-z_]+\|>")
_BOS = ("<s>", "<|begin_of_text|>", "<bos>")


@dataclasses.dataclass(frozen=True)
class Ends:
    """The token that ends a text, and the one that begins it (None: texts begin without one)."""

    eos: str
    eos_id: int
    bos: str | None = None
    bos_id: int | None = None
    adds_bos: bool = False
    """Whether the tokenizer itself puts it in front."""


def read_ends(folder: Path, tokenizer: Tokenizer) -> Ends:
    """As the files beside the tokenizer name them, or by their usual names.

    Raises:
      WeightsError: nothing says how a text ends.
    """
    eos = _token(folder, "eos", tokenizer, _EOS)
    if eos is None:
        raise WeightsError(f"{folder}: nothing says which token ends a text; name it: 'eos_token' in tokenizer_config.json (usual: {', '.join(_EOS[:3])})")
    bos, bos_id = _token(folder, "bos", tokenizer, _BOS) or (None, None)
    adds = bos_id is not None and (tokenizer.engine.encode("").ids[:1] == [bos_id] or bool(_setting(folder, "add_bos_token")))
    return Ends(eos[0], eos[1], bos, bos_id, adds)


def open_template(folder: Path, chosen: str | None, ends: Ends, tokenizer: Tokenizer) -> Template:
    """The template of the configuration: a name, a file, or (None) the tokenizer's own, and where it has none "prompt_response".

    Raises:
      ConfigError: no such name or file, "tokenizer" where it has none, marks that are no tokens of the tokenizer, or no Jinja.
      DataError: it has several and none is the default.
    """
    own = _own(folder)
    if chosen == "tokenizer" and own is None:
        raise ConfigError(f"text.template='tokenizer': {folder} has no chat template; allowed: {', '.join(map(repr, NAMED))}, or a .jinja file")
    if chosen in NAMED or (chosen is None and own is None):
        name = chosen or "prompt_response"
        _check_marks(name, folder, tokenizer)
        template = Template(NAMED[name], f"text.template={name!r}", (ends.bos or "") if ends.adds_bos else "", ends.eos)
    elif chosen in (None, "tokenizer"):
        template = Template(str(own), f"of {folder}", ends.bos or "", ends.eos)
    else:
        template = Template(_file(str(chosen)), str(chosen), ends.bos or "", ends.eos)
    check_template(template)
    return template


def _check_marks(name: str, folder: Path, tokenizer: Tokenizer) -> None:
    """A mark that is cut into pieces is neither the end of a turn for the model nor a token that answers could stop at."""
    unknown = sorted({mark for mark in _MARKS.findall(NAMED[name]) if tokenizer.engine.token_to_id(mark) is None})
    if unknown:
        allowed = ", ".join(repr(other) for other in NAMED if not _MARKS.search(NAMED[other]))
        raise ConfigError(f"text.template={name!r} writes {', '.join(unknown)}, which the tokenizer of {folder} has no token for; allowed: {allowed}")


def _file(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        names = (*NAMED, "tokenizer")
        raise ConfigError(f"text.template={path!r} is no file and no template: {did_you_mean(path, names)}")
    return file.read_text(encoding="utf-8")


def _own(folder: Path) -> str | None:
    """The template that came with the tokenizer."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return chosen_source(_json(folder / "tokenizer_config.json").get("chat_template"))


def _token(folder: Path, name: str, tokenizer: Tokenizer, usual: tuple[str, ...]) -> tuple[str, int] | None:
    """The token and its id, as the first file that names one does."""
    for file in _FILES:
        settings = _json(folder / file)
        value = settings.get(f"{name}_token")
        value = value.get("content") if isinstance(value, dict) else value
        known = tokenizer.engine.token_to_id(value) if isinstance(value, str) else None
        if isinstance(value, str) and known is not None:
            return value, known
        number = settings.get(f"{name}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int) and (named := tokenizer.engine.id_to_token(number)) is not None:
            return named, number
    return next(((token, known) for token in usual if (known := tokenizer.engine.token_to_id(token)) is not None), None)


def _setting(folder: Path, key: str) -> Any:
    return _json(folder / "tokenizer_config.json").get(key)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: {error}") from None
    return value if isinstance(value, dict) else {}
