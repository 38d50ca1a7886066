"""Two rounds of the soak, and that it can tell when something is left over; `make soak` runs for 20 minutes."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.integration.census import census
from tests.integration.soak import Soak, growth, table

pytestmark = [
    pytest.mark.filterwarnings("ignore:the package 'distributed'"),
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP") or sys.platform != "linux", reason="needs signals and /proc"),
]


@pytest.mark.timeout(180)
def test_nothing_is_left_of_two_rounds(tmp_path: Path) -> None:
    with Soak(3, tmp_path) as soak:
        soak.round(leave_out=("clusters",))
        before, _ = soak.settled(None, memory=False)
        soak.round(leave_out=("clusters", "stopped_clients"))
        after, grown = soak.settled(before, memory=False)
        assert not grown, table(before, after)


def test_what_grows_is_told() -> None:
    then = {"client": {"rss": 100_000_000, "fds": 10, "threads": 3, "records": {"a": 5, "b": 1000}}}
    now = {"client": {"rss": 110_000_000, "fds": 12, "threads": 3, "records": {"a": 6, "b": 1050, "c": 3}}}
    assert growth(then, now) == []
    now["client"] |= {"rss": 300_000_000, "fds": 40, "records": {"b": 2000, "c": 30}}
    assert growth(then, now) == [
        "client rss: 100000000 -> 300000000",
        "client fds: 10 -> 40",
        "client b: 1000 -> 2000",
        "client c: 0 -> 30",
    ]
    assert growth(then, now, memory=False)[0].startswith("client fds")


def test_a_census_finds_records_wherever_they_are() -> None:
    from headrace.rpc.pool import ConnectionPool

    before = census()["records"]
    pools = [ConnectionPool() for _ in range(5)]
    for pool in pools:
        pool._available.update({str(number): [] for number in range(4)})
    after = census()["records"]
    name = "headrace.rpc.pool.ConnectionPool"
    assert after[f"objects of {name}"] - before.get(f"objects of {name}", 0) == 5
    assert after[f"{name}._available"] - before.get(f"{name}._available", 0) == 20
