"""What a pickle of a function freezes, and whether any of it has changed since.

A function that is pickled by value takes along what it reaches: the globals that its code names, its closure, defaults
and attributes, and the same of the functions and classes among them. `freeze` looks through all of that. A kept pickle
is good for as long as each part is the very object that it was, and only if no part can change while it stays the same
object. What is pickled by reference (by its module and name) is never looked into.

Nothing here holds on to a function or a class, so that a kept pickle does not keep alive what it was made of.
"""

from __future__ import annotations

import copyreg
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
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import ref

from headrace.containment import let_pass

from .code import WAYS_AROUND, CodeScan, scan

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
#: What `pickle` notes in a class when it pickles an instance: not a change of the class.
SLOT_NAMES = "__slotnames__"
#: Functions in a class that are called with the class, though no decorator says so.
_CALLED_WITH_CLASS = frozenset({"__new__", "__init_subclass__", "__class_getitem__"})
#: Descriptors that are looked into.
_DESCRIPTORS = frozenset({property, staticmethod, classmethod, functools.cached_property})
#: The type of functions in a `functools.lru_cache`.
CACHED_FUNCTION = type(functools.lru_cache(len))
_MADE_BY_LRU_CACHE = frozenset({"cache_parameters", "__annotations__"})
_MISSING: Any = object()

#: Names of modules that an uploaded file has replaced in this process. Functions that were taken from there before are
#: still pickled as their names: whoever uploads a new version, to a cluster in this process too, means that one.
replaced_modules: set[str] = set()
#: Modules that the user registered with `cloudpickle.register_pickle_by_value`, once anybody has imported cloudpickle.
_registered: set[str] | None = None


class Frozen:
    """What a function reached when it was looked through.

    Attributes:
        shareable: whether calls cannot change anything of it either, so that many tasks may use one copy.
    """

    __slots__ = ("_records", "_registered", "shareable")

    def __init__(self, records: list[_Record], registered: frozenset[str], shareable: bool) -> None:
        self._records = records
        self._registered = registered
        self.shareable = shareable

    def unchanged(self) -> bool:
        """Whether all of it is as it was."""
        if (registered_by_value() if _registered is None else _registered) != self._registered:
            return False
        try:
            for record in self._records:
                if not record.unchanged():
                    return False
        except Exception:  # the user's attributes may raise, and nested tuples be deeper than the stack has room now
            return False
        return True


def freeze(function: Any) -> Frozen | None:
    """Look through what a callable reaches; `None` if something among it can change in place.

    Args:
        function: a function, class, or another callable.
    """
    registered = frozenset(registered_by_value())
    reach = _Reach(function)
    try:
        reach.expect(function)
        while reach.todo:
            reach.todo.pop().look()
    except BaseException as raised:  # also what the user's own attributes raise
        let_pass(raised)
        return None
    return Frozen(reach.records, registered, reach.shareable())


def is_by_reference(value: Any) -> bool:
    """Whether a function or class is pickled as the name that another process imports it by."""
    module_name, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if type(module_name) is not str or type(name) is not str or module_name == "__main__":
        return False
    found: Any = sys.modules.get(module_name)
    if found is None:
        return False
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    if found is not value and not (module_name in replaced_modules and type(found) is type(value)):
        return False
    return not is_registered_by_value(module_name)


def has_lost_its_name(value: Any) -> bool:
    """Whether the module of a function or class was replaced, so that another one has its name now."""
    return value.__module__ in replaced_modules and is_by_reference(value)


def registered_by_value() -> set[str]:
    """Names of the modules whose functions and classes the user wants pickled by value."""
    global _registered
    if _registered is None:
        _registered = getattr(sys.modules.get("cloudpickle.cloudpickle"), "_PICKLE_BY_VALUE_MODULES", None)
    return _registered or set()


def is_registered_by_value(module_name: str) -> bool:
    """Whether a module, or a package that it is in, was registered."""
    names = registered_by_value()
    return bool(names) and any(module_name == name or module_name.startswith(f"{name}.") for name in names)


