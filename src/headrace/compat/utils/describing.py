"""Objects and errors as text and plain data, for people."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Container, Iterable, Mapping, Set
from contextvars import ContextVar
from functools import lru_cache, total_ordering
from types import TracebackType
from typing import Any
from urllib.parse import quote_plus
from xml.etree import ElementTree

from dask.utils import typename


class _Seen:
    """The objects that one outermost call has come across, kept alive so that their ids stay theirs."""

    def __init__(self) -> None:
        self.objects: dict[int, object] = {}
        self.inside_no_nest = False


_seen: ContextVar[_Seen | None] = ContextVar("recursive_to_dict", default=None)


def recursive_to_dict(obj: object, *, exclude: Container[str] = (), members: bool = False) -> Any:
    """Lists, dictionaries, text, numbers and None that describe an object, for debugging.

    An object with a method `_to_dict(self, *, exclude)` is what that returns. So is one with `_to_dict_no_nest`, but
    inside another one of these it is its `repr`. Everything else but the usual collections is its `repr`, and so is
    what has been described before, so that the description ends.

    Args:
        obj: any object.
        exclude: names of attributes to leave out; passed on to these methods.
        members: describe `obj` itself by its public attributes that are no methods.
    """
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, (type, bytes)):
        return repr(obj)
    seen = _seen.get()
    outermost = seen is None
    if seen is None:
        seen = _Seen()
        token = _seen.set(seen)
    try:
        if members:
            obj = {name: value for name, value in _public(obj) if name not in exclude}
        return _describe(obj, seen, exclude)
    finally:
        if outermost:
            _seen.reset(token)


def _public(obj: object) -> Iterable[tuple[str, object]]:
    for name in dir(obj):
        if name.startswith("_"):
            continue
        try:
            value = getattr(obj, name)
        except Exception as error:
            value = f"<cannot be read: {error!r}>"
        if not callable(value):
            yield name, value


def _describe(obj: Any, seen: _Seen, exclude: Container[str]) -> Any:
    if id(obj) in seen.objects:
        return repr(obj)
    no_nest = hasattr(obj, "_to_dict_no_nest")
    if no_nest and seen.inside_no_nest:
        return repr(obj)
    seen.objects[id(obj)] = obj
    if no_nest:
        seen.inside_no_nest = True
        try:
            return obj._to_dict_no_nest(exclude=exclude)
        finally:
            seen.inside_no_nest = False
    if hasattr(obj, "_to_dict"):
        return obj._to_dict(exclude=exclude)
    if isinstance(obj, Mapping):
        return {_key(key, exclude): recursive_to_dict(value, exclude=exclude) for key, value in obj.items()}
    if isinstance(obj, (list, tuple, Set, deque, type({}.values()))):
        return [recursive_to_dict(value, exclude=exclude) for value in obj]
    return repr(obj)


def _key(key: object, exclude: Container[str]) -> str | float | None:
    key = recursive_to_dict(key, exclude=exclude)
    return key if isinstance(key, (str, int, float)) or key is None else str(key)


@total_ordering
class TupleComparable:
    """Makes tuples, numbers and None comparable with each other: a number is a tuple of one, None is 0.

    Raises:
        ValueError: something else.
    """

    __slots__ = ("obj",)

    def __init__(self, obj: tuple[Any, ...] | float | None) -> None:
        if obj is None:
            self.obj: tuple[Any, ...] = (0,)
        elif isinstance(obj, tuple):
            self.obj = obj
        elif isinstance(obj, (int, float)):
            self.obj = (obj,)
        else:
            raise ValueError(f"Object must be tuple, int, float or None, got {obj}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TupleComparable) and self.obj == other.obj

    def __lt__(self, other: TupleComparable) -> bool:
        return self.obj < other.obj

    def __hash__(self) -> int:
        return hash(self.obj)


def truncate_exception(e: BaseException, n: int = 10000) -> BaseException:
    """The exception, or one of its type with the beginning of its text if that is longer than `n`."""
    text = str(e)
    if len(text) <= n:
        return e
    try:
        return type(e)("Long error message", text[:n])
    except Exception:
        return Exception("Long error message", typename(type(e)), text[:n])


def get_traceback() -> TracebackType | None:
    """The traceback of the exception that is being handled, without the frames of this package at its top."""
    traceback = sys.exc_info()[2]
    package = __name__.partition(".")[0]
    while traceback is not None and traceback.tb_next is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if module != package and not module.startswith(f"{package}."):
            break
        traceback = traceback.tb_next
    return traceback


def is_valid_xml(text: str) -> bool:
    """True.

    Raises:
        xml.etree.ElementTree.ParseError: it is no XML.
    """
    return ElementTree.fromstring(text) is not None


@lru_cache(maxsize=10_000)
def url_escape(url: str, *args: Any, **kwargs: Any) -> str:
    """Text as it can stand in a URL; the further arguments are those of `urllib.parse.quote_plus`."""
    return quote_plus(url, *args, **kwargs)
