"""Finds out what a pickle of a function freezes, and whether any of it has changed since.

A function that is pickled by value takes along what it reaches: the globals that its code names, its closure, defaults
and attributes, and the same of the functions and classes among them. `freeze` looks through all of that. A kept pickle
is good for as long as each part is the very object that it was, and only if no part can change while it stays the same
object. What is pickled by reference (by its module and name) is never looked into.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import logging
import operator
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import ref

from headrace.containment import let_pass

from . import by_reference
from .by_reference import is_by_reference, is_pickled_by_name, is_registered_by_value, registered_by_value
from .code import WAYS_AROUND, CodeScan, scan
from .snapshots import (
    CACHED_FUNCTION,
    MISSING,
    ChangeableError,
    ClassSnapshot,
    FunctionSnapshot,
    NameSnapshot,
    ObjectSnapshot,
    PartialSnapshot,
    PartsSnapshot,
    attributes_of,
    call_of,
    parts_of,
)

#: Types whose values never change, and lead to nothing that does.
ATOMS = frozenset(
    {
        type(None), bool, int, float, complex, str, bytes, range, object, type(Ellipsis), type(NotImplemented),
        decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern, datetime.date, datetime.timedelta,
        datetime.timezone, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path,
        pathlib.PosixPath, pathlib.WindowsPath, operator.attrgetter, types.MethodDescriptorType,
        types.WrapperDescriptorType, types.ClassMethodDescriptorType,
    }
)  # fmt: skip
#: Attributes of classes that Python makes anew, so that no pickle has them.
_MADE_BY_PYTHON = frozenset({"__dict__", "__weakref__"})
#: Descriptors that are looked into.
_DESCRIPTORS = frozenset({property, staticmethod, classmethod, functools.cached_property})


class Frozen:
    """Everything that a function reached when it was looked through.

    Attributes:
        shareable: whether calls cannot change anything of it either, so that many tasks may use one copy.
    """

    __slots__ = ("_records", "_registered", "shareable")

    def __init__(self, records: list[ObjectSnapshot], registered: frozenset[str], shareable: bool) -> None:
        self._records = records
        self._registered = registered
        self.shareable = shareable

    def unchanged(self) -> bool:
        """Whether all of it is as it was."""
        registered = (
            by_reference.registered
        )  # no call: for a function that reaches nothing it would take as long as all else here
        if (registered_by_value() if registered is None else registered) != self._registered:
            return False
        try:
            for record in self._records:
                if not record.unchanged():
                    return False
        except Exception:  # the user's attributes may raise, and nested tuples be deeper than the stack has room now
            return False
        return True


def freeze(function: Callable[..., object]) -> Frozen | None:
    """Look through what a callable reaches; `None` if something among it can change in place.

    Args:
        function: a function, class, or another callable.
    """
    registered = frozenset(registered_by_value())
    reach = Reach(function)
    try:
        reach.expect(function)
        while reach.todo:
            reach.todo.pop().look()
    except BaseException as raised:  # also what the user's own attributes raise
        let_pass(raised)
        return None
    return Frozen(reach.records, registered, reach.shareable())


class Reach:
    """Goes through what a function reaches, each object once.

    Attributes:
        records: what was looked into.
        todo: those among them that are still to be looked into.
        scans: what the code of each function does, and whether it may store on its first parameter, which is an
            instance that no other task has.
        classes: how many classes are pickled by value.
        named: how many times a function was found that is pickled by value, the first one not counted; and other
            callables, but for the one that all this is reached from.
        changing: whether it has something that calls change without any code that shows it: a cache, say.
    """

    def __init__(self, root: object) -> None:
        self.records: list[ObjectSnapshot] = []
        self.todo: list[ObjectSnapshot] = []
        self.scans: list[tuple[CodeScan, bool]] = []
        self.classes = 0
        self.named = -1
        self.changing = False
        self._root = root
        self._seen: set[int] = set()
        self._by_value: set[int] = set()

    def shareable(self) -> bool:
        """Whether no call can change what was reached."""
        # whoever reaches a function or class by a name can set its attributes
        targets = self.classes > 0 or self.named > 0
        return not self.changing and not any(
            code.rebinds or (targets and (code.stores if not on_self else code.stores_elsewhere))
            for code, on_self in self.scans
        )

    def expect(self, value: Any) -> Any:
        """Return what the place of a value is to be compared with later.

        Raises:
            ChangeableError: it can change in place.
        """
        kind = type(value)
        if kind in ATOMS or value is MISSING:
            return value
        if kind is tuple:
            return self._expect_tuple(value)
        if kind is types.FunctionType:
            return self._expect_function(value, False)
        if issubclass(kind, type):  # asking `isinstance` would run what a proxy says of itself
            return self._expect_class(value)
        if issubclass(kind, types.ModuleType):
            name: str = value.__name__
            if sys.modules.get(name) is value and not is_registered_by_value(name):
                return ref(value)
            raise ChangeableError
        return self._expect_callable(kind, value)

    def _expect_tuple(self, value: tuple[Any, ...]) -> Any:
        parts = tuple([self.expect(part) for part in value])
        if all(part is item for part, item in zip(parts, value, strict=True)):
            return value
        return PartsSnapshot(tuple, parts)

    def _expect_function(self, value: types.FunctionType, stores_on_self: bool) -> Any:
        weak = ref(value)
        if id(value) in self._by_value:
            self.named += 1
            if not stores_on_self:  # though it may be a method as well
                self.scans.append((scan(value.__code__), False))
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            if is_by_reference(value):
                self.records.append(NameSnapshot(weak))
            else:
                self.named += 1
                self._by_value.add(id(value))
                self._add(FunctionSnapshot(weak, self, stores_on_self))
        return weak

    def _expect_class(self, value: type) -> Any:
        weak = ref(value)
        if id(value) not in self._seen:
            self._seen.add(id(value))
            by_reference, made_by_c = is_by_reference(value), value.__flags__ & _HEAP_TYPE == 0
            if by_reference and not made_by_c:
                self.records.append(NameSnapshot(weak))
            elif not by_reference:
                if made_by_c:
                    raise ChangeableError  # it has no name: nobody knows how it is pickled
                self._add(ClassSnapshot(weak, self))
        return weak

    def _add(self, record: ObjectSnapshot) -> None:
        self.records.append(record)
        self.todo.append(record)

    def _expect_callable(self, kind: type, value: Any) -> Any:
        """Return the same for callables and values of rarer types."""
        if kind is types.BuiltinFunctionType:
            owner = value.__self__
            self.changing = self.changing or value.__name__ in WAYS_AROUND
            if owner is not None and type(owner) is not types.ModuleType:
                if not isinstance(owner, type):
                    raise ChangeableError  # the method of an object
                self.expect(owner)
            return ref(value)
        if kind is types.MethodType:
            if not isinstance(value.__self__, type):
                raise ChangeableError
            self.expect(value.__self__)
            self.expect(value.__func__)
            return ref(value)
        if kind is functools.partial:
            return self._expect_partial(value, value.keywords)
        if kind is CACHED_FUNCTION and not is_by_reference(value):
            self.changing = True  # what it has cached is not pickled, but calls of it give the same objects
            return self._expect_partial(value, {})
        if kind is frozenset:
            if all(type(part) in ATOMS for part in value):
                return value
            raise ChangeableError
        if kind is operator.itemgetter:
            self.expect(value.__reduce__()[1])
            return value
        if (kind is datetime.datetime or kind is datetime.time) and (
            value.tzinfo is None or is_by_reference(type(value.tzinfo))
        ):
            return value
        if issubclass(kind, enum.Enum) and is_by_reference(kind):
            return value
        if is_by_reference(value) and is_pickled_by_name(kind, value):  # a function of Cython, say
            weak = ref(value)
            self.records.append(NameSnapshot(weak))
            return weak
        return _expect_of_library(self, kind, value)

    def _expect_partial(self, value: Any, keywords: dict[str, Any]) -> Any:
        if value is not self._root or id(value) in self._seen:
            self.named += 1
        if id(value) not in self._seen:
            self._seen.add(id(value))
            call = [self.expect(part) for part in call_of(value)]
            attributes = self.expect_items(attributes_of(value))
            self.records.append(PartialSnapshot(ref(value), call, attributes, self.expect_items(keywords)))
        return ref(value)

    def expect_items(self, found: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what the values of a dictionary are to be compared with later."""
        if not found:
            return {}
        if not all(type(name) is str for name in found):
            raise ChangeableError
        return {name: self.expect(value) for name, value in found.items()}

    def expect_attribute(self, name: str, value: Any, stores_on_self: bool) -> Any:
        """Return what an attribute of a class is to be compared with later."""
        kind = type(value)
        if kind is types.FunctionType:
            return self._expect_function(value, stores_on_self)
        if name in _MADE_BY_PYTHON or kind is types.MemberDescriptorType or kind is types.GetSetDescriptorType:
            return PartsSnapshot(kind, ())
        if kind in _DESCRIPTORS:
            return PartsSnapshot(kind, tuple([self.expect(part) for part in parts_of(value)]))
        return self.expect(value)


