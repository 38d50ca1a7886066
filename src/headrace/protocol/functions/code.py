"""Reads from the instructions of a function which variables and attributes its code names and stores into."""

from __future__ import annotations

import dis
from types import CodeType
from typing import NamedTuple
from weakref import WeakKeyDictionary

#: Names by which code gets at variables and attributes without an instruction that would show it.
WAYS_AROUND = frozenset(
    {
        "setattr", "delattr", "globals", "vars", "exec", "eval", "__dict__", "__setattr__", "__delattr__",
        "__globals__", "__closure__", "__defaults__", "__kwdefaults__", "__code__", "__builtins__", "cell_contents",
        "_getframe", "currentframe", "__main__", "__annotations__", "keywords", "__setstate__",
    }
)  # fmt: skip


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(dis.opmap[name] for name in names if name in dis.opmap)


_GLOBALS = _numbers("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_REBINDS_GLOBAL = _numbers("STORE_GLOBAL", "DELETE_GLOBAL")
_REBINDS_CELL = _numbers("STORE_DEREF", "DELETE_DEREF")
_STORES = _numbers("STORE_ATTR", "DELETE_ATTR")
_LOAD_NAME, _STORE_NAME = dis.opmap["LOAD_NAME"], dis.opmap["STORE_NAME"]
_INTERESTING = _GLOBALS | _REBINDS_CELL | _STORES


class CodeScan(NamedTuple):
    """The dealings of code, with that of the functions defined in it, with what is outside of it.

    Attributes:
        globals: names of global variables, in order. Those in the body of a class that assigns them first are its own.
        rebinds: whether it may assign a global, or a variable of an enclosing function.
        stores: whether it sets attributes of anything.
        stores_elsewhere: whether it sets attributes of anything but its own first parameter.
    """

    globals: tuple[str, ...]
    rebinds: bool
    stores: bool
    stores_elsewhere: bool


_scans: WeakKeyDictionary[CodeType, CodeScan] = WeakKeyDictionary()


def scan(code: CodeType) -> CodeScan:
    """Look through the code of a function; each code object only once."""
    known = _scans.get(code)
    if known is None:
        known = _scans[code] = _scan(code, frozenset(code.co_freevars))
    return known


def _scan(code: CodeType, outer: frozenset[str]) -> CodeScan:
    """Look through code nested in a function that has the variables `outer` from outside."""
    names: dict[str, None] = {}
    own = {"__name__", "__annotations__"}  # of a class's body, which Python sets or reads by itself
    rebinds = stores = elsewhere = not WAYS_AROUND.isdisjoint(code.co_names)
    reassigned = False
    if not _INTERESTING.isdisjoint(code.co_code[::2]):
        before = None
        for instruction in dis.get_instructions(code):
            number = instruction.opcode
            if number == _STORE_NAME:
                own.add(instruction.argval)
            elif number == _LOAD_NAME and instruction.argval in own:
                pass
            elif number in _GLOBALS:
                names[instruction.argval] = None
                rebinds = rebinds or number in _REBINDS_GLOBAL
            elif number in _REBINDS_CELL:
                rebinds = rebinds or (instruction.argval in outer and instruction.argval in code.co_freevars)
            elif number in _STORES:
                stores = True
                # what jumps here brings something else along
                elsewhere = elsewhere or instruction.is_jump_target or not _loads_first_parameter(before, code)
            elif "STORE_FAST" in instruction.opname:
                reassigned = reassigned or _first_parameter(code) in _local_names(instruction)
            if instruction.opname not in ("CACHE", "EXTENDED_ARG"):
                before = instruction
    for constant in code.co_consts:
        if type(constant) is CodeType:
            inner = _scan(constant, outer)
            names.update(dict.fromkeys(inner.globals))
            rebinds = rebinds or inner.rebinds
            stores = stores or inner.stores
            elsewhere = elsewhere or inner.stores  # whose first parameter is not the outer one's
    return CodeScan(tuple(names), rebinds, stores, elsewhere or (stores and reassigned))


def _first_parameter(code: CodeType) -> str | None:
    return code.co_varnames[0] if code.co_argcount else None


def _local_names(instruction: dis.Instruction) -> tuple[str, ...]:
    """The local variables that an instruction loads or stores: later Pythons join two such instructions."""
    names = instruction.argval
    return names if isinstance(names, tuple) else (names,)


def _loads_first_parameter(instruction: dis.Instruction | None, code: CodeType) -> bool:
    """Whether what an instruction loads last is the first parameter."""
    return (
        instruction is not None
        and "LOAD_FAST" in instruction.opname
        and _local_names(instruction)[-1] == _first_parameter(code)
    )
