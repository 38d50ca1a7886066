"""Settings that are read in one place only: setting each changes what it is about."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import Any

import dask.config
import pytest

from headrace import Client, Scheduler
from headrace.client.link.latest_info import LatestInfo
from headrace.client.link.security_loader import loaded_security
from headrace.exceptions import CommClosedError
from headrace.protocol.compression import Compressor
from headrace.rpc import ConnectionPool, PatientCalls, RequestServer, new_event_loop
from headrace.rpc.loops.ticks import TickOptions, Ticks
from headrace.scheduler.server import state_options
from headrace.scheduler.state.placing.placement import is_root_like
from headrace.testing.helpers.polling import async_poll_for
from tests.scheduler.state.drive import Cluster


def test_the_schedulers_state() -> None:
    chosen = {
        "distributed.scheduler.rootish-taskgroup": 2,
        "distributed.scheduler.rootish-taskgroup-dependencies": 30,
        "distributed.scheduler.default-data-size": "1MB",
        "distributed.diagnostics.erred-tasks.max-history": 3,
    }
    with dask.config.set(chosen):
        options = state_options(None, None)
    assert (options.rootish_groups, options.rootish_tasks) == (2, 30)
    assert (options.default_nbytes, options.erred_kept) == (1_000_000, 3)
    standard = state_options(None, None)
    assert (standard.rootish_groups, standard.rootish_tasks) == (5, 5)
    assert (standard.default_nbytes, standard.erred_kept) == (1024, 100)


def test_what_is_root_like_is_a_setting() -> None:
    graph: dict[str, list[str]] = {
        **{f"leaf-{n}": [] for n in range(20)},
        **{f"top-{n}": [f"leaf-{n}"] for n in range(20)},
    }
    for options, expected in (
        ({}, False),
        ({"rootish_tasks": 30.0}, True),
        ({"rootish_tasks": 30.0, "rootish_groups": 1.0}, False),
    ):
        cluster = Cluster(workers=2, **options)
        cluster.submit(cluster.add_client(), graph)
        assert is_root_like(cluster.state, cluster.state.tasks["top-3"]) is expected


def test_the_assumed_size_and_the_failures_kept() -> None:
    cluster = Cluster(workers=1, default_nbytes=77, erred_kept=2)
    cluster.submit(cluster.add_client(), {"x": []})
    assert cluster.state.tasks["x"].get_nbytes() == 77
    assert cluster.state.erred_tasks.maxlen == 2


async def test_the_address_that_a_scheduler_tells() -> None:
    with dask.config.set({"distributed.scheduler.contact-address": "tcp://127.0.0.9:1234"}):
        async with Scheduler(host="127.0.0.1") as scheduler:
            assert scheduler.address == "tcp://127.0.0.9:1234"


async def test_events_of_those_who_left_are_forgotten() -> None:
    with dask.config.set({"distributed.scheduler.events-cleanup-delay": "10ms"}):
        async with Scheduler(host="127.0.0.1") as scheduler:
            async with Client(scheduler.address, asynchronous=True) as client:
                await client.log_event("mine", "hello")
                assert client.id in scheduler.events
            await async_poll_for(lambda: client.id not in scheduler.events)
            assert "mine" in scheduler.events
    async with Scheduler(host="127.0.0.1") as scheduler:
        async with Client(scheduler.address, asynchronous=True) as client:
            pass
        assert client.id in scheduler.events


async def test_calls_are_tried_again() -> None:
    calls = 0

    async def get_data(comm: Any = None) -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            comm.abort()
        return "here"

    server = RequestServer({"get_data": get_data})
    await server.listen("tcp://127.0.0.1:0")
    chosen = {"distributed.comm.retry.count": 2, "distributed.comm.retry.delay.min": "1ms"}
    try:
        async with ConnectionPool() as pool:
            with pytest.raises(CommClosedError):
                await PatientCalls(pool).call(server.address, "get_data")
            calls = 0
            with dask.config.set(chosen):
                patient = PatientCalls(pool)
            assert await patient.call(server.address, "get_data") == "here"
            assert calls == 3
    finally:
        await server.close_comms()


def test_the_level_of_zstd() -> None:
    data = [b"".join(b"%d" % (n * n) for n in range(100_000))]
    sizes = []
    for level in (1, 19):
        with dask.config.set({"distributed.comm.zstd.level": level, "distributed.comm.zstd.threads": 2}):
            compressor = Compressor("zstd")
        frames, flags = compressor.compress_frames(list(data))
        assert flags
        assert compressor.decompress(frames[0], 10**9) == data[0]
        sizes.append(len(frames[0]))
    assert sizes[0] != sizes[1]


async def test_how_often_the_scheduler_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def ask(session: Any, n_workers: int) -> Any:
        asked.set()
        return {"workers": {}}

    class Session:
        def check_open(self) -> None:
            """It is."""

    monkeypatch.setattr("headrace.client.link.latest_info.ask", ask)
    for interval, soon in (("1h", False), ("1ms", True)):
        with dask.config.set({"distributed.client.scheduler-info-interval": interval}):
            latest = LatestInfo(Session())  # type: ignore[arg-type]
        await latest.refresh()
        asked.clear()
        latest.look(-1)
        if soon:
            await asyncio.wait_for(asked.wait(), 10)
        else:
            for _ in range(5):
                await asyncio.sleep(0)
            assert not asked.is_set()
        await latest.close()


async def test_credentials_from_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    try:
        with dask.config.set({"distributed.client.security-loader": "credentials.load"}):
            async with Scheduler(host="127.0.0.1") as scheduler:
                async with Client(scheduler.address, asynchronous=True) as client:
                    assert client.security is not None
                asked = sys.modules["credentials"].ASKED
                assert asked == [{"address": scheduler.address}]
        wrong = dask.config.set({"distributed.client.security-loader": "credentials.load_nothing"})
        with wrong, pytest.raises(TypeError, match="returned str"):
            loaded_security("tcp://127.0.0.1:1")
        wrong = dask.config.set({"distributed.client.security-loader": "credentials.missing"})
        with wrong, pytest.raises(ImportError, match=r"credentials\.missing"):
            loaded_security("tcp://127.0.0.1:1")
    finally:
        sys.modules.pop("credentials", None)
    assert loaded_security("tcp://127.0.0.1:1") is None


def test_the_kind_of_event_loop() -> None:
    for kind, module in (("uvloop", "uvloop"), ("asyncio", "asyncio"), ("tornado", "asyncio")):
        with dask.config.set({"distributed.admin.event-loop": kind}):
            loop = new_event_loop()
        assert type(loop).__module__.partition(".")[0] == module
        loop.close()
    with dask.config.set({"distributed.admin.event-loop": "trio"}), pytest.raises(ValueError, match="'trio'"):
        new_event_loop()


async def test_a_loop_that_did_not_respond(caplog: pytest.LogCaptureFixture) -> None:
    with dask.config.set({"distributed.admin.tick.limit": "50ms", "distributed.admin.tick.interval": "1ms"}):
        ticks = Ticks("Worker")
    assert ticks.options.interval < 0.01
    ticks.start()
    try:
        with caplog.at_level(logging.WARNING, "distributed.core"):
            time.sleep(0.2)
            await async_poll_for(lambda: "Event loop was unresponsive in Worker" in caplog.text, period=0.01)
    finally:
        ticks.stop()
    with dask.config.set({"distributed.admin.tick.limit": None}):
        assert TickOptions.from_config().limit == 0


async def test_readings_kept(tmp_path: Path) -> None:
    from headrace import Worker

    with dask.config.set({"distributed.admin.system-monitor.log-length": 2}):
        async with (
            Scheduler(host="127.0.0.1") as scheduler,
            Worker(scheduler.address, local_directory=str(tmp_path)) as worker,
        ):
            for _ in range(3):
                worker.measured.read()
            assert len(worker.get_monitor_info()["range_query"]["cpu"]) == 2


async def test_how_often_a_widget_looks() -> None:
    pytest.importorskip("ipywidgets")
    from headrace.deploy.cluster import Cluster as RemoteCluster

    with dask.config.set({"distributed.deploy.cluster-repr-interval": "30s"}):
        async with RemoteCluster(asynchronous=True) as cluster:
            cluster._widget()
            assert cluster._shown is not None
            assert cluster._shown._callback.callback_time == 30_000
