"""One cluster of processes for the tests of a file, and a client of it for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headrace import Client
from headrace.testing.clusters import cluster


@pytest.fixture(scope="module")
def servers() -> Iterator[Any]:
    with cluster(nworkers=2) as (scheduler, workers):
        yield scheduler, workers


@pytest.fixture
def client(servers: Any) -> Iterator[Client]:
    with Client(servers[0]["address"]) as connected:
        yield connected
