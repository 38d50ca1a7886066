"""The pure state: messages in, records and keys to release out."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from headrace.client.state import ClientCore, FutureState
from headrace.client.state.futures import REACTIONS
from headrace.exceptions import UnknownMessage
from headrace.messages import ToClient
from headrace.messages.client import (
    CancelledKeys,
    ClientEvent,
    GraphRefused,
    KeyInMemory,
    LostData,
    Restarted,
    SchedulerClosing,
    TaskErred,
    TaskRetried,
)


def take(state: ClientCore, *messages: ToClient) -> None:
    for message in messages:
        state.handle(message)


def wanting(*keys: Any) -> tuple[ClientCore, list[FutureState]]:
    state = ClientCore()
    return state, [state.want(key)[0] for key in keys]


def erred(key: str) -> TaskErred:
    return TaskErred(key, b"exception", b"traceback", None, "text", "lines")


def test_the_first_future_of_a_key_is_news_and_the_second_is_not() -> None:
    state = ClientCore()
    first, new = state.want("x")
    second, again = state.want("x")
    assert first is second
    assert (new, again) == (True, False)
    assert first.references == 2


def test_the_last_future_releases_the_key() -> None:
    state, (x, _) = wanting("x", "x")
    assert state.release([x]) == []
    assert state.release([x]) == ["x"]
    assert not state.futures


def test_a_released_pending_future_is_done() -> None:
    state, (x,) = wanting("x")
    called: list[FutureState] = []
    state.add_waiter(x, called.append)
    state.release([x])
    assert x.status == "cancelled"
    assert x.reason == "released"
    assert state.take_woken() == [([called.append], x)]


def test_memory_finishes_and_wakes_once() -> None:
    state, (x, y) = wanting("x", "y")
    waiter = [].append
    state.add_waiter(x, waiter)
    take(state, KeyInMemory("x", "int", b"1"), KeyInMemory("stranger", "int", b"1"))
    assert (x.status, x.type, x.result) == ("finished", "int", b"1")
    assert y.status == "pending"
    assert state.take_woken() == [([waiter], x)]
    assert state.take_woken() == []
    assert not state.add_waiter(x, waiter)


def test_a_second_report_without_the_result_keeps_it() -> None:
    state, (x,) = wanting("x")
    take(state, KeyInMemory("x", "int", b"1"), KeyInMemory("x", "int"))
    assert x.result == b"1"


def test_error_retry_and_success() -> None:
    state, (x,) = wanting("x")
    take(state, erred("x"))
    assert x.status == "error"
    assert x.error is not None
    take(state, TaskRetried("x"))
    assert x.status == "pending"
    assert x.error is None
    take(state, KeyInMemory("x", "int"))
    assert x.status == "finished"


def test_lost_data_waits_again_unless_the_result_is_here() -> None:
    state, (large, small) = wanting("large", "small")
    take(state, KeyInMemory("large", "int"), KeyInMemory("small", "int", b"1"))
    take(state, LostData("large"), LostData("small"))
    assert large.status == "lost"
    assert small.status == "finished"
    assert state.add_waiter(large, print)


def test_own_cancellation_is_at_once_and_its_confirmation_spares_a_new_submission() -> None:
    state, (old,) = wanting("x")
    assert state.cancel(["x", "unknown"], "because", "more") == ["x"]
    assert (old.status, old.reason, old.message) == ("cancelled", "because", "more")
    new, first = state.want("x")
    assert first
    take(state, CancelledKeys(["x"], "because"))
    assert new.status == "pending"
    take(state, CancelledKeys(["x"], "again"))
    assert (new.status, new.reason) == ("cancelled", "again")
    assert not state.futures


def test_refused_graphs_and_restarts_cancel() -> None:
    state, (x, y, z) = wanting("x", "y", "z")
    take(state, GraphRefused(["x"], "a column does not fit"))
    assert (x.status, x.reason) == ("cancelled", "a column does not fit")
    take(state, KeyInMemory("y", "int"), Restarted())
    assert y.status == z.status == "cancelled"
    assert not state.futures


def test_an_ended_connection_cancels_what_is_not_done() -> None:
    state, (x, y) = wanting("x", "y")
    take(state, KeyInMemory("y", "int", b"1"))
    state.cancel_pending("gone")
    assert (x.status, x.reason) == ("cancelled", "gone")
    assert y.status == "finished"


def test_a_new_connection_asks_again() -> None:
    state, (pending, inline, remote, failed) = wanting("pending", "inline", "remote", "failed")
    take(state, KeyInMemory("inline", "int", b"1"), KeyInMemory("remote", "int"), erred("failed"))
    assert state.lose_all() == ["pending", "inline", "remote"]
    assert [f.status for f in (pending, inline, remote, failed)] == ["pending", "finished", "lost", "error"]


def test_events_and_closing_are_kept_for_the_shell() -> None:
    state, _ = wanting()
    take(state, ClientEvent("topic", 1), SchedulerClosing("bye"))
    assert [event.event for event in state.take_events()] == [1]
    assert state.take_events() == []
    assert state.closing == "bye"


def test_a_submission_that_failed_leaves_nothing() -> None:
    state, (x,) = wanting("x")
    state.forget([x])
    assert x.status == "cancelled"
    assert state.want("x")[1]
    assert state.release([x]) == []


def test_graph_numbers_grow() -> None:
    state, _ = wanting()
    assert [state.next_graph() for _ in range(3)] == [1, 2, 3]


def test_records_of_the_documented_names() -> None:
    record = FutureState("x")
    record.finish("int")
    assert record.done()
    record.lose()
    assert (record.status, record.done()) == ("lost", False)
    record.reset()
    record.cancel("why", "msg")
    assert record.done()
    record.retry()
    assert record.status == "pending"
    assert "pending" in repr(record)


def test_every_message_of_the_scheduler_has_a_reaction() -> None:
    assert set(REACTIONS) == set(get_args(ToClient))


def test_unknown_messages_are_refused() -> None:
    state, _ = wanting("x")
    with pytest.raises(UnknownMessage, match="of the class object"):
        state.handle(object())  # type: ignore[arg-type]


def count_down(statuses: list[str], error_stops: bool = False, count: int | None = None) -> str:
    """Whether a countdown over records of these statuses waits, and for how many."""
    state, records = wanting(*range(len(statuses)))
    for record, status in zip(records, statuses, strict=True):
        record.status = status
    countdown = state.count_down(records, lambda: None, error_stops, count)
    return "nothing" if countdown is None else str(countdown.remaining)


def test_countdowns_wait_for_what_is_left() -> None:
    assert count_down(["pending", "lost", "finished"]) == "2"
    assert count_down(["finished", "error", "cancelled"]) == "nothing"
    assert count_down(["pending", "pending", "finished"], count=2) == "1"
    assert count_down(["pending", "finished"], count=1) == "nothing"
    assert count_down(["pending", "error"], error_stops=True) == "nothing"
    assert count_down(["pending", "finished"], error_stops=True) == "1"


def test_countdowns_wake_once_enough_are_done() -> None:
    state, records = wanting("x", "y")
    woken: list[str] = []
    state.count_down(records, lambda: woken.append("all"), False, None)
    state.count_down(records, lambda: woken.append("any error"), True, None)
    take(state, erred("x"))
    for waiters, record in state.take_woken():
        for waiter in waiters:
            waiter(record)
    assert woken == ["any error"]
    take(state, KeyInMemory("y", "int"))
    for waiters, record in state.take_woken():
        for waiter in waiters:
            waiter(record)
    assert "all" in woken
