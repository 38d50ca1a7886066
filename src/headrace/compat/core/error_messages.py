"""Errors as messages between servers of other libraries, and back."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from headrace.protocol import Serialize, Serialized, loads_exception, loads_traceback
from headrace.rpc import requests


class OKMessage(dict[str, Any]):
    """A reply whose "status" is "OK"."""


class ErrorMessage(dict[str, Any]):
    """A reply that stands for an exception: "status", "exception", "traceback", and both as text."""


def error_message(e: BaseException, status: str = "error") -> ErrorMessage:
    """A message that tells of an exception.

    Args:
        e: the exception.
        status: what the message has under "status".
    """
    made = requests.error_message(e)
    return ErrorMessage(
        status=status,
        exception=made["exception"],
        traceback=made["traceback"],
        exception_text=made["text"],
        traceback_text=made["traceback_text"],
    )


def clean_exception(
    exception: BaseException | bytes | bytearray | str | Serialize | Serialized | None,
    traceback: TracebackType | bytes | str | Serialize | Serialized | None = None,
    **kwargs: object,
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Type, exception and traceback of an `ErrorMessage`, whose entries are the arguments.

    Raises:
        TypeError: no exception, and nothing that could be one.
    """
    text = str(kwargs.get("exception_text", ""))
    if isinstance(exception, Serialized):
        exception = loads_exception(exception.payload, text)
    elif isinstance(exception, Serialize):
        exception = exception.value
    elif isinstance(exception, (bytes, bytearray)):
        exception = loads_exception(bytes(exception), text)
    elif isinstance(exception, str):
        exception = Exception(exception)
    if not isinstance(exception, BaseException):
        raise TypeError(f"a message of an error has no exception: {exception!r}")
    if isinstance(traceback, Serialized):
        traceback = loads_traceback(traceback.payload)
    elif isinstance(traceback, Serialize):
        traceback = traceback.value
    elif isinstance(traceback, bytes):
        traceback = loads_traceback(traceback)
    return type(exception), exception, traceback if isinstance(traceback, TracebackType) else None


def collect_causes(e: BaseException) -> list[BaseException]:
    """The exceptions that led to this one, the nearest first."""
    causes: list[BaseException] = []
    while e.__cause__ is not None and e.__cause__ not in causes:
        e = e.__cause__
        causes.append(e)
    return causes


def raise_later(exc: BaseException) -> Callable[..., NoReturn]:
    """A function that raises an exception whatever it is called with."""

    def raise_it(*_: object, **__: object) -> NoReturn:
        raise exc

    return raise_it


def pingpong(comm: object) -> bytes:
    """Answers "pong": a handler to see whether a server answers."""
    return b"pong"