def _is_pickled_by_name(kind: type, value: Any) -> bool:
    reduce: Any = copyreg.dispatch_table.get(kind)
    return type(reduce(value) if reduce else value.__reduce_ex__(4)) is str


class _ChangeableError(Exception):
    """Something was reached that can change in place."""


class _Parts:
    """An object that is looked into because it can neither be kept nor referred to weakly: a tuple, a property."""

    __slots__ = ("kind", "parts")

    def __init__(self, kind: type, parts: tuple[Any, ...]) -> None:
        self.kind = kind
        self.parts = parts

    def match(self, value: Any) -> bool:
        if type(value) is not self.kind:
            return False
        parts = _parts_of(value)
        return len(parts) == len(self.parts) and all(map(_same, self.parts, parts))


def _parts_of(value: Any) -> tuple[Any, ...]:
    kind = type(value)
    if kind is tuple:
        return value  # type: ignore[no-any-return]
    if kind is property:
        return value.fget, value.fset, value.fdel, value.__doc__
    if kind is staticmethod or kind is classmethod:
        return (value.__func__,)
    if kind is functools.cached_property:
        return value.func, value.attrname, value.__doc__
    return ()  # a descriptor that Python makes for a class: only its kind matters


def _same(expected: Any, value: Any) -> bool:
    """Whether a value is what was expected there: the object itself, one referred to weakly, or the parts of one."""
    if type(expected) is ref:
        return value is not None and expected() is value  # a dead one gives None, too
    if type(expected) is _Parts:
        return expected.match(value)
    return expected is value


def _same_items(expected: dict[str, Any], found: Mapping[str, Any]) -> bool:
    if len(expected) != len(found):
        return False
    for name, value in found.items():
        wanted = expected.get(name, _MISSING)
        if wanted is not value and not _same(wanted, value):
            return False
    return True


class _Record:
    """One object that was looked into."""

    __slots__ = ("owner",)

    def __init__(self, owner: ref[Any]) -> None:
        self.owner = owner

    def look(self) -> None:
        """Note what it holds.

        Raises:
            _ChangeableError: something among it can change in place.
        """

    def unchanged(self) -> bool:
        """Whether it holds the same."""
        raise NotImplementedError


class _ByReference(_Record):
    """A function or class that has a name elsewhere, which it must not have lost."""

    __slots__ = ("module", "name")

    def __init__(self, owner: ref[Any]) -> None:
        super().__init__(owner)
        value: Any = owner()
        self.module = value.__module__
        self.name = value.__qualname__

    def unchanged(self) -> bool:
        owner: Any = self.owner()
        module = sys.modules.get(self.module)
        if owner is None or module is None or owner.__module__ is not self.module:
            return False
        if owner.__qualname__ is self.name and module.__dict__.get(self.name) is owner:
            return True
        return is_by_reference(owner)


