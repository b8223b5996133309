"""What the terminal says while files are read."""

from __future__ import annotations

from ftjax.commands.show import Decoding


class _View:
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


def test_a_second_pass_over_the_files_is_told_from_the_first():
    view = _View()
    progress = Decoding(view, every=0.0)  # type: ignore[arg-type]
    for total in (2, 1):
        for done in range(1, total + 1):
            progress(done, total)
    assert view.said == ["read 1 of 2 images", "read 2 of 2 images", "decoded 1 of 1 images"]
