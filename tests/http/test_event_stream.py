"""`/eventstream`: events as they happen, as long as somebody looks, and never more than he reads."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from headrace import Client, Worker
from headrace.http import event_stream
from headrace.http.event_stream import Viewer
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.http.http_calls import ask


def url(scheduler: Any) -> str:
    return f"http://127.0.0.1:{scheduler.http_server.port}/eventstream"


def looking(scheduler: Any) -> list[str]:
    return [name for name in scheduler.plugins if name.startswith("eventstream")]


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_events_of_workers_clients_graphs_and_tasks(s: Any, a: Worker) -> None:
    observers = s.core.observers
    async with aiohttp.ClientSession() as session, session.ws_connect(url(s)) as socket:
        await async_poll_for(lambda: bool(looking(s)), 5)
        async with Client(s.address, asynchronous=True) as client:
            await client.submit(int, 1, key=("x", 0))
            await client.restart(wait_for_workers=False)
        async with Worker(s.address, nthreads=1) as other:
            address = other.address
        expected = {"add_client", "remove_client", "update_graph", "transition", "restart", "add_worker"}
        expected |= {"remove_worker"}
        told: list[dict[str, Any]] = []
        gone = {"name": "remove_worker", "worker": address}
        while gone not in told or not expected <= {each["name"] for each in told}:
            told.append(await asyncio.wait_for(socket.receive_json(), 10))
        assert told[0] == {"name": "add_worker", "worker": a.address}
        [done] = [each for each in told if each["name"] == "transition" and each["key"] == "('x', 0)"]
        assert (done["worker"], done["finish"], done["status"]) == (a.address, "memory", "OK")
        assert (done["action"], done["typename"], done["prefix"]) == ("compute", "int", "x")
        assert done["start"] <= done["stop"]
        assert {"action", "start", "stop"} <= set(done["startstops"][0])
        assert done["color"].startswith("#")
        assert {"name": "add_worker", "worker": address} in told
        for odd in ("{", "[]", '{"name": 1}', "x" * 1000):
            await socket.send_str(odd)
        await socket.send_bytes(b"\xff")
        await socket.send_json({"name": "ping"})
        while (answer := await asyncio.wait_for(socket.receive_json(), 10))["name"] != "pong":
            assert answer["name"] in expected, answer
    await async_poll_for(lambda: not looking(s), 5)
    assert s.core.observers == observers


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_two_viewers_and_one_that_is_cut_off(c: Client, s: Any, a: Worker) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url(s)) as first:
        second = await session.ws_connect(url(s))
        await async_poll_for(lambda: len(looking(s)) == 2, 5)
        await c.submit(int, 1, key="x")
        for socket in (first, second):
            while (await asyncio.wait_for(socket.receive_json(), 10))["name"] != "transition":
                pass
        second._response.connection.transport.abort()
        await async_poll_for(lambda: len(looking(s)) == 1, 5)
        await c.submit(int, 2, key="y")
        while (await asyncio.wait_for(first.receive_json(), 10)).get("key") != "y":
            pass
    await async_poll_for(lambda: not looking(s), 5)


async def test_a_slow_viewer_misses_messages_and_is_told_how_many() -> None:
    viewer = Viewer()
    for number in range(event_stream.MOST_WAITING + 5):
        viewer.send("transition", {"number": number})
    told = [await viewer.next() for _ in range(event_stream.MOST_WAITING)]
    assert told[-1] == ("transition", {"number": event_stream.MOST_WAITING - 1})
    assert await viewer.next() == ("skipped", {"count": 5})
    viewer.send("pong", {})
    assert await viewer.next() == ("pong", {})
    waiting = asyncio.ensure_future(viewer.next())
    await asyncio.sleep(0)
    viewer.send("restart", {})
    assert await waiting == ("restart", {})


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_the_scheduler_closes_with_viewers_there(c: Client, s: Any, a: Worker) -> None:
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(url(s))
        await async_poll_for(lambda: bool(looking(s)), 5)
        await a.close()
        await s.close()
        while (message := await asyncio.wait_for(socket.receive(), 10)).type != aiohttp.WSMsgType.CLOSE:
            assert message.type == aiohttp.WSMsgType.TEXT
        await socket.close()


@gen_cluster(nthreads=[])
async def test_other_sites_and_plain_requests(s: Any) -> None:
    assert (await ask(s.http_server.port, "/eventstream")).status == 426
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": "https://evil.example"}
    for origin in ("https://evil.example", "http://[::1"):
        headers["Origin"] = origin
        assert (await ask(s.http_server.port, "/eventstream", headers=headers)).status == 403
    assert not looking(s)


@gen_cluster(nthreads=[])
async def test_there_are_so_many_viewers_and_no_more(s: Any) -> None:
    url, most = f"ws://127.0.0.1:{s.http_server.port}/eventstream", s.http_server.limits.sockets
    async with aiohttp.ClientSession() as session:
        sockets = [await session.ws_connect(url) for _ in range(most)]
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await session.ws_connect(url)
        await async_poll_for(lambda: len(looking(s)) == most, timeout=10)
        await sockets.pop().close()
        await async_poll_for(lambda: len(looking(s)) == most - 1, timeout=10)
        sockets.append(await session.ws_connect(url))
        for each in sockets:
            await each.close()
