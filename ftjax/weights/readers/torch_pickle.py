"""The table of contents of a torch zip file, read by an interpreter that can call nothing.

`data.pkl` is a pickle, that is, a program. Instead of running it, the opcodes that `torch.save` writes for dicts of tensors are followed on a
stack of our own: a global is only a symbol (never imported), REDUCE knows four symbols by name, BUILD may only decorate an OrderedDict
(and is dropped), and every other opcode or global refuses with its name.
"""

from __future__ import annotations

import dataclasses
import math
import pickletools
from typing import Any

import ml_dtypes
import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.source import MAX_DIMENSIONS, MAX_HEADER, MAX_TENSORS

STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

_DTYPE_NAMES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
_CALLABLE = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch Size"}
_ALLOWED = _CALLABLE | {f"torch {name}" for name in (*STORAGES, *_DTYPE_NAMES)}

HINT = "ftjax reads only plain dicts of tensors and runs no code from a file: save it with torch.save(model.state_dict(), path), or as safetensors"


@dataclasses.dataclass(frozen=True)
class Symbol:
    """The name of a global that the pickle mentions."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers: the file `data/<key>` of the archive."""

    key: str
    dtype: np.dtype
    count: int


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor: a strided view of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = object()


def read_pickle(program: bytes, where: str) -> Any:
    """The value that the pickle describes: dicts, lists, tuples, numbers, texts and `View`s.

    Raises:
      WeightsError: the program is malformed, too long, or asks for anything but tensors in plain containers.
    """
    if len(program) > MAX_HEADER:
        raise WeightsError(f"{where}: data.pkl has {len(program)} bytes; the limit is {MAX_HEADER}")
    machine = _Machine(where)
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except WeightsError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{where}: data.pkl is malformed ({type(error).__name__}: {str(error)[:120]})") from None
    raise WeightsError(f"{where}: data.pkl ends early")


