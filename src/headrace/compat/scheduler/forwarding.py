"""Members of the public Scheduler that its parts have: methods that pass on, and attributes that are held there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from headrace.scheduler.server import SchedulerServer

Part = TypeVar("Part")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

_MARK = "__forwards__"


class Destination(NamedTuple):
    """The method that a forwarded one passes on to.

    Attributes:
        part: name of the part of the scheduler that has it.
        method: its name there.
    """

    part: str
    method: str


def forwarded(
    function: Callable[Concatenate[Part, Parameters], Result], part: str
) -> Callable[Concatenate[Any, Parameters], Result]:
    """A method with the name, signature and docstring of a part's method, on which it is called.

    It calls the function itself, not the part's attribute of that name, which may be a subclass's method by now (see
    `overridden`): `super().method()` in there must end here.

    Args:
        part: its name in `SchedulerParts`.
    """
    if inspect.iscoroutinefunction(function):  # those who look at the method must see that of it, too

        @wraps(function)
        async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await function(getattr(self.parts, part), *args, **kwargs)

    else:

        @wraps(function)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return function(getattr(self.parts, part), *args, **kwargs)

    setattr(method, _MARK, Destination(part, function.__name__))
    return cast("Callable[Concatenate[Any, Parameters], Result]", method)


def overridden(kind: type) -> dict[str, Destination]:
    """The forwarded methods in whose place a subclass has put its own, by name."""
    found: dict[str, Destination] = {}
    for base in reversed(kind.__mro__):
        found.update({name: member.__forwards__ for name, member in vars(base).items() if hasattr(member, _MARK)})
    return {name: where for name, where in found.items() if not hasattr(getattr(kind, name), _MARK)}


class HeldBy(Generic[Result]):
    """An attribute that a part of the scheduler has: read and set there.

    Args:
        part: its name in `SchedulerParts`.
        name: name of the attribute there.
    """

    def __init__(self, part: str, name: str) -> None:
        self._part = part
        self._name = name

    @overload
    def __get__(self, scheduler: None, kind: type) -> HeldBy[Result]: ...

    @overload
    def __get__(self, scheduler: SchedulerServer, kind: type) -> Result: ...

    def __get__(self, scheduler: SchedulerServer | None, kind: type) -> HeldBy[Result] | Result:
        if scheduler is None:
            return self
        found: Result = getattr(getattr(scheduler.parts, self._part), self._name)
        return found

    def __set__(self, scheduler: SchedulerServer, value: Result) -> None:
        setattr(getattr(scheduler.parts, self._part), self._name, value)
