"""Questions about callables, and the import of one by its dotted name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any


def iscoroutinefunction(f: object) -> bool:
    """Whether a call of the object gives a coroutine; looks through `functools.partial`."""
    while isinstance(f, functools.partial):
        f = f.func
    return inspect.iscoroutinefunction(f)


def import_term(name: str) -> Any:
    """The module, or the attribute of a module, with a dotted name.

    >>> import_term("operator.add")
    <built-in function add>

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such name.
    """
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute) if module else import_module(name)


def has_arg(func: Callable[..., Any], argname: str) -> bool:
    """Whether the callable has a parameter of that name."""
    try:
        return argname in inspect.signature(func).parameters
    except (TypeError, ValueError):
        return False


def has_keyword(func: Callable[..., Any], keyword: str) -> bool:
    """Whether the callable accepts that keyword, as a parameter of its own or among `**kwargs`."""
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        return False
    if keyword in parameters:
        return parameters[keyword].kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