class _Function(_Record):
    """A function that is pickled by value."""

    __slots__ = (
        "annotations", "attributes", "cells", "code", "defaults", "globals", "kwdefaults", "names", "reach",
        "submodules",
    )  # fmt: skip

    def __init__(self, owner: ref[Any], reach: _Reach, stores_on_self: bool) -> None:
        super().__init__(owner)
        self.reach: _Reach | None = reach
        function = owner()
        assert function is not None
        self.code = function.__code__
        reach.scans.append((scan(self.code), stores_on_self))

    def look(self) -> None:
        reach, function = self.reach, self.owner()
        assert reach is not None
        assert function is not None
        self.reach = None
        expect = reach.expect
        scope = function.__globals__
        self.names = (function.__name__, function.__qualname__, function.__doc__, function.__module__)
        self.defaults = expect(function.__defaults__)
        self.globals = [(name, expect(scope[name]) if name in scope else _MISSING) for name in scan(self.code).globals]
        self.cells = [expect(_content(cell)) for cell in function.__closure__ or ()]
        self.kwdefaults = reach.expect_items(function.__kwdefaults__)
        self.attributes = reach.expect_items(function.__dict__)
        self.annotations = reach.expect_items(_annotations(function))
        self.submodules = _submodules_of(self.code, [expected for _, expected in self.globals] + self.cells)

    def unchanged(self) -> bool:
        function = self.owner()
        if function is None or function.__code__ is not self.code:
            return False
        if self.submodules is not None and not self.submodules.unchanged():
            return False
        if function.__defaults__ is not self.defaults and not _same(self.defaults, function.__defaults__):
            return False
        if self.globals:
            find = function.__globals__.get
            for name, expected in self.globals:
                value = find(name, _MISSING)
                if value is not expected and not _same(expected, value):
                    return False
        if self.cells:
            for expected, cell in zip(self.cells, function.__closure__, strict=True):
                value = _content(cell)
                if value is not expected and not _same(expected, value):
                    return False
        name, qualified, documentation, module = self.names
        return (
            function.__name__ is name
            and function.__qualname__ is qualified
            and function.__doc__ is documentation
            and function.__module__ is module
            and _same_mapping(self.attributes, function.__dict__)
            and _same_mapping(self.kwdefaults, function.__kwdefaults__)
            and _same_mapping(self.annotations, _annotations(function))
        )


class _Submodules:
    """Modules of packages that code gets at as attributes: a pickle has those imported that are imported here."""

    __slots__ = ("count", "found", "names", "prefixes")

    def __init__(self, prefixes: tuple[str, ...], names: frozenset[str]) -> None:
        self.prefixes = prefixes
        self.names = names
        self.count = len(sys.modules)
        self.found = self._find()

    def _find(self) -> set[str]:
        return {
            name
            for name in list(sys.modules)
            for prefix in self.prefixes
            if name.startswith(prefix) and self.names.issuperset(name[len(prefix) :].split("."))
        }

    def unchanged(self) -> bool:
        """Whether it is still the same ones; they are looked for only after an import."""
        count = len(sys.modules)
        if count == self.count:
            return True
        self.count = count
        return self._find() == self.found


def _submodules_of(code: types.CodeType, expected: list[Any]) -> _Submodules | None:
    """What to compare later of packages among the globals and cells of a function."""
    found: list[Any] = [value() for value in expected if type(value) is ref]
    prefixes = tuple(
        [f"{value.__name__}." for value in found if type(value) is types.ModuleType and hasattr(value, "__path__")]
    )
    return _Submodules(prefixes, frozenset(code.co_names)) if prefixes else None


def _same_mapping(expected: dict[str, Any], found: Mapping[str, Any] | None) -> bool:
    """As `_same_items`; no mapping is an empty one."""
    return _same_items(expected, found) if found else not expected


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is bound to the name yet
        return _MISSING


def _annotations(function: Any) -> dict[str, Any] | None:
    try:
        return function.__annotations__  # type: ignore[no-any-return]
    except Exception:  # later Pythons evaluate them now, and what they name may not be there
        return None


