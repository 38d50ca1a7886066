"""Each test of the contract runs over every transport, on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import dask.config
import pytest
import uvloop

from headrace.security import Security
from tests.comm.transports import Transport, lending_from, make_transport


@pytest.fixture(scope="session")
def security() -> Security:
    return Security.temporary()


@pytest.fixture(params=["tcp", "tcp-lent", "tcp-plain", "tls", "ws", "ws-lent", "ws-plain", "wss", "inproc"])
def transport(request: pytest.FixtureRequest, security: Security) -> Iterator[Transport]:
    """`tcp-lent` and `ws-lent` lend nearly every frame and read most of them in threads; `…-plain` lend none."""
    scheme, _, how = request.param.partition("-")
    with (
        dask.config.set({"distributed.comm.same-machine-memory": how != "plain"}),
        lending_from(64, at_once=1000) if how == "lent" else nullcontext(),
    ):
        yield make_transport(scheme, security)


@pytest.fixture(params=["tcp", "tls", "ws", "wss"])
def socket_transport(request: pytest.FixtureRequest, security: Security) -> Transport:
    return make_transport(request.param, security)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="distributed")
    return caplog
