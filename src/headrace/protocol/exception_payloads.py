"""Exceptions and tracebacks as payloads that can always be made and always be opened.

An exception that cannot be pickled, or whose class the reader does not have, arrives as a stand-in that names its class
and carries its text. Chained exceptions (`__cause__`, `__context__`) and their tracebacks come along.
"""

from __future__ import annotations

import asyncio
import traceback as traceback_module
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, TracebackType
from typing import Any, NamedTuple

from headrace import config
from headrace.containment import can_be_raised, class_name_of, described, let_pass, traceback_of
from headrace.exceptions import RemoteError, UserCodeError

from .frames import Frames
from .pickling import dumps, loads

#: What Python acts upon wherever it is raised.
_CONTROL = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
#: Built-in classes whose `__init__` keeps what is not among `args` or in the instance's dictionary.
_FILLED_BY_INIT = (UnicodeError, SyntaxError, ImportError, StopIteration)
#: What `OSError` keeps beside them.
_OF_OSERROR = ("errno", "strerror", "filename", "filename2")
#: The same of `ImportError`.
_OF_IMPORT_ERROR = ("name", "path")
#: Chained exceptions beyond this number are left out.
_MAX_CHAIN = 20


class DumpedException(NamedTuple):
    """An exception as it travels: two payloads, and two texts for readers who cannot open these."""

    exception: bytes | Frames
    traceback: bytes | Frames
    exception_text: str
    traceback_text: str


def dumps_exception(
    exception: BaseException, traceback: TracebackType | None = None, max_length: int | None = None
) -> DumpedException:
    """Payloads and texts of an exception. Never raises for the exception's own faults.

    Args:
        traceback: what to send instead of `exception.__traceback__` (frames of ours are best left out).
        max_length: characters beyond which texts are cut; `distributed.admin.max-error-length` by default.
    """
    if traceback is None:
        traceback = traceback_of(exception)
    try:
        if max_length is None:
            max_length = int(config.get("distributed.admin.max-error-length"))
        exception = _harmless(exception)
        text = truncate(_text(exception), max_length)
        lines = truncate("".join(_format_traceback(traceback)), max_length)
        return DumpedException(_dump(exception, text, max_length), _dump_traceback(traceback), text, lines)
    except BaseException as raised:  # each step looks out for itself; nobody would hear of the task if one did not
        let_pass(raised)
        text = f"{described(exception)} (telling more of it failed with {class_name_of(raised)})"
        return DumpedException(dumps(UserCodeError(text)), dumps(None), text, "")


def _harmless(exception: BaseException) -> BaseException:
    """A stand-in for exceptions that would end the reader's program, loop or task if they were raised again there."""
    if not issubclass(type(exception), _CONTROL):
        return exception if can_be_raised(exception) else _stand_in(exception, _text(exception))
    stand_in = RemoteError(
        f"{_text(exception)} was raised: it ended the call there, and arrives as this error so that nothing ends here"
    )
    if can_be_raised(exception):
        stand_in.__cause__, stand_in.__context__ = exception.__cause__, exception.__context__
    return stand_in


def _stand_in(exception: BaseException, text: str) -> BaseException:
    """An exception in place of one that fails when it is looked at; alone, if even the chain cannot be had."""
    return _with_chain(Exception(text), exception)


def _with_chain(made: BaseException, exception: BaseException) -> BaseException:
    """Give an exception the chain and the traceback of another, whose own attributes may fail."""
    chain = BaseException.__dict__
    made.__cause__ = chain["__cause__"].__get__(exception)
    made.__context__ = chain["__context__"].__get__(exception)
    made.__suppress_context__ = chain["__suppress_context__"].__get__(exception)
    return made.with_traceback(traceback_of(exception))


def loads_exception(payload: bytes | Frames | None, text: str = "") -> BaseException:
    """The exception in a payload; a `RemoteError` with `text` when it cannot be loaded here. Never raises."""
    exception: Any = None
    try:
        exception = loads(payload)  # type: ignore[arg-type]
        if not issubclass(type(exception), BaseException):
            return RemoteError(text or f"not an exception: {type(exception).__name__}")
        return exception if can_be_raised(exception) or not text else RemoteError(text)
    except Exception as error:
        return RemoteError(f"{text or 'an exception'} (its class cannot be loaded here: {error})")
    finally:
        del exception  # see `loads_traceback`


