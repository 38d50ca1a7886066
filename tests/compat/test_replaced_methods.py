"""Methods of the public classes that users replace, and star imports of the public modules."""

from __future__ import annotations

from collections.abc import Collection
from functools import wraps
from typing import Any
from unittest import mock

import pytest

from headrace import Client, Scheduler, Worker
from headrace.testing.clusters import gen_cluster


class Decorated(Scheduler):
    """A subclass whose method wears the name and attributes of the one that it overrides."""

    asked = 0

    @wraps(Scheduler.get_ncores)
    def get_ncores(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        return super().get_ncores(*args, **kwargs)


async def test_a_decorated_override_is_called() -> None:
    async with Decorated(port=0, dashboard=False) as scheduler:
        async with Client(scheduler.address, asynchronous=True) as client:
            assert await client.ncores() == {}
        assert scheduler.asked == 1


async def test_a_patched_method_of_the_class_is_called() -> None:
    def patched(self: Scheduler, *args: Any, **kwargs: Any) -> dict[str, int]:
        return {"patched": 1}

    with mock.patch.object(Scheduler, "get_ncores", patched):
        async with Scheduler(port=0) as scheduler, Client(scheduler.address, asynchronous=True) as client:
            assert await client.ncores() == {"patched": 1}


async def test_a_method_that_is_replaced_on_a_scheduler_is_called_from_within() -> None:
    async with Scheduler(port=0) as scheduler:
        own = scheduler.log_event
        with mock.patch.object(scheduler, "log_event", wraps=own) as seen:
            async with Client(scheduler.address, asynchronous=True) as client:
                assert client.id in str(seen.call_args_list)
        calls = seen.call_count
        async with Client(scheduler.address, asynchronous=True):
            assert seen.call_count == calls


class Telling(Worker):
    """A worker whose story is told by a method of the user's."""

    def story(self, *keys: object) -> Any:
        return [("told", *keys)]


async def test_an_overridden_story_of_a_worker_is_the_one_that_clients_hear() -> None:
    async with (
        Scheduler(port=0) as scheduler,
        Telling(scheduler.address),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        assert "told" in str(await client.story("x"))


@pytest.mark.parametrize(
    ("module", "name"),
    [("scheduler", "TaskState"), ("scheduler", "Scheduler"), ("profile", "watch"), ("preloading", "process_preloads")],
)
def test_a_star_import_has_the_names_of_the_module_behind(module: str, name: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from distributed.{module} import *", names)
    assert name in names


class Fetching(Worker):
    """Overrides `gather_dep` with its documented parameters, of which none has a default."""

    async def gather_dep(  # type: ignore[override]
        self, worker: str, to_gather: Collection[Any], total_nbytes: int, *, stimulus_id: str
    ) -> None:
        self.fetched = (worker, list(to_gather), stimulus_id)
        await super().gather_dep(worker, to_gather, total_nbytes, stimulus_id=stimulus_id)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_gather_dep_is_told_its_stimulus(c: Client, s: Scheduler, a: Worker) -> None:
    async with Fetching(s.address) as worker:
        x = c.submit(abs, -1, key="x", workers=[a.address])
        assert await c.submit(abs, x, workers=[worker.address]) == 1
        assert worker.fetched[:2] == (a.address, ["x"])
        assert worker.fetched[2]
