"""What becomes of exceptions out of users' code that runs amid ours: in our loops, our threads, another task's way.

Unpickling, pickling, sizes, hooks, callbacks, texts of exceptions: all of it may raise anything, also what is no
`Exception` (Rust's panics are none), and an exception may itself fail whoever looks at it. Whoever calls such code
passes what it raised to `contained`, and goes on with an `Exception` that can be shown, chained and logged.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from types import TracebackType

from headrace.exceptions import TaskCancelled, UserCodeError

#: Handlers of signals that raise nothing, by name: those of asyncio's and uvloop's loops, and of `rpc.signals`.
_HARMLESS_HANDLERS = frozenset({"_sighandler_noop", "_Loop__sighandler", "_do_nothing"})
#: Longest text of an exception that is told in another's, in characters.
_LONGEST = 10_000


def contained(raised: BaseException, awaited: bool = False) -> Exception:
    """What user's code raised, as an `Exception` that can be handled; to be called in the `except` clause.

    Give the result to the name that the clause deletes (`raised = contained(raised)`): under another name it would live
    as long as the frame, which its traceback leads to, until the cyclic collector comes.

    Args:
        raised: the exception; returned as it is when it is an `Exception` that works.
        awaited: whether it came out of an `await`, where being cancelled or closed is the caller's own business.

    Raises:
        BaseException: `raised`, if it was not that code's doing: Ctrl-C, the end of the program, an interruption of the
            thread's task, and with `awaited` the cancellation of the calling task.
    """
    let_pass(raised, awaited)
    if issubclass(type(raised), Exception) and works(raised):
        return raised  # type: ignore[return-value]
    error = UserCodeError(f"{described(raised)} [no Exception, or one that fails when it is looked at]")
    error.__traceback__ = traceback_of(raised)
    return error


def let_pass(raised: BaseException, awaited: bool = False) -> None:
    """Raise again what is not the doing of the user's code that raised it, and nothing else; see `contained`."""
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
    # A handler of the user's may raise this to end the program. A server's loop, in the main thread, has none such.
    return issubclass(kind, SystemExit) and asyncio._get_running_loop() is None


def _ctrl_c_raises() -> bool:
    """Whether a handler in Python, which may raise, is in force. Servers' processes have one that does not."""
    handler = signal.getsignal(signal.SIGINT)
    return callable(handler) and getattr(handler, "__name__", "") not in _HARMLESS_HANDLERS


def works(error: BaseException) -> bool:
    """Whether an exception survives being looked at and shown."""
    try:
        str(error), repr(error)
        return can_be_raised(error)
    except BaseException as failure:
        let_pass(failure)
        return False


def can_be_raised(error: BaseException) -> bool:
    """Whether an exception survives what is done with one on its way: its class, traceback and chain are looked at."""
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
    """The bare class and the text of an exception; only the class if its text cannot be had."""
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
    """Log, with its traceback, what user's code raised; returns it as `contained` does.

    Args:
        message, args: as for `logger.error`; texts of the arguments may fail, too.
    """
    error = contained(raised, awaited)
    try:
        logger.error(message, *args, exc_info=error)
    except BaseException as failure:  # of a text, or of a handler of the user's
        let_pass(failure)
        _log_plainly(logger, message, error)
    return error


def _log_plainly(logger: logging.Logger, message: str, error: Exception) -> None:
    try:
        logger.error("%s [of what cannot be shown]: %s", message, described(error))
    except BaseException as failure:
        let_pass(failure)