class _Class(_Record):
    """A class that is pickled by value."""

    __slots__ = ("annotations", "bases", "contents", "names", "reach")

    def __init__(self, owner: ref[Any], reach: _Reach) -> None:
        super().__init__(owner)
        self.reach: _Reach | None = reach
        reach.classes += 1

    def look(self) -> None:
        reach, owner = self.reach, self.owner()
        assert reach is not None
        assert owner is not None
        self.reach = None
        if type(owner) is not type and not is_by_reference(type(owner)):
            raise _ChangeableError
        metaclass = issubclass(owner, type)
        self.names = (owner.__name__, owner.__qualname__)
        self.bases = [reach.expect(base) for base in owner.__bases__]
        self.annotations: dict[str, Any] = {}
        self.contents: dict[str, Any] = {}
        for name, value in vars(owner).items():
            if name == SLOT_NAMES:
                continue
            if name == "__annotations__":
                self.annotations = reach.expect_items(value)
                self.contents[name] = _MISSING
            else:
                on_self = type(value) is types.FunctionType and name not in _CALLED_WITH_CLASS and not metaclass
                self.contents[name] = reach.expect_attribute(name, value, on_self)

    def unchanged(self) -> bool:
        owner = self.owner()
        if owner is None:
            return False
        found = vars(owner)
        if len(found) - (SLOT_NAMES in found) != len(self.contents):
            return False
        for name, value in found.items():
            expected = self.contents.get(name, self)
            if expected is self and name == SLOT_NAMES:
                continue
            if expected is _MISSING:
                if not _same_mapping(self.annotations, value):
                    return False
            elif expected is not value and not _same(expected, value):
                return False
        name, qualified = self.names
        if owner.__name__ is not name or owner.__qualname__ is not qualified:
            return False
        bases = owner.__bases__
        return len(bases) == len(self.bases) and all(map(_same, self.bases, bases))


class _Partial(_Record):
    """A `functools.partial`, or a function in an `lru_cache`: its attributes and keywords are compared one by one."""

    __slots__ = ("attributes", "call", "keywords")

    def __init__(self, owner: ref[Any], call: list[Any], attributes: dict[str, Any], keywords: dict[str, Any]) -> None:
        super().__init__(owner)
        self.call = call
        self.attributes = attributes
        self.keywords = keywords

    def unchanged(self) -> bool:
        owner = self.owner()
        return (
            owner is not None
            and all(map(_same, self.call, _call_of(owner)))
            and _same_mapping(self.attributes, attributes_of(owner))
            and _same_mapping(self.keywords, getattr(owner, "keywords", None))
        )


