"""The errors of values that arrived whole and cannot be loaded: also of the class that loading raised.

Whoever catches what the value's own class raises (`except ModuleNotFoundError`) catches these errors, and so does
whoever catches `DeserializationError`.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from headrace.containment import let_pass
from headrace.exceptions import DeserializationError

_kinds: WeakKeyDictionary[type[BaseException], type[DeserializationError]] = WeakKeyDictionary()
#: What some built-in exceptions keep beside their arguments and their dictionary.
_SLOTS = (
    "name",
    "path",
    "errno",
    "strerror",
    "filename",
    "obj",
    "encoding",
    "object",
    "start",
    "end",
    "reason",
    "code",
)


def loading_error(message: str, cause: BaseException) -> DeserializationError:
    """The error that says `message`, of the class `DeserializationError` and of that of the cause."""
    try:
        return rebuild(type(cause), message, _attributes_of(cause))
    except BaseException as raised:  # the cause's class does not let itself be extended, or fails otherwise
        let_pass(raised)
        return DeserializationError(message)


def _attributes_of(cause: BaseException) -> dict[str, Any]:
    attributes = dict(vars(cause))
    attributes.pop("__notes__", None)
    for name in _SLOTS:
        if name not in attributes and hasattr(type(cause), name):
            attributes[name] = getattr(cause, name, None)
    return {name: value for name, value in attributes.items() if value is not None}


def rebuild(cause: type[BaseException], message: str, attributes: dict[str, Any]) -> DeserializationError:
    """The error of both classes; named in its pickles.

    Args:
        cause: the class that loading raised.
        attributes: those of what it raised.
    """
    if issubclass(cause, DeserializationError) or not issubclass(cause, Exception):
        return DeserializationError(message)
    kind = _kinds.get(cause)
    if kind is None:
        kind = _kinds[cause] = type(cause.__name__, (_LoadingError, cause), {"__module__": cause.__module__})
    built_in: Any = next(base for base in cause.__mro__ if base.__module__ == "builtins")
    error: DeserializationError = built_in.__new__(kind, message)  # the class's own constructor may take anything
    for name, value in attributes.items():
        setattr(error, name, value)
    error.args = (message,)
    return error


class _LoadingError(DeserializationError):
    """What all of these errors have in common."""

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self).__bases__[1], self.args[0], _attributes_of(self))
