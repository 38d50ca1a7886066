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


def forwarded_methods(kind: type) -> dict[str, Callable[..., Any]]:
    """The methods of a class that pass on to a part, by name."""
    found: dict[str, Callable[..., Any]] = {}
    for base in reversed(kind.__mro__):
        found.update({name: member for name, member in vars(base).items() if hasattr(member, _MARK)})
    return found


def destination_of(method: Callable[..., Any]) -> Destination:
    """The part's method that a forwarded one passes on to."""
    return cast("Destination", getattr(method, _MARK))


def overridden(kind: type, methods: dict[str, Callable[..., Any]]) -> dict[str, Destination]:
    """The methods in whose place a subclass, or a patch of the class, has put others; by name.

    Compared by identity: `functools.wraps` copies the mark of the method that it imitates.

    Args:
        methods: those of the class as it was defined.
    """
    return {name: destination_of(member) for name, member in methods.items() if getattr(kind, name) is not member}


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