def loads_traceback(payload: bytes | Frames | None) -> TracebackType | None:
    """The traceback in a payload, or `None` when there is none or it cannot be loaded. Never raises.

    The frames of a traceback that is made here have been called by this one, and by all that called it. None of these
    may keep the traceback or its exception in a variable, or all that they know lives until a collection of garbage:
    futures, too, and with them results in the cluster.
    """
    if payload is None:
        return None
    result: object = None
    try:
        result = loads(payload)
        return result if isinstance(result, TracebackType) else None
    except Exception:
        return None
    finally:
        del result


def truncate(text: str, length: int) -> str:
    """The text, cut to about `length` characters with a mark where it was cut."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text) - length} characters left out)"


def rebuild_traceback(parts: dict[str, Any]) -> TracebackType | None:
    """Make a traceback out of what `tblib` wrote (called when a payload is loaded)."""
    from tblib import Traceback

    return Traceback.from_dict(parts).as_traceback()  # type: ignore[no-any-return]


def rebuild_uncalled(
    cls: type[BaseException], args: tuple[Any, ...], kept: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    """An exception made with `args` that has `kept`; its `__init__` is not called (called when a payload is loaded)."""
    exception = cls.__new__(cls, *args)
    exception.args = kept
    for name, value in attributes.items():
        setattr(exception, name, value)
    return exception


def rebuild_exception(
    exception: BaseException,
    cause: BaseException | None,
    context: BaseException | None,
    suppress: bool,
    traceback: TracebackType | None,
) -> BaseException:
    """Put back what pickling an exception leaves out (called when a payload is loaded)."""
    exception.__cause__ = cause
    exception.__context__ = context
    exception.__suppress_context__ = suppress
    return exception.with_traceback(traceback)


class _Traceback:
    """Pickles as a traceback."""

    def __init__(self, traceback: TracebackType) -> None:
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        from tblib import Traceback

        return rebuild_traceback, (Traceback(self.traceback).to_dict(),)


class _Bare:
    """Pickles as an exception by its own `__reduce_ex__`, without the chain that `tblib` may have been told to add."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __reduce__(self) -> str | tuple[Any, ...]:
        reduced = self.exception.__reduce_ex__(5)
        if type(reduced) is not tuple:
            return reduced
        cls, args, *state = reduced
        if isinstance(self.exception, BaseExceptionGroup) and args == self.exception.args:
            args = (args[0], [_Bare(one) for one in args[1]])
        if not _only_init_is_its_own(type(self.exception)):
            return cls, args, *state
        names = _OF_OSERROR if isinstance(self.exception, OSError) else ()
        attributes = {name: value for name in names if (value := getattr(self.exception, name)) is not None}
        kept = args if isinstance(self.exception, BaseExceptionGroup) else self.exception.args
        return rebuild_uncalled, (cls, args, kept, attributes), *state


def _only_init_is_its_own(cls: type[BaseException]) -> bool:
    """Whether Python would pickle it as a call with `args`, which need not be what its `__init__` takes."""
    return (
        isinstance(cls.__init__, FunctionType)
        and isinstance(cls.__new__, BuiltinFunctionType)
        and isinstance(cls.__reduce__, MethodDescriptorType)
        and cls.__reduce_ex__ is object.__reduce_ex__
        and not issubclass(cls, _FILLED_BY_INIT)
    )


class _Exception:
    """Pickles as an exception with its chain, in which each exception occurs once."""

    def __init__(self, exception: BaseException, max_length: int, seen: dict[int, _Exception | None] | None) -> None:
        self.exception = exception
        #: the outermost traceback has a payload of its own
        self.root = seen is None
        seen = {} if seen is None else seen
        seen[id(exception)] = None  # under way: an edge back to it would make a circle
        self.cause = _chained(exception.__cause__, max_length, seen)
        self.context = _chained(exception.__context__, max_length, seen)
        seen[id(exception)] = self

    def __reduce__(self) -> tuple[Any, ...]:
        exception = self.exception
        traceback = None if self.root or exception.__traceback__ is None else _Traceback(exception.__traceback__)
        parts = (_Bare(exception), self.cause, self.context, exception.__suppress_context__, traceback)
        return rebuild_exception, parts


