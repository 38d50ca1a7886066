"""Extensions register their operations with the scheduler: twice by mistake, in place of one of ours, or repeatable."""

from __future__ import annotations

import pytest

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.multi_lock import MultiLockExtension
from distributed.queues import QueueExtension
from distributed.semaphore import SemaphoreExtension
from distributed.stealing import WorkStealing
from headrace import Client, Queue, Scheduler
from headrace.scheduler.shell import shell_of
from headrace.testing.clusters import gen_cluster


class SmallQueues(QueueExtension):
    """Queues that look larger than they are."""

    def qsize(self, name: object = None, client: str | None = None) -> int:
        return 1000 + super().qsize(name, client)  # type: ignore[arg-type]


@gen_cluster(client=True, nthreads=[])
async def test_an_extension_that_a_user_makes_takes_the_place_of_ours(c: Client, s: Scheduler) -> None:
    s.extensions["queues"] = SmallQueues(s)

    queue = await Queue("q", client=c)
    await queue.put(1)
    assert await queue.qsize() == 1001
    assert await queue.get() == 1


async def test_ours_does_not_take_the_place_of_another() -> None:
    scheduler = Scheduler(host="127.0.0.1")
    before = dict(scheduler.server.handlers)
    with pytest.raises(ValueError, match=r"multi_locks cannot register .*'multi_lock_acquire'"):
        MultiLockExtension(shell_of(scheduler))
    assert scheduler.server.handlers == before


def test_an_extension_of_a_scheduler_without_it_keeps_what_it_says_of_its_operations() -> None:
    scheduler = Scheduler(host="127.0.0.1", extensions={"semaphores": SemaphoreExtension})
    assert "semaphore_release" in scheduler.server.repeatable
    assert "semaphore_acquire" not in scheduler.server.repeatable


def test_work_stealing_of_a_scheduler_is_the_documented_plugin() -> None:
    scheduler = Scheduler(host="127.0.0.1")
    stealing = scheduler.extensions["stealing"]
    assert isinstance(stealing, WorkStealing)
    assert isinstance(stealing, SchedulerPlugin)
    assert stealing.scheduler is scheduler
    assert not stealing.in_flight


def test_a_subclass_of_work_stealing_is_made_with_the_scheduler() -> None:
    class Reluctant(WorkStealing):
        def balance(self) -> int:
            return 0

    scheduler = Scheduler(host="127.0.0.1", extensions={"stealing": Reluctant})
    assert type(scheduler.extensions["stealing"]) is Reluctant
    scheduler.add_plugin(scheduler.extensions["stealing"], name="reluctant")
    assert scheduler.plugins["reluctant"].scheduler is scheduler
