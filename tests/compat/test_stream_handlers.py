"""Messages of plugins' own on the streams: dictionaries that name the function which takes them."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.common.status import Status
from headrace.messages.base import as_message
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for


def inc(x: int) -> int:
    return x + 1


class Notes:
    """Remembers with what its methods are called."""

    def __init__(self) -> None:
        self.plain: list[dict[str, Any]] = []
        self.awaited: list[dict[str, Any]] = []

    def note(self, **arguments: Any) -> None:
        self.plain.append(arguments)

    async def note_later(self, **arguments: Any) -> None:
        self.awaited.append(arguments)

    def handlers(self) -> dict[str, Any]:
        return {"note": self.note, "note-later": self.note_later}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_dictionaries_reach_the_handlers_of_their_name(c: Client, s: Scheduler, a: Worker) -> None:
    scheduler, worker, client = Notes(), Notes(), Notes()
    s.stream_handlers.update(scheduler.handlers())
    a.stream_handlers.update(worker.handlers())
    c._stream_handlers.update(client.handlers())

    s.stream_comms[a.address].send({"op": "note", "x": 1})
    s.worker_send(a.address, {"op": "note-later", "x": [1, {"a": None}]})  # type: ignore[arg-type]
    await async_poll_for(lambda: worker.awaited, timeout=10)
    assert (worker.plain, worker.awaited) == ([{"x": 1}], [{"x": [1, {"a": None}]}])

    s.client_comms[c.id].send({"op": "note", "x": 1})
    s.client_send(c.id, {"op": "note-later", "x": 2})  # type: ignore[arg-type]
    s.report({"op": "note", "x": 3})
    await async_poll_for(lambda: len(client.plain) == 2 and client.awaited, timeout=10)
    assert (client.plain, client.awaited) == ([{"x": 1}, {"x": 3}], [{"x": 2}])

    a.batched_send({"op": "note", "x": 1})
    a.batched_stream.send({"op": "note-later", "x": 2})  # type: ignore[union-attr]
    await async_poll_for(lambda: scheduler.awaited, timeout=10)
    assert scheduler.plain == [{"worker": a.address, "x": 1}]
    assert scheduler.awaited == [{"worker": a.address, "x": 2}]
    c._send_to_scheduler({"op": "note", "x": 3})
    await async_poll_for(lambda: len(scheduler.plain) == 2, timeout=10)
    assert scheduler.plain[1] == {"client": c.id, "x": 3}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_handlers_that_fail_or_are_missing_do_no_harm(
    c: Client, s: Scheduler, a: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**arguments: Any) -> None:
        raise ValueError("handler failed")

    async def fail_later(**arguments: Any) -> None:
        raise ValueError("coroutine failed")

    s.stream_handlers.update({"fail": fail, "fail-later": fail_later})
    c._stream_handlers["fail"] = fail
    for name in ("fail", "fail-later", "unknown"):
        a.batched_send({"op": name})
        c._send_to_scheduler({"op": name})
        s.worker_send(a.address, {"op": name})  # type: ignore[arg-type]
        s.client_send(c.id, {"op": name})  # type: ignore[arg-type]
    a.batched_send({"op": "unknown", "content": object()})  # which cannot be encoded
    assert await c.submit(inc, 1) == 2
    await async_poll_for(lambda: "coroutine failed" in caplog.text, timeout=10)
    assert a.status is Status.running
    assert c.status == "running"
    assert "handler failed" in caplog.text
    assert "No handler for the stream's operation 'unknown'" in caplog.text


def test_a_message_names_its_handler() -> None:
    with pytest.raises(ValueError, match="names the handler"):
        as_message({"x": 1})
