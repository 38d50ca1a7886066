"""Requests are counted and timed by their operations, those that fail as well."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.comm import connect
from headrace.exceptions import UnknownOperationError
from headrace.rpc import RequestServer, send_recv


async def fail(**_: Any) -> None:
    raise ValueError("on purpose")


async def test_by_operation() -> None:
    server = RequestServer({"echo": lambda data: data, "fail": fail})
    await server.listen("inproc://")
    comm = await connect(server.address)
    try:
        assert await send_recv(comm, op="echo", data=1) == 1
        with pytest.raises(ValueError, match="on purpose"):
            await send_recv(comm, op="fail")
        with pytest.raises(UnknownOperationError):
            await send_recv(comm, op="unknown")  # names that anybody may make up are not counted
    finally:
        await comm.close()
        await server.close_comms()
    assert server.times.counts == {"echo": 1, "fail": 1}
    assert all(seconds > 0 for seconds in server.times.seconds.values())
