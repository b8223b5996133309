"""Texts written by a decoder: the prompts read once into a cache of keys and values, then one compiled loop that writes a token of every row at a time.

Prompts of different lengths lie to the right of their padding, so all rows write at the same place. A row's randomness is its seed's, its id's and the
place's: which others are in the batch does not change what is drawn. Where texts are to stop at a string, the loop pauses every few tokens and the text so
far is looked at as the tokenizer decodes it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from ftjax.errors import ConfigError
from ftjax.evaluation.sampling import Choice, Sampling, best, drawn
from ftjax.models import Model, ModelSpec, build
from ftjax.models.decoder import empty_cache
from ftjax.models.layers import Precision
from ftjax.trees import Tree

_ROOM = 16
"""Prompts are padded to a multiple of this, so that few lengths are compiled."""
_LOOK = 16
"""Tokens between two looks at the text, where it may stop at a string."""


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written after one prompt.

    Attributes:
      tokens: with the token that ended it, or that completed a stop string.
      text: of the tokens, without special ones and from a stop string on without the rest; empty where there is no tokenizer.
      ended: by a token, by a string, or because `max_tokens` were written.
    """

    tokens: tuple[int, ...]
    text: str
    ended: Literal["token", "string", "length"]


class _State(NamedTuple):
    """Where the loop stands; `place` is the column to be written next, whose token is chosen of `logits`."""

    place: Int[Array, ""]
    tokens: Int[Array, "batch length"]
    logits: Float[Array, "batch vocabulary"]
    done: Bool[Array, " batch"]
    cache: Tree