#: `Py_TPFLAGS_HEAPTYPE`: a class that was made while the program ran
_HEAP_TYPE = 1 << 9


def _expect_of_library(reach: Reach, kind: type, value: Any) -> Any:
    """Do as `Reach.expect` for values of some libraries that never change, or are pickled by a name."""
    if kind is logging.Logger or kind is logging.RootLogger:
        if logging.getLogger(value.name) is value or value is logging.root:
            return value
    elif kind.__module__ == "typing" or kind is types.GenericAlias or kind is types.UnionType:
        return _expect_annotation(reach, value)
    elif kind.__module__.partition(".")[0] == "numpy":
        numpy = sys.modules["numpy"]
        if isinstance(value, (numpy.number, numpy.bool_, numpy.str_, numpy.bytes_, numpy.datetime64)):
            return value
        if isinstance(value, numpy.dtype) and value.names is None:
            return value
    raise ChangeableError


def _expect_annotation(reach: Reach, value: object) -> Any:
    parts: Iterable[Any] = getattr(value, "__args__", ())
    for part in parts:
        if type(part) is not list:  # the parameters of a Callable
            reach.expect(part)
    for name in ("__metadata__", "__constraints__", "__type_params__"):
        reach.expect(getattr(value, name, None))
    for name in ("__origin__", "__bound__", "__supertype__", "__value__"):
        reach.expect(getattr(value, name, None))
    return ref(value)
