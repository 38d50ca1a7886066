"""Snapshots of what a function reaches: each notes what one object holds, and tells later whether it holds the same.

None holds on to a function or a class, so that a kept pickle does not keep alive what it was made of.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import ref

from .by_reference import is_by_reference
from .code import scan

if TYPE_CHECKING:
    from .frozen import Reach

#: The attribute that `pickle` sets on a class when it pickles an instance: not a change of the class.
SLOT_NAMES = "__slotnames__"
#: Functions in a class that are called with the class, though no decorator says so.
_CALLED_WITH_CLASS = frozenset({"__new__", "__init_subclass__", "__class_getitem__"})
#: The type of functions in a `functools.lru_cache`.
CACHED_FUNCTION = type(functools.lru_cache(len))
_MADE_BY_LRU_CACHE = frozenset({"cache_parameters", "__annotations__"})
MISSING: Any = object()


class ChangeableError(Exception):
    """Something was reached that can change in place."""


class PartsSnapshot:
    """An object that is looked into because it can neither be kept nor referred to weakly: a tuple, a property."""

    __slots__ = ("kind", "parts")

    def __init__(self, kind: type, parts: tuple[Any, ...]) -> None:
        self.kind = kind
        self.parts = parts

    def match(self, value: object) -> bool:
        if type(value) is not self.kind:
            return False
        parts = parts_of(value)
        return len(parts) == len(self.parts) and all(map(_same, self.parts, parts))


def parts_of(value: Any) -> tuple[Any, ...]:
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


def _same(expected: object, value: object) -> bool:
    """Whether a value is what was expected there: the object itself, one referred to weakly, or the parts of one."""
    if type(expected) is ref:
        return value is not None and expected() is value  # a dead one gives None, too
    if type(expected) is PartsSnapshot:
        return expected.match(value)
    return expected is value


def _same_items(expected: dict[str, Any], found: Mapping[str, Any]) -> bool:
    if len(expected) != len(found):
        return False
    for name, value in found.items():
        wanted = expected.get(name, MISSING)
        if wanted is not value and not _same(wanted, value):
            return False
    return True


class ObjectSnapshot:
    """One object that was looked into."""

    __slots__ = ("owner",)

    def __init__(self, owner: ref[Any]) -> None:
        self.owner = owner

    def look(self) -> None:
        """Note what it holds.

        Raises:
            ChangeableError: something among it can change in place.
        """

    def unchanged(self) -> bool:
        """Whether it holds the same."""
        raise NotImplementedError


class NameSnapshot(ObjectSnapshot):
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


class FunctionSnapshot(ObjectSnapshot):
    """A function that is pickled by value."""

    __slots__ = (
        "annotations", "attributes", "cells", "code", "defaults", "globals", "kwdefaults", "names", "reach",
        "submodules",
    )  # fmt: skip

    def __init__(self, owner: ref[Any], reach: Reach, stores_on_self: bool) -> None:
        super().__init__(owner)
        self.reach: Reach | None = reach
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
        self.globals = [(name, expect(scope[name]) if name in scope else MISSING) for name in scan(self.code).globals]
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
                value = find(name, MISSING)
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


class SubmodulesSnapshot:
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


def _submodules_of(code: types.CodeType, expected: list[Any]) -> SubmodulesSnapshot | None:
    """Note which modules of the packages among the globals and cells of a function are imported."""
    found: list[Any] = [value() for value in expected if type(value) is ref]
    prefixes = tuple(
        [f"{value.__name__}." for value in found if type(value) is types.ModuleType and hasattr(value, "__path__")]
    )
    return SubmodulesSnapshot(prefixes, frozenset(code.co_names)) if prefixes else None


def _same_mapping(expected: dict[str, Any], found: Mapping[str, Any] | None) -> bool:
    """Compare as `_same_items` does; no mapping is an empty one."""
    return _same_items(expected, found) if found else not expected


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is bound to the name yet
        return MISSING


def _annotations(function: types.FunctionType) -> dict[str, Any] | None:
    try:
        return function.__annotations__
    except Exception:  # later Pythons evaluate them now, and what they name may not be there
        return None


class ClassSnapshot(ObjectSnapshot):
    """A class that is pickled by value."""

    __slots__ = ("annotations", "bases", "contents", "names", "reach")

    def __init__(self, owner: ref[Any], reach: Reach) -> None:
        super().__init__(owner)
        self.reach: Reach | None = reach
        reach.classes += 1

    def look(self) -> None:
        reach, owner = self.reach, self.owner()
        assert reach is not None
        assert owner is not None
        self.reach = None
        if type(owner) is not type and not is_by_reference(type(owner)):
            raise ChangeableError
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
                self.contents[name] = MISSING
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
            if expected is MISSING:
                if not _same_mapping(self.annotations, value):
                    return False
            elif expected is not value and not _same(expected, value):
                return False
        name, qualified = self.names
        if owner.__name__ is not name or owner.__qualname__ is not qualified:
            return False
        bases = owner.__bases__
        return len(bases) == len(self.bases) and all(map(_same, self.bases, bases))


class PartialSnapshot(ObjectSnapshot):
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
            and all(map(_same, self.call, call_of(owner)))
            and _same_mapping(self.attributes, attributes_of(owner))
            and _same_mapping(self.keywords, getattr(owner, "keywords", None))
        )


def call_of(value: Any) -> tuple[Any, ...]:
    """The function of a `functools.partial`, and its arguments."""
    return (value.func, value.args) if type(value) is functools.partial else ()


def attributes_of(value: object) -> dict[str, Any]:
    """The attributes of a callable, without those that `functools.lru_cache` sets for itself."""
    found = vars(value)
    if type(value) is CACHED_FUNCTION:
        return {name: item for name, item in found.items() if name not in _MADE_BY_LRU_CACHE}
    return found