class Generator:
    """A decoder that continues prompts.

    Args:
      model: with the output "language".
      params: its parameters; leaves of adapters are met as in training.
      tokenizer: what `data.text.tokenizer.open_tokenizer` gives; None: prompts and answers are tokens only, and there are no stop strings.

    Raises:
      ConfigError: the model does not write.
    """

    def __init__(self, model: Model, params: Tree, tokenizer: Any = None) -> None:
        if model.family.name != "decoder" or model.spec.options["output"] != "language":
            raise ConfigError(f"generation: {model.family.name} with output {model.spec.options['output']!r} does not write; allowed: a decoder, 'language'")
        self._model = _writer(model.spec, model.compute.precision)
        self._params, self._tokenizer = params, tokenizer

    def texts(self, prompts: Sequence[str], sampling: Sampling, *, ids: Sequence[int] | None = None) -> list[Written]:
        """Continue texts, which get the special tokens that the tokenizer puts in front of a text, and none of those that it puts behind one.

        Raises:
          ConfigError: there is no tokenizer, or as in `tokens`.
        """
        if self._tokenizer is None:
            raise ConfigError("generation: texts need a tokenizer; without one, allowed are prompts of tokens")
        opening = self._tokenizer.opening
        return self.tokens([[*opening, *encoding.ids] for encoding in self._tokenizer.encode_apart(list(prompts))], sampling, ids=ids)

    def tokens(self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, ids: Sequence[int] | None = None) -> list[Written]:
        """Continue prompts of tokens.

        Args:
          prompts: at least one token each.
          sampling: how.
          ids: the number of each example, which with the seed decides its randomness; None: 0, 1, 2, ...

        Raises:
          ConfigError: an empty prompt, a token beyond the vocabulary, more tokens than the model has positions for, or stop strings without a tokenizer.
        """
        self.check(prompts, sampling)
        if ids is not None and len(ids) != len(prompts):
            raise ConfigError(f"generation: {len(ids)} ids for {len(prompts)} prompts; allowed: one for each")
        if not prompts:
            return []
        width = _ROOM * -(-max(map(len, prompts)) // _ROOM)
        width = min(width, self._model.spec.options["positions"] - sampling.max_tokens)
        tokens, document = _left_padded(prompts, width, sampling.max_tokens)
        keys = _keys(jnp.uint32(sampling.seed), jnp.asarray(list(range(len(prompts)) if ids is None else ids), jnp.uint32))
        state = _read(self._model, self._params, tokens, document, width)
        return self._write(prompts, sampling, state, document, keys, width)

    def _write(self, prompts: Sequence[Sequence[int]], sampling: Sampling, state: _State, document: Array, keys: Array, width: int) -> list[Written]:
        """Let the loop run, to its end or from look to look."""
        last, filled = width + sampling.max_tokens, 4 - len(sampling.stop_ids) % 4
        stops = jnp.asarray((*sampling.stop_ids, *(-1,) * filled), jnp.int32)  # filled up, so that few numbers of them are compiled
        advance = functools.partial(_advance, self._model, sampling.temperature == 0, self._params, document, keys, Choice.of(sampling), stops, width)
        found: list[Written | None] = [None] * len(prompts)
        place = width
        while place < last and not all(found):
            state = advance(jnp.int32(min(place + _LOOK, last) if sampling.stop else last), state)
            rows, before, place = np.asarray(state.tokens), place - width, int(state.place)
            for row, prompt in enumerate(prompts):
                found[row] = found[row] or self._ended(prompt, rows[row, width:place].tolist(), before, sampling)
            state = state._replace(done=jnp.asarray([written is not None for written in found]))
        rows = np.asarray(state.tokens)[:, width:]
        return [written or Written(tuple(row), self._text(prompt, row), "length") for written, row, prompt in zip(found, rows.tolist(), prompts)]

    def _ended(self, prompt: Sequence[int], new: list[int], before: int, sampling: Sampling) -> Written | None:
        """How a row ended, if it did; of its tokens the first `before` were looked at already."""
        end = next((index + 1 for index, token in enumerate(new) if token in sampling.stop_ids), None)
        stopped = first_stop(functools.partial(self._text, prompt), new[:end], before, sampling.stop) if sampling.stop else None
        if stopped is not None:
            return Written(tuple(new[: stopped[0]]), stopped[1], "string")
        return None if end is None else Written(tuple(new[:end]), self._text(prompt, new[:end]), "token")

    def _text(self, prompt: Sequence[int], new: Sequence[int]) -> str:
        """What the new tokens add to the prompt's text: a token may begin with a space that it would lose at the beginning of a text."""
        if self._tokenizer is None:
            return ""
        decode = self._tokenizer.engine.decode
        whole, known = decode([*prompt, *new], skip_special_tokens=True), decode(list(prompt), skip_special_tokens=True)
        return whole[len(known) :] if whole.startswith(known) else decode(list(new), skip_special_tokens=True)

    def check(self, prompts: Sequence[Sequence[int]], sampling: Sampling, names: Sequence[str] | None = None) -> None:
        """Whether all of them can be continued, before any is.

        Args:
          prompts: tokens.
          sampling: how.
          names: of the prompts, for messages; None: "prompt 0", "prompt 1", ...

        Raises:
          ConfigError: as in `tokens`.
        """
        options = self._model.spec.options
        for row, prompt in enumerate(prompts):
            name = f"prompt {row}" if names is None else names[row]
            if not len(prompt):
                raise ConfigError(f"generation: {name} has no token; allowed: at least one (the token that begins a text)")
            if not 0 <= min(prompt) <= max(prompt) < options["vocabulary"]:
                raise ConfigError(f"generation: {name} has tokens {min(prompt)} to {max(prompt)}; allowed: 0 to {options['vocabulary'] - 1}")
            if len(prompt) + sampling.max_tokens > options["positions"]:
                room = options["positions"] - len(prompt)
                raise ConfigError(
                    f"generation: {name} has {len(prompt)} tokens of the model's {options['positions']}; max_tokens={sampling.max_tokens} does not fit, "
                    f"allowed: {f'at most {room}' if room > 0 else 'a shorter prompt'}"
                )
        if sampling.stop and self._tokenizer is None:
            raise ConfigError("generation: stop strings need a tokenizer; allowed without: stop_ids")


@functools.lru_cache(maxsize=8)
def _writer(spec: ModelSpec, precision: Precision) -> Model:
    """The model without scan, remat and dropout, which are for training; one of each kind, as what is compiled belongs to it."""
    return build(spec, precision=precision)


def first_stop(text: Callable[[Sequence[int]], str], tokens: Sequence[int], before: int, stop: Sequence[str]) -> tuple[int, str] | None:
    """How many tokens complete the first stop string, and the text before it; None: there is none.

    Args:
      text: of tokens; a stop string may span tokens, so it is sought in the whole text, after every token that is new.
      tokens: all.
      before: so many were looked at already.
      stop: the strings; where several begin in the text of as many tokens, the one that begins first counts.
    """
    for count in range(before + 1, len(tokens) + 1):
        here = text(tokens[:count])
        begins = [here.find(string) for string in stop if string in here]
        if begins:
            return count, here[: min(begins)]
    return None


def _left_padded(prompts: Sequence[Sequence[int]], width: int, room: int) -> tuple[Array, Array]:
    """Tokens and documents [batch width + room]: padding (document 0), the prompt, and places to be written."""
    tokens, document = np.zeros((2, len(prompts), width + room), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) : width], document[row, width - len(prompt) :] = prompt, 1
    return jnp.asarray(tokens), jnp.asarray(document)


@jax.jit
def _keys(seed: UInt32[Array, ""], ids: Int[Array, " batch"]) -> Array:
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(ids)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _read(model: Model, params: Tree, tokens: Array, document: Array, width: int) -> _State:
    """The prompts' keys and values, and the logits of what comes after them."""
    inputs = {"tokens": tokens[:, :width], "document": document, "start": jnp.int32(0)}
    features, cache = model.continued(params, inputs, empty_cache(model.spec, *tokens.shape))
    return _State(jnp.int32(width), tokens, model.head(params, features[:, -1]), jnp.zeros(len(tokens), bool), cache)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _advance(
    model: Model, greedy: bool, params: Tree, document: Array, keys: Array, choice: Choice, stops: Array, width: Array, until: Array, state: _State
) -> _State:
    """Write until column `until`, or until every row is done."""

    def write(state: _State) -> _State:
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, state.place - width)
        chosen = best(state.logits) if greedy else drawn(state.logits, now, choice)
        tokens = jax.lax.dynamic_update_slice(state.tokens, chosen[:, None], (0, state.place))
        inputs = {"tokens": chosen[:, None], "document": document, "start": state.place}
        features, cache = model.continued(params, inputs, state.cache)
        done = state.done | (chosen[:, None] == stops[None, :]).any(1)
        return _State(state.place + 1, tokens, model.head(params, features[:, -1]), done, cache)

    return jax.lax.while_loop(lambda state: (state.place < until) & ~state.done.all(), write, state)