def _call_of(value: Any) -> tuple[Any, ...]:
    """The function of a `functools.partial`, and its arguments."""
    return (value.func, value.args) if type(value) is functools.partial else ()


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of a callable, without those that `functools.lru_cache` sets for itself."""
    found: dict[str, Any] = value.__dict__
    if type(value) is CACHED_FUNCTION:
        return {name: item for name, item in found.items() if name not in _MADE_BY_LRU_CACHE}
    return found


class _Reach:
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

    def __init__(self, root: Any) -> None:
        self.records: list[_Record] = []
        self.todo: list[_Record] = []
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
        """What to compare the place that a value was found in with later.

        Raises:
            _ChangeableError: it can change in place.
        """
        kind = type(value)
        if kind in ATOMS or value is _MISSING:
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
            raise _ChangeableError
        return self._expect_callable(kind, value)

    def _expect_tuple(self, value: tuple[Any, ...]) -> Any:
        parts = tuple([self.expect(part) for part in value])
        if all(part is item for part, item in zip(parts, value, strict=True)):
            return value
        return _Parts(tuple, parts)

    def _expect_function(self, value: Any, stores_on_self: bool) -> Any:
        weak = ref(value)
        if id(value) in self._by_value:
            self.named += 1
            if not stores_on_self:  # though it may be a method as well
                self.scans.append((scan(value.__code__), False))
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            if is_by_reference(value):
                self.records.append(_ByReference(weak))
            else:
                self.named += 1
                self._by_value.add(id(value))
                self._add(_Function(weak, self, stores_on_self))
        return weak

    def _expect_class(self, value: type) -> Any:
        weak = ref(value)
        if id(value) not in self._seen:
            self._seen.add(id(value))
            by_reference, made_by_c = is_by_reference(value), value.__flags__ & _HEAP_TYPE == 0
            if by_reference and not made_by_c:
                self.records.append(_ByReference(weak))
            elif not by_reference:
                if made_by_c:
                    raise _ChangeableError  # it has no name: nobody knows how it is pickled
                self._add(_Class(weak, self))
        return weak

    def _add(self, record: _Record) -> None:
        self.records.append(record)
        self.todo.append(record)

    def _expect_callable(self, kind: type, value: Any) -> Any:
        """As `expect`, of what is rarer."""
        if kind is types.BuiltinFunctionType:
            owner = value.__self__
            self.changing = self.changing or value.__name__ in WAYS_AROUND
            if owner is not None and type(owner) is not types.ModuleType:
                if not isinstance(owner, type):
                    raise _ChangeableError  # the method of an object
                self.expect(owner)
            return ref(value)
        if kind is types.MethodType:
            if not isinstance(value.__self__, type):
                raise _ChangeableError
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
            raise _ChangeableError
        if kind is operator.itemgetter:
            self.expect(value.__reduce__()[1])
            return value
        if (kind is datetime.datetime or kind is datetime.time) and (
            value.tzinfo is None or is_by_reference(type(value.tzinfo))
        ):
            return value
        if issubclass(kind, enum.Enum) and is_by_reference(kind):
            return value
        if is_by_reference(value) and _is_pickled_by_name(kind, value):  # a function of Cython, say
            weak = ref(value)
            self.records.append(_ByReference(weak))
            return weak
        return _expect_of_library(self, kind, value)

    def _expect_partial(self, value: Any, keywords: dict[str, Any]) -> Any:
        if value is not self._root or id(value) in self._seen:
            self.named += 1
        if id(value) not in self._seen:
            self._seen.add(id(value))
            call = [self.expect(part) for part in _call_of(value)]
            attributes = self.expect_items(attributes_of(value))
            self.records.append(_Partial(ref(value), call, attributes, self.expect_items(keywords)))
        return ref(value)

    def expect_items(self, found: Mapping[str, Any] | None) -> dict[str, Any]:
        """What to compare a dictionary's values with later."""
        if not found:
            return {}
        if not all(type(name) is str for name in found):
            raise _ChangeableError
        return {name: self.expect(value) for name, value in found.items()}

    def expect_attribute(self, name: str, value: Any, stores_on_self: bool) -> Any:
        """As `expect`, of what a class has under a name."""
        kind = type(value)
        if kind is types.FunctionType:
            return self._expect_function(value, stores_on_self)
        if name in _MADE_BY_PYTHON or kind is types.MemberDescriptorType or kind is types.GetSetDescriptorType:
            return _Parts(kind, ())
        if kind in _DESCRIPTORS:
            return _Parts(kind, tuple([self.expect(part) for part in _parts_of(value)]))
        return self.expect(value)


#: `Py_TPFLAGS_HEAPTYPE`: a class that was made while the program ran
_HEAP_TYPE = 1 << 9


def _expect_of_library(reach: _Reach, kind: type, value: Any) -> Any:
    """As `_Reach.expect`, of values of some libraries that never change, or are pickled by a name."""
    if kind is logging.Logger or kind is logging.RootLogger:
        if logging.getLogger(value.name) is value or value is logging.root:
            return value
    elif kind.__module__ == "typing" or kind is types.GenericAlias or kind is types.UnionType:
        return _expect_annotation(reach, value)
    elif kind.__module__.partition(".")[0] == "numpy":
        numpy: Any = sys.modules["numpy"]
        if isinstance(value, (numpy.number, numpy.bool_, numpy.str_, numpy.bytes_, numpy.datetime64)):
            return value
        if isinstance(value, numpy.dtype) and value.names is None:
            return value
    raise _ChangeableError


def _expect_annotation(reach: _Reach, value: Any) -> Any:
    parts: Iterable[Any] = getattr(value, "__args__", ())
    for part in parts:
        if type(part) is not list:  # the parameters of a Callable
            reach.expect(part)
    for name in ("__metadata__", "__constraints__", "__type_params__"):
        reach.expect(getattr(value, name, None))
    for name in ("__origin__", "__bound__", "__supertype__", "__value__"):
        reach.expect(getattr(value, name, None))
    return ref(value)
