"""Every example in the docstrings of the law is true, among them the one that shows why the chain's order matters."""

import doctest
import importlib

import pytest

MODULES = ("durations", "coefficients.rules", "coefficients.schedules", "coefficients.table", "coefficients.layout", "coefficients.chain")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_docstring_hold(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"ftjax.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
