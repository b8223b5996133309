"""How many bytes of a text each of its tokens adds: by the text itself, as tokens decoded apart may lose spaces or hold parts of a letter."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def token_bytes(text: str, offsets: Int[np.ndarray, "tokens 2"]) -> Int[np.ndarray, " tokens"]:
    """UTF-8 bytes from where the tokens before end to where each ends.

    What lies between two tokens (a space that the tokenizer drops) is the second one's; a letter that several hold is the first one's. So a whole text's tokens
    add up to the bytes up to the last one's end.

    Args:
      text: what was cut into tokens.
      offsets: characters from and up to, of each token.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    before = np.concatenate([[0], np.cumsum(1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF), dtype=np.int64)])
    ends = before[np.maximum.accumulate(offsets[:, 1])] if len(offsets) else np.zeros(0, np.int64)
    return np.diff(ends, prepend=0)
