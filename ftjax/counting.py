"""Counts in sentences: one of something is not "1 things are"."""

from __future__ import annotations

_ONE = {"are": "is", "have": "has", "were": "was", "they": "it"}


def counted(count: int, what: str) -> str:
    """A count and what there is of it, for one in the singular.

    >>> counted(3, "groups of images are almost the same")
    '3 groups of images are almost the same'
    >>> counted(1, "groups of images are almost the same")
    '1 group of images is almost the same'
    """
    return f"{count:,} {singular(what) if count == 1 else what}"


def singular(what: str) -> str:
    """Words of ours about several things, said of one: the first word that ends in s loses it, and verbs follow.

    >>> singular("unreadable images were skipped")
    'unreadable image was skipped'
    """
    words = what.split(" ")
    noun = next((place for place, word in enumerate(words) if word.endswith("s")), None)
    return " ".join(word[:-1] if place == noun else _ONE.get(word, word) for place, word in enumerate(words))