class _Machine:
    """A pickle stack machine whose values are inert."""

    def __init__(self, where: str):
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.tensors = 0

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value was expected")
        return value

    def pop_to_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def step(self, name: str, argument: Any) -> None:
        """Follow one opcode."""
        if name in ("PROTO", "FRAME"):
            return
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise WeightsError(f"{self.where}: data.pkl uses the opcode {name}, which a dict of tensors does not need; {HINT}")

    def global_symbol(self, name: str) -> Symbol:
        """A global becomes a symbol if it is one of ours."""
        if name not in _ALLOWED:
            raise WeightsError(f"{self.where}: data.pkl asks for {name.replace(' ', '.')!r}, which is not allowed; {HINT}")
        return Symbol(name)

    def reduce(self) -> Any:
        """What the four known symbols build from their arguments."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Symbol) or function.name not in _CALLABLE or not isinstance(arguments, tuple):
            called = function.name.replace(" ", ".") if isinstance(function, Symbol) else f"a {type(function).__name__}"
            raise WeightsError(f"{self.where}: data.pkl calls {called}, which is not allowed; {HINT}")
        if function.name == "collections OrderedDict":
            return self.ordered_dict(*arguments)
        if function.name == "torch Size":
            return tuple(*arguments)
        if function.name == "torch._utils _rebuild_parameter":
            return self._expect(arguments[0], View)
        return self.tensor(*arguments[:4])

    def ordered_dict(self, pairs: Any = ()) -> dict[Any, Any]:
        """A dict from a list of pairs, as protocol 2 may write it."""
        table: dict[Any, Any] = {}
        for key, value in pairs:
            self._set_item(table, key, value)
        return table

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> View:
        """`_rebuild_tensor_v2`, with every bound checked against the storage it views."""
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            raise WeightsError(f"{self.where}: more than {MAX_TENSORS} tensors")
        storage = self._expect(storage, Storage)
        numbers = (offset, *self._expect(shape, tuple), *self._expect(strides, tuple))
        if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or not all(type(number) is int and number >= 0 for number in numbers):
            raise WeightsError(f"{self.where}: a tensor whose offset, size or strides are not valid (negative, not whole, or too many axes)")
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides))
        if math.prod(shape) and (last >= storage.count or math.prod(shape) > storage.count):
            raise WeightsError(f"{self.where}: a tensor of size {shape} and strides {strides} does not fit its storage of {storage.count} numbers")
        return View(storage, offset, shape, strides)

    def storage(self, identity: Any) -> Storage:
        """A persistent id `("storage", type, key, device, count)`, in the old format with a sixth, None: the storage is no view of another one."""
        kind, symbol, key, _, count, *view = self._expect(identity, tuple)
        if view not in ([], [None]):
            raise WeightsError(f"{self.where}: data.pkl has a storage that is a part of another one, which torch has not written since 2017; {HINT}")
        name = self._expect(symbol, Symbol).name.removeprefix("torch ")
        if kind != "storage" or name not in STORAGES or not isinstance(key, str) or type(count) is not int or count < 0:
            raise WeightsError(f"{self.where}: data.pkl names a storage that is not valid: type {name!r}, allowed: {', '.join(STORAGES)}")
        return Storage(key, STORAGES[name], count)

    def _expect(self, value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            raise WeightsError(f"{self.where}: data.pkl is malformed: a {type(value).__name__} where a {kind.__name__} was expected")
        return value

    def set_items(self, pairs: list[Any]) -> None:
        """Put alternating keys and values into the dict on top of the stack."""
        table = self._expect(self.stack[-1], dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self._set_item(table, key, value)

    def _set_item(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Keys are texts or numbers: the hash of tuples that share their parts could take for ever."""
        if not isinstance(key, str | int):
            raise WeightsError(f"{self.where}: a {type(key).__name__} as a name; allowed: texts and numbers")
        if key in table:
            raise WeightsError(f"{self.where}: the name {str(key)[:80]!r} occurs twice")
        table[key] = value

    def append(self, values: list[Any]) -> None:
        """Put values at the end of the list on top of the stack."""
        self._expect(self.stack[-1], list).extend(values)

    def build(self) -> None:
        """torch decorates a state dict with `_metadata`; nothing else has a state, and the state is dropped."""
        self.pop()
        if not isinstance(self.stack[-1], dict):
            raise WeightsError(f"{self.where}: data.pkl gives a state to a {type(self.stack[-1]).__name__}, which is not allowed; {HINT}")

    def stack_global(self) -> Symbol:
        """Protocol 4's GLOBAL, whose two names lie on the stack."""
        name, module = self.pop(), self.pop()
        return self.global_symbol(f"{module} {name}")


_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINFLOAT", "FLOAT")
_TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")
_LITERALS = frozenset((*_NUMBERS, *_TEXTS))

_CONSTANTS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}


def _last(machine: _Machine, count: int) -> tuple[Any, ...]:
    return tuple(reversed([machine.pop() for _ in range(count)]))


_ACTIONS = {
    "GLOBAL": lambda machine, name: machine.stack.append(machine.global_symbol(name)),
    "STACK_GLOBAL": lambda machine, _: machine.stack.append(machine.stack_global()),
    "BINPERSID": lambda machine, _: machine.stack.append(machine.storage(machine.pop())),
    "REDUCE": lambda machine, _: machine.stack.append(machine.reduce()),
    "BUILD": lambda machine, _: machine.build(),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(_last(machine, 1)),
    "TUPLE2": lambda machine, _: machine.stack.append(_last(machine, 2)),
    "TUPLE3": lambda machine, _: machine.stack.append(_last(machine, 3)),
    "SETITEM": lambda machine, _: machine.set_items(list(_last(machine, 2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "BINPUT": lambda machine, place: machine.memo.__setitem__(place, machine.stack[-1]),
    "LONG_BINPUT": lambda machine, place: machine.memo.__setitem__(place, machine.stack[-1]),
    "MEMOIZE": lambda machine, _: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    "BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
}