def _chained(exception: BaseException | None, max_length: int, seen: dict[int, _Exception | None]) -> _Exception | None:
    if exception is None or len(seen) >= _MAX_CHAIN:
        return None
    if id(exception) in seen:
        return seen[id(exception)]
    node = _Exception(sound(exception, max_length), max_length, seen)
    seen[id(exception)] = node
    return node


def sound(exception: BaseException, max_length: int, text: str | None = None) -> BaseException:
    """The exception, cut if it is huge, if that survives a pickle round trip; else an `Exception` with its text."""
    text = _text(exception) if text is None else text
    try:
        whole = exception if len(text) <= max_length else _shortened(exception, max_length)
        loaded = loads(dumps(_Bare(whole)))
        if issubclass(type(loaded), BaseException) and can_be_raised(whole):
            return whole
    except BaseException as raised:
        let_pass(raised)
    return _stand_in(exception, truncate(text, max_length))


def _shortened(exception: BaseException, max_length: int) -> BaseException:
    """An exception of the same class, by which callers catch it, whose long arguments and attributes are cut.

    An `__init__` of the user's is not called: it may make the text longer again, or take other arguments.
    """
    cls = type(exception)
    if isinstance(exception, BaseExceptionGroup):
        share = max(max_length // len(exception.exceptions), 100)
        inside = [one if len(_text(one)) <= share else _shortened(one, share) for one in exception.exceptions]
        args: tuple[Any, ...] = (truncate(exception.message, max_length), inside)
    else:
        args = tuple([_cut(value, max_length) for value in exception.args])
        if sum(len(repr(value)) for value in args) > max_length * 2 + 1000:  # many, or deeply quoted
            args = (truncate(str(exception), max_length),)
    made = cls.__new__(cls, *args)
    if isinstance(cls.__init__, FunctionType) or isinstance(exception, BaseExceptionGroup):
        made.args = args
    else:
        made.__init__(*args)  # type: ignore[misc]
    kept: tuple[str, ...] = _OF_OSERROR if isinstance(exception, OSError) else ()
    kept = _OF_IMPORT_ERROR if isinstance(exception, ImportError) else kept
    for name in kept:
        setattr(made, name, _cut(getattr(exception, name), max_length))
    for name, value in vars(exception).items():
        setattr(made, name, _cut(value, max_length) if isinstance(value, (str, bytes)) else value)
    return _with_chain(made, exception)


def _cut(value: Any, length: int) -> Any:
    """An argument of an exception, or the beginning of it."""
    if isinstance(value, str):
        return truncate(value, length)
    if isinstance(value, (bytes, bytearray)):
        return value[:length]
    text = repr(value)
    return value if len(text) <= length else truncate(text, length)


def _dump(exception: BaseException, text: str, max_length: int) -> bytes | Frames:
    exception = sound(exception, max_length, text if len(text) <= max_length else None)
    try:
        if exception.__cause__ is None and exception.__context__ is None:
            return dumps(_Bare(exception))
        return dumps(_Exception(exception, max_length, None))
    except BaseException as raised:
        let_pass(raised)
        return dumps(Exception(text))


def _dump_traceback(traceback: TracebackType | None) -> bytes | Frames:
    try:
        return dumps(None if traceback is None else _Traceback(traceback))
    except BaseException as raised:
        let_pass(raised)
        return dumps(None)


def _format_traceback(traceback: TracebackType | None) -> list[str]:
    try:
        return traceback_module.format_tb(traceback)
    except BaseException as error:
        let_pass(error)
        return [f"(a traceback that cannot be shown: {type(error).__name__})"]


def _text(exception: BaseException) -> str:
    """`repr`, or what can be said when that raises."""
    try:
        return repr(exception)
    except BaseException as raised:
        let_pass(raised)
        return f"<{class_name_of(exception)}, which has no working repr>"
