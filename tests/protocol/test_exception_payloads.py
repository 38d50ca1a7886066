"""Exceptions travel, whatever they are."""

from __future__ import annotations

import threading
import traceback
from typing import Any

import dask
import pytest
import tblib.pickling_support

from headrace.exceptions import RemoteError
from headrace.protocol import dumps, dumps_exception, loads, loads_exception, loads_traceback, truncate
from headrace.protocol.exception_payloads import DumpedException


def raised(exception: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise exception from cause
    except BaseException as error:
        return error


def travelled(exception: BaseException, **kwargs: Any) -> tuple[BaseException, DumpedException]:
    dumped = dumps_exception(exception, **kwargs)
    return loads_exception(dumped.exception, dumped.exception_text), dumped


class WithArguments(Exception):
    """Cannot be rebuilt from its `args`: `__init__` takes other ones."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.b = b


class WithKeyword(ValueError):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Prefixed(Exception):
    """Could be called with its `args`, and would then have another text."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")


class WithErrno(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "absent", path)


class WithTwo(Exception):
    """Cannot be rebuilt: a call with its `args` fails, and `__new__` may want something."""

    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class WithLock(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class Broken(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


def test_plain_exceptions() -> None:
    error, dumped = travelled(raised(KeyError("a", 1)))
    assert type(error) is KeyError
    assert error.args == ("a", 1)
    assert dumped.exception_text == "KeyError('a', 1)"
    assert "raised" in dumped.traceback_text
    assert "test_exception_payloads.py" in dumped.traceback_text


@pytest.mark.parametrize(
    "exception", [WithArguments(1, 2), WithKeyword(code=3), Prefixed("key"), WithErrno("/nowhere"), WithErrno("")]
)
def test_exceptions_whose_init_takes_other_arguments(exception: Exception) -> None:
    error, _ = travelled(raised(exception))
    assert type(error) is type(exception)
    assert (str(error), error.args, vars(error)) == (str(exception), exception.args, vars(exception))
    assert getattr(error, "errno", None) == getattr(exception, "errno", None)


def test_groups_of_exceptions() -> None:
    error, _ = travelled(raised(ExceptionGroup("several", [WithArguments(1, 2), ValueError(3)])))
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [WithArguments, ValueError]


def test_tracebacks_point_into_the_user_s_code() -> None:
    back = loads_traceback(travelled(raised(KeyError("a")))[1].traceback)
    assert traceback.extract_tb(back)[-1].name == "raised"
    assert "raise exception from cause" in "".join(traceback.format_tb(back))


def test_chains_travel_with_their_tracebacks() -> None:
    error, _ = travelled(raised(KeyError("a"), raised(ValueError("b"), raised(OSError("c")))))
    assert repr(error.__cause__) == "ValueError('b')"
    assert error.__cause__ is not None
    assert repr(error.__cause__.__cause__) == "OSError('c')"
    assert error.__cause__.__traceback__ is not None
    assert error.__suppress_context__
    assert "direct cause" in "".join(traceback.format_exception(error))


def test_contexts_travel() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904
    except ValueError as caught:
        error, _ = travelled(caught)
    assert repr(error.__context__) == "KeyError('first')"
    assert error.__cause__ is None


def test_with_tblib_s_own_pickling() -> None:
    """Other packages switch it on for the whole process."""
    import copyreg

    before = copyreg.dispatch_table.copy()
    tblib.pickling_support.install()
    try:
        error, _ = travelled(raised(KeyError("a"), raised(WithLock())))
    finally:
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(before)
    assert type(error) is KeyError
    assert "WithLock" in str(error.__cause__)


def test_notes_travel() -> None:
    exception = KeyError("a")
    exception.add_note("look here")
    assert travelled(raised(exception))[0].__notes__ == ["look here"]


@pytest.mark.parametrize("exception", [WithTwo(1, 2), WithLock(), Broken("x")])
def test_what_cannot_be_pickled_has_a_stand_in(exception: Exception) -> None:
    error, dumped = travelled(raised(exception, OSError("cause")))
    assert type(error) is Exception
    assert type(exception).__name__ in str(error)
    assert type(exception).__name__ in dumped.exception_text
    assert repr(error.__cause__) == "OSError('cause')"


def test_a_cause_that_cannot_be_pickled_has_a_stand_in() -> None:
    error, _ = travelled(raised(KeyError("a"), raised(WithLock())))
    assert type(error) is KeyError
    assert "WithLock" in str(error.__cause__)


def test_a_class_that_is_not_here() -> None:
    error = loads_exception(b"cno_such_module\nTheirError\n.", "TheirError('bad')")
    assert isinstance(error, RemoteError)
    assert isinstance(error, RuntimeError)
    assert "TheirError('bad')" in str(error)
    assert "no_such_module" in str(error)


@pytest.mark.parametrize("payload", [None, b"", b"garbage", dumps(3)])
def test_garbage_never_raises(payload: Any) -> None:
    assert "the text" in str(loads_exception(payload, "the text"))
    assert loads_traceback(payload) is None


def test_huge_messages_are_cut() -> None:
    error, dumped = travelled(raised(ValueError("x" * 1_000_000)), max_length=1000)
    assert len(str(error)) < 1100
    assert len(dumped.exception_text) < 1100
    assert type(error) is ValueError
    assert len(dumped.exception) < 2000  # type: ignore[arg-type]
    assert truncate("abc", 3) == "abc"


def test_the_setting_says_where_texts_are_cut() -> None:
    with dask.config.set({"distributed.admin.max-error-length": 50}):
        error, dumped = travelled(raised(KeyError("x" * 200)))
    assert type(error) is KeyError
    assert len(error.args[0]) < 100
    assert len(dumped.exception_text) < 100


class WithMessage(ValueError):
    """Shows an attribute, and takes what its `args` do not say."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__()
        self.message = message
        self.code = code

    def __repr__(self) -> str:
        return f"WithMessage({self.message!r})"


def huge(kind: str) -> BaseException:
    text = "x" * 5000
    return {
        "first": WithErrno(text),
        "attribute": WithMessage(text, code=7),
        "unicode": UnicodeDecodeError("utf8", b"a" * 5000, 0, 1, "bad"),
        "bytes": ValueError(b"a" * 5000),
        "import": ImportError(text, name="absent"),
        "many": ValueError(*range(5000)),
        "list": ValueError(1, list(range(5000))),
        "group": ExceptionGroup("several", [KeyError(text), WithErrno("short")]),
    }[kind]


@pytest.mark.parametrize("kind", ["first", "attribute", "unicode", "bytes", "import", "many", "list", "group"])
def test_huge_exceptions_keep_their_class(kind: str) -> None:
    exception = huge(kind)
    exception.__cause__ = KeyError("cause")
    error, _ = travelled(raised(exception, exception.__cause__), max_length=500)
    assert type(error) is type(exception)
    assert len(repr(error)) < 2500
    assert repr(error.__cause__) == "KeyError('cause')"
    for name in ("code", "name", "errno", "start", "reason"):
        assert getattr(error, name, None) == getattr(exception, name, None)
    if isinstance(error, ExceptionGroup):
        assert [type(one) for one in error.exceptions] == [KeyError, WithErrno]
    if isinstance(error, WithErrno):
        assert error.filename.startswith("xxx")


def test_chains_of_many_branches_end() -> None:
    exception: BaseException = KeyError("first")
    for number in range(100):
        outer = KeyError(number)
        outer.__cause__, outer.__context__ = exception, exception
        if number % 2:
            outer.__context__ = ValueError(number)
            outer.__context__.__context__ = exception
        exception = outer
    assert travelled(exception)[0].args == (99,)


def test_endless_chains_end() -> None:
    first, second = KeyError("a"), KeyError("b")
    first.__context__, second.__context__ = second, first
    assert type(travelled(first)[0]) is KeyError


def test_payloads_load_like_any_other() -> None:
    dumped = dumps_exception(raised(KeyError("a"), OSError("b")))
    assert isinstance(loads(dumped.exception), KeyError)
    assert traceback.extract_tb(loads(dumped.traceback))
