"""What is the doing of users' code stays with it; what is meant for the thread or the program goes on."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace.containment import contained, described, log_raised
from headrace.exceptions import TaskCancelled, UserCodeError


class Panic(BaseException):
    pass


class Unshowable(Exception):
    def __str__(self) -> str:
        raise Panic

    __repr__ = __str__


class Unreadable(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise Panic


def caught(raised: BaseException, awaited: bool = False) -> BaseException:
    try:
        raise raised
    except BaseException as error:
        return contained(error, awaited)


def in_a_thread(function: Callable[[], Any]) -> Any:
    answers: list[Any] = []

    def work() -> None:
        try:
            answers.append(function())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return answers[0]


def test_an_exception_that_works_is_passed_on_as_it_is() -> None:
    error = ValueError("x")
    assert caught(error) is error


@pytest.mark.parametrize("kind", [Panic, Unshowable, Unreadable, GeneratorExit, asyncio.CancelledError])
def test_others_have_a_stand_in_with_their_traceback(kind: type[BaseException]) -> None:
    error = caught(kind())
    assert type(error) is UserCodeError
    assert kind.__name__ in str(error)
    assert error.__traceback__ is not None
    assert error.__cause__ is None


def test_ctrl_c_on_the_main_thread_goes_on() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            caught(KeyboardInterrupt())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # then it was the user's code
        assert type(caught(KeyboardInterrupt())) is UserCodeError
    finally:
        signal.signal(signal.SIGINT, before)
    assert type(in_a_thread(lambda: caught(KeyboardInterrupt()))) is UserCodeError


def test_the_end_of_the_program_goes_on_only_where_no_loop_runs() -> None:
    with pytest.raises(SystemExit):
        caught(SystemExit())
    assert type(in_a_thread(lambda: caught(SystemExit()))) is UserCodeError

    async def on_a_loop() -> BaseException:
        return caught(SystemExit())

    assert type(asyncio.run(on_a_loop())) is UserCodeError


def test_an_interruption_of_the_thread_goes_on() -> None:
    assert type(in_a_thread(lambda: caught(TaskCancelled("x")))) is TaskCancelled


async def test_a_task_that_is_cancelled_ends() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except BaseException as raised:
            contained(raised, awaited=True)

    async def raises() -> BaseException:
        return caught(asyncio.CancelledError(), awaited=True)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert type(await asyncio.ensure_future(raises())) is UserCodeError


def test_logging_survives_what_it_is_given(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("distributed.test")

    class Plugin:
        def __repr__(self) -> str:
            raise Panic

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.getMessage()

    handler = Handler()
    logger.addHandler(handler)
    try:
        assert type(log_raised(logger, Unreadable(), "%r failed", Plugin())) is UserCodeError
    finally:
        logger.removeHandler(handler)
    assert "failed [of what cannot be shown]" in caplog.text


def test_described() -> None:
    assert described(ValueError("x")) == "ValueError: x"
    assert described(Unshowable()) == "Unshowable, which has no working text"
