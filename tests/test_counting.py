"""Counts in sentences: the singular of what the warnings say."""

from __future__ import annotations

import pytest

from ftjax.counting import counted


@pytest.mark.parametrize(
    ("what", "one", "many"),
    [
        ("images are in more than one split", "1 image is in more than one split", "1,234 images are in more than one split"),
        ("other files were ignored", "1 other file was ignored", "1,234 other files were ignored"),
        (
            "texts were dropped because they are almost the same as one of a higher split",
            "1 text was dropped because it is almost the same as one of a higher split",
            "1,234 texts were dropped because they are almost the same as one of a higher split",
        ),
        ("labels that are probably wrong", "1 label that is probably wrong", "1,234 labels that are probably wrong"),
    ],
)
def test_one_is_told_in_the_singular(what: str, one: str, many: str) -> None:
    assert (counted(1, what), counted(1234, what), counted(0, what)) == (one, many, f"0 {what}")
