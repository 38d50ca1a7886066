"""A scheduler with a token, and its worker, that strangers of the same machine try to reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.doors.houses import Process, scheduler, with_token, worker


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("house")
    with scheduler(folder, "--host", "127.0.0.1", **with_token()) as process, worker(folder, process.address):
        yield process
