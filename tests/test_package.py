"""The package as a whole: it imports fast and without torch or tensorflow, every module stays small, and every shipped configuration can run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ftjax import configuration
from ftjax.ablation.reading import load_ablation

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "ftjax").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
ABLATIONS = sorted((ROOT / "configs" / "ablations").glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_small_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    longest = max((node.end_lineno - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))), default=0)
    assert longest <= 80


def test_exactly_one_module_differentiates() -> None:
    callers = [str(path.relative_to(ROOT)) for path in MODULES if "value_and_grad(" in path.read_text() or "jax.grad(" in path.read_text()]
    assert callers == ["ftjax/training/step.py"]


def test_importing_ftjax_loads_neither_jax_nor_torch_nor_tensorflow() -> None:
    heavy = "import ftjax, sys; print(sorted({'jax', 'torch', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "[]\n"


def test_a_whole_command_needs_no_torch_and_no_tensorflow() -> None:
    script = "import ftjax.commands.train, sys; print(sorted({'torch', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "[]\n"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads(path: Path) -> None:
    resolved = configuration.resolve(str(path), {})
    assert configuration.from_mapping(configuration.to_mapping(resolved.config), "json") == resolved.config
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_shipped_ablation_loads(path: Path) -> None:
    asked = load_ablation(str(path))
    assert asked.arms or asked.compare or asked.tune or len(asked.seeds) > 1, "it compares something"
    assert f"--ablation configs/ablations/{path.name}" in str(ast.get_docstring(ast.parse(path.read_text())))
