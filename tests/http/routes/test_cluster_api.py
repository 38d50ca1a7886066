"""`/api/v1`, as tools that run clusters ask it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headrace import Client, Worker
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.http.http_calls import Answer, ask

JSON = {"Content-Type": "application/json"}


async def post(scheduler: Any, body: object, headers: dict[str, str] | None = None) -> Answer:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    port = scheduler.http_server.port
    return await ask(port, "/api/v1/retire_workers", "POST", {**JSON, **(headers or {})}, sent)


async def get(scheduler: Any, path: str) -> Any:
    answer = await ask(scheduler.http_server.port, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return json.loads(answer.body)


@gen_cluster(client=True)
async def test_questions(c: Client, s: Any, a: Worker, b: Worker) -> None:
    answer = await ask(s.http_server.port, "/api/v1")
    assert (answer.status, answer.body) == (200, b"API V1")
    workers = await get(s, "/api/v1/get_workers")
    assert set(workers) == {"num_workers", "workers"}
    assert workers["num_workers"] == 2
    told = {each["name"]: each for each in workers["workers"]}
    assert told == {worker.name: {"name": worker.name, "address": worker.address} for worker in (a, b)}
    assert await get(s, "/api/v1/adaptive_target") == {"workers": s.adaptive_target()}
    idle = await get(s, "/api/v1/check_idle")
    assert set(idle) == {"idle_since"}
    event = c.submit(asyncio.sleep, 1000)
    await async_poll_for(lambda: bool(s.tasks), 5)
    assert await get(s, "/api/v1/check_idle") == {"idle_since": None}
    del event


@pytest.mark.parametrize("way", ["workers", "names", "n"])
def test_workers_are_retired_with_what_they_hold(way: str) -> None:
    @gen_cluster(client=True)
    async def run(c: Client, s: Any, a: Worker, b: Worker) -> None:
        future = c.submit(int, 7, workers=[a.address])
        await future
        value: object = {"workers": [a.address], "names": [a.name], "n": 1}[way]
        answer = await post(s, {way: value})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        ((address, identity),) = json.loads(answer.body).items()
        if way != "n":
            assert address == a.address
        assert {"name", "host", "nthreads", "memory_limit", "services", "status"} <= set(identity)
        assert address not in s.workers
        assert len(s.workers) == 1
        assert await future == 7

    run()


@gen_cluster(client=True)
async def test_a_caller_that_leaves_does_not_stop_a_retirement(c: Client, s: Any, a: Worker, b: Worker) -> None:
    future = c.submit(int, 7, workers=[a.address])
    await future
    body = json.dumps({"workers": [a.address]}).encode()
    _reader, writer = await asyncio.open_connection("127.0.0.1", s.http_server.port)
    head = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"POST /api/v1/retire_workers HTTP/1.1\r\n{head}\r\n".encode() + body)
    await async_poll_for(lambda: a.address not in s.workers or s.workers[a.address].status.name != "running", 5)
    writer.close()
    await async_poll_for(lambda: a.address not in s.workers, 10)
    assert await future == 7


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "object"),
        (b"null", 400, "object"),
        (b"[]", 400, "object"),
        (b"{", 400, "no JSON"),
        (b"\xff", 400, "no JSON"),
        (b"[" * 10_000, 400, "no JSON"),
        (b'{"n": NaN}', 400, "NaN"),
        ({}, 400, "which workers"),
        ({"close_workers": True}, 400, "which workers"),
        ({"n": -1}, 400, "'n' is a whole number"),
        ({"n": "1"}, 400, "'n' is a whole number"),
        ({"n": 1.5}, 400, "'n' is a whole number"),
        ({"n": True}, 400, "'n' is a whole number"),
        (b'{"memory_ratio": 1e999}', 400, "'memory_ratio' is a number"),
        ({"workers": "tcp://127.0.0.1:1"}, 400, "'workers' is a list"),
        ({"workers": [1]}, 400, "'workers' is a list"),
        ({"workers": ["tcp://127.0.0.1:1"]}, 404, "no worker 'tcp://127.0.0.1:1'"),
        ({"workers": ["tcp://[::1"]}, 404, "no worker 'tcp://[::1'"),
        ({"workers": ["foo://"]}, 404, "no worker 'foo://'"),
        ({"workers": ["tcp://127.0.0.1:99999999"]}, 404, "no worker"),
        ({"workers": ["\ud800"]}, 404, "no worker '\\ud800'"),
        ({"workers": ["tcp://nowhere.invalid:1"]}, 404, "no worker 'tcp://nowhere.invalid:1'"),
        ({"names": ["nobody"]}, 404, "no worker named 'nobody'"),
        ({"names": [None]}, 400, "'names' is a list"),
        ({"workers": [], "n": 1}, 400, "in one way only"),
        ({"workers": [], "names": []}, 400, "in one way only"),
        ({"n": 1, "bogus": 2}, 400, "no option 'bogus'"),
        ({"n": 1, "close_workers": 1}, 400, "'close_workers' is true or false"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_changes_nothing(body: Any, status: int, words: str) -> None:
    @gen_cluster(nthreads=[("127.0.0.1", 1)])
    async def run(s: Any, a: Worker) -> None:
        answer = await post(s, body)
        assert (answer.status, words in answer.text) == (status, True), answer.text
        assert list(s.workers) == [a.address]

    run()


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_only_programs_and_pages_of_this_server_may_retire_workers(s: Any, a: Worker) -> None:
    for headers, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ):
        assert (await post(s, {"n": 1}, headers)).status == status
    port = s.http_server.port
    assert (await ask(port, "/api/v1/retire_workers")).status == 405
    assert (await ask(port, "/api/v1/get_workers", "POST", JSON)).status == 405
    assert (await ask(port, "/api/v1/nothing")).status == 404
    large = b'{"workers": ["' + b"x" * (2 << 20) + b'"]}'
    assert (await post(s, large)).status == 413
    assert list(s.workers) == [a.address]


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_a_list_of_nobody_retires_nobody(s: Any, a: Worker) -> None:
    answer = await post(s, {"workers": []}, {"Content-Type": "application/json; charset=utf-8"})
    assert (answer.status, json.loads(answer.body)) == (200, {})
    assert list(s.workers) == [a.address]
