"""Contains exceptions from users' code that runs amid ours: in our loops, our threads, in the way of another task.

Unpickling, pickling, sizes, hooks, callbacks and texts of exceptions are users' code. It may raise anything, also
objects that are no `Exception` (such as Rust's panics), and an exception may raise another when it is looked at. Code
that calls users' code passes the raised object to `contained`, and goes on with an `Exception` that can be shown,
chained and logged.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable
from types import TracebackType

from headrace.exceptions import TaskCancelled, UserCodeError

#: Names of the signal handlers that raise nothing: those of asyncio's and uvloop's loops, and of `rpc.loops.signals`.
_HARMLESS_HANDLERS = frozenset({"_sighandler_noop", "_Loop__sighandler", "_do_nothing"})
#: Longest text of an exception that is repeated in another's, in characters.
_LONGEST = 10_000


def contained(raised: BaseException, awaited: bool = False) -> Exception:
    """An `Exception` in place of the object that users' code raised; to be called in the `except` clause.

    Give the result to the name that the clause deletes (`raised = contained(raised)`). Under another name the frame
    would hold the exception, whose traceback holds the frame, until the cyclic collector comes.

    Args:
        raised: the raised object; returned as it is if it is an `Exception` that works.
        awaited: whether an `await` raised it, where a cancellation or closing is meant for the caller.

    Raises:
        BaseException: `raised`, if it is not the users' code's own: Ctrl-C, the end of the program, an interruption of
            the thread's task, and with `awaited` the cancellation of the calling task.
    """
    let_pass(raised, awaited)
    if issubclass(type(raised), Exception) and works(raised):
        return raised  # type: ignore[return-value]
    error = UserCodeError(f"{described(raised)} [no Exception, or one that fails when it is looked at]")
    error.__traceback__ = traceback_of(raised)
    return error


def let_pass(raised: BaseException, awaited: bool = False) -> None:
    """Raise the object again if it is not the users' code's own; see `contained`."""
    kind = type(raised)  # not `isinstance`, which asks the exception for its class
    if not issubclass(kind, Exception) and _is_for_the_caller(kind, awaited):
        raise raised


def _is_for_the_caller(kind: type[BaseException], awaited: bool) -> bool:
    if issubclass(kind, TaskCancelled):  # raised from outside, to end what the thread runs
        return True
    if awaited and issubclass(kind, (GeneratorExit, asyncio.CancelledError)):
        task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
        if issubclass(kind, GeneratorExit):
            return task is None  # a coroutine that is closed is not run by a task
        return task is not None and task.cancelling() > 0
    if threading.current_thread() is not threading.main_thread():
        return False  # signals do not raise there
    if issubclass(kind, KeyboardInterrupt):
        return _ctrl_c_raises()
    # A signal handler of the user's may raise SystemExit to end the program. A server's main thread, where a loop runs,
    # has no such handler.
    return issubclass(kind, SystemExit) and asyncio._get_running_loop() is None


def _ctrl_c_raises() -> bool:
    """Whether a SIGINT handler that may raise is in force. Servers' processes have one that does not."""
    handler = signal.getsignal(signal.SIGINT)
    return callable(handler) and getattr(handler, "__name__", "") not in _HARMLESS_HANDLERS


def works(error: BaseException) -> bool:
    """Whether an exception can be shown and raised without raising another."""
    try:
        str(error), repr(error)
        return can_be_raised(error)
    except BaseException as failure:
        let_pass(failure)
        return False


def can_be_raised(error: BaseException) -> bool:
    """Whether the interpreter can raise an exception, looking at its class, traceback and chain, without another."""
    try:
        error.__class__, error.args, error.__traceback__, error.__cause__, error.__context__  # noqa: B018
        error.__suppress_context__, error.with_traceback  # noqa: B018
    except BaseException as failure:
        let_pass(failure)
        return False
    return True


def traceback_of(error: BaseException) -> TracebackType | None:
    """An exception's traceback, without asking the exception."""
    return BaseException.__dict__["__traceback__"].__get__(error)  # type: ignore[no-any-return]


def class_name_of(value: object) -> str:
    """The class of a value with its module, without asking the value."""
    kind = type(value)
    try:
        module, name = str(kind.__module__), str(kind.__qualname__)
    except BaseException as failure:  # its metaclass fails
        let_pass(failure)
        return str(type.__dict__["__name__"].__get__(kind))
    return name if module == "builtins" else f"{module}.{name}"


def described(error: BaseException) -> str:
    """The bare class and the text of an exception; only the class if the exception has no working text."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    try:
        text = str(error)
    except BaseException as failure:
        let_pass(failure)
        return f"{name}, which has no working text"
    return f"{name}: {text[:_LONGEST]}" if text else name


def log_raised(
    logger: logging.Logger, raised: BaseException, message: str, *args: object, awaited: bool = False
) -> Exception:
    """Log, with its traceback, the object that users' code raised; returns an `Exception` as `contained` does.

    Args:
        message, args: as for `logger.error`; users' code may fail in the texts of the arguments, too.
    """
    error = contained(raised, awaited)
    try:
        logger.error(message, *args, exc_info=error)
    except BaseException as failure:  # a text, or a log handler of the user's, fails
        let_pass(failure)
        _log_plainly(logger, message, error)
    return error


async def log_failure_of(logger: logging.Logger, work: Awaitable[object], message: str, *args: object) -> None:
    """Await users' code for which nobody else waits; what it raises is logged, as `log_raised` does."""
    try:
        await work
    except BaseException as raised:
        log_raised(logger, raised, message, *args, awaited=True)


def _log_plainly(logger: logging.Logger, message: str, error: Exception) -> None:
    try:
        logger.error("%s [of what cannot be shown]: %s", message, described(error))
    except BaseException as failure:
        let_pass(failure)
