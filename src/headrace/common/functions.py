"""Questions about callables, and finding them by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any


def iscoroutinefunction(function: Any) -> bool:
    """Whether calling it gives a coroutine; looks through `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function)


def import_term(name: str) -> Any:
    """What a dotted name stands for.

    >>> import_term("operator.add")
    <built-in function add>

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such name.
    """
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute) if module else import_module(name)


def has_arg(function: Callable[..., Any], name: str) -> bool:
    """Whether the callable has a parameter of that name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def has_keyword(function: Callable[..., Any], name: str) -> bool:
    """Whether the callable accepts that keyword, as a parameter of its own or among `**kwargs`."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    if name in parameters:
        return parameters[name].kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
