"""Hooks that plugins override. A hook that a plugin does not override is not called, and so costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__does_nothing__"


def does_nothing(function: F) -> F:
    """Mark a hook of a base class that is there only to be overridden."""
    setattr(function, _MARK, True)
    return function


def hook_of(plugin: object, name: str) -> Callable[..., Any] | None:
    """A plugin's hook, or None if it has none, or only that of the base class.

    >>> class Base:
    ...     @does_nothing
    ...     def start(self): ...
    >>> class Own(Base):
    ...     def start(self): return "started"
    >>> hook_of(Base(), "start"), hook_of(object(), "start"), hook_of(Own(), "start")()
    (None, None, 'started')
    """
    function: Callable[..., Any] | None = getattr(plugin, name, None)
    if function is None or getattr(function, _MARK, False):
        return None
    return function
