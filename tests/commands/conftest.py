"""The fixtures of `conftest_commands`, where tests can also import from."""

from conftest_commands import arrays, finished, pretrained

__all__ = ["arrays", "finished", "pretrained"]
