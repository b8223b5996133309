"""timm for the parity tests, also where torchvision is missing or does not fit torch: timm's models need only names from it."""

import sys
import types

import pytest


class _EmptyClass(type):
    """A class that has every attribute."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(types.ModuleType):
    """A module whose every attribute is an empty class, or a stand-in for the module of that name."""

    __path__ = ()

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}", _EmptyClass(name, (), {}))


_NAMES = ("", ".ops", ".ops.misc", ".transforms", ".transforms.functional", ".models", ".models.feature_extraction", ".datasets")


@pytest.fixture(scope="session")
def timm():
    """The package timm, or a skip."""
    pytest.importorskip("torch")
    try:
        import torchvision
    except (ImportError, RuntimeError):
        torchvision = None
    stand_ins = {} if torchvision else {f"torchvision{name}": _StandIn(f"torchvision{name}") for name in _NAMES}
    sys.modules.update(stand_ins)
    try:
        return pytest.importorskip("timm")
    finally:
        for name in stand_ins:
            sys.modules.pop(name)
