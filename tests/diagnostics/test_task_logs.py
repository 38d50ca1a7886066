"""What tasks print and log can be asked for by key; what nobody prints costs nothing, and memory is bounded."""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from typing import Any

import dask.config

import headrace
from headrace import Client, wait
from headrace.testing.clusters import gen_cluster
from headrace.worker.execution.task_logs import TaskLogs


def chatter(x: Any) -> Any:
    print("hello", x)
    print("no end", end="")
    print(" of line")
    sys.stderr.write("to stderr\n")
    headrace.print("for all", x)
    logging.getLogger("mine").warning("careful with %s", x)
    try:
        raise KeyError(x)
    except KeyError:
        logging.getLogger("mine").exception("it went wrong")
    print("the last line", end="")
    return x


async def chatter_on_the_loop(x: Any) -> Any:
    print("before", x)
    await asyncio.sleep(0)
    print("after", x)
    return x


def silent(x: Any) -> Any:
    logging.getLogger("mine").debug("not shown, and not kept")
    return x


def boom(x: Any) -> None:
    print("about to fail")
    raise ValueError(x)


def texts(lines: list[Any]) -> list[tuple[str, str, str]]:
    return [(line.source, line.level, line.text.split("\n")[0]) for line in lines]


EXPECTED = [
    ("stdout", "", "hello 1"),
    ("stdout", "", "no end of line"),
    ("stderr", "", "to stderr"),
    ("stdout", "", "for all 1"),
    ("mine", "WARNING", "careful with 1"),
    ("mine", "ERROR", "it went wrong"),
    ("stdout", "", "the last line"),
]


def test_of_a_task_in_a_process(client: Client, capfd: Any) -> None:
    future = client.submit(chatter, 1)
    future.result()
    lines = future.logs()
    assert texts(lines) == EXPECTED
    assert "KeyError: 1" in lines[5].text
    assert str(lines[4]) == "WARNING mine: careful with 1"
    assert all(line.worker in client.scheduler_info()["workers"] for line in lines)
    assert [line.time for line in lines] == sorted(line.time for line in lines)


def test_of_several_tasks(client: Client, capfd: Any) -> None:
    failed, quiet, loop = client.submit(boom, 2), client.submit(silent, 3), client.submit(chatter_on_the_loop, 4)
    wait([failed, quiet, loop])
    found = client.get_task_logs([failed, quiet.key, loop])
    assert [line.text for line in found[failed.key]] == ["about to fail"]
    assert found[quiet.key] == []
    assert [line.text for line in found[loop.key]] == ["before 4", "after 4"]
    assert client.get_task_logs("never heard of") == {"never heard of": []}
    named = client.submit(boom, 5, key=("x", 1))
    wait(named)
    assert [line.text for line in client.get_task_logs(("x", 1))["x", 1]] == ["about to fail"]


@gen_cluster(client=True)
async def test_in_this_process_all_is_put_back(c: Client, s: Any, a: Any, b: Any) -> None:
    future = c.submit(chatter, 1)
    await future
    assert texts(await future.logs()) == EXPECTED
    print("not of a task")
    logging.getLogger("mine").warning("nor this")
    assert texts(await future.logs()) == EXPECTED
    replaced = sys.stdout
    await a.close()
    assert sys.stdout is replaced, "the other worker still listens"
    await b.close()
    assert sys.stdout is not replaced
    assert logging.getLogRecordFactory() is logging.LogRecord


@gen_cluster(client=True, config={"distributed.worker.task-logs.enabled": False})
async def test_switched_off(c: Client, s: Any, a: Any, b: Any) -> None:
    assert not type(sys.stdout).__module__.startswith("headrace")
    future = c.submit(chatter, 1)
    await future
    assert await future.logs() == []


@gen_cluster(client=True)
async def test_lines_of_a_task_that_ran_twice_come_in_order(c: Client, s: Any, a: Any, b: Any) -> None:
    future = c.submit(boom, 6, retries=2)
    await wait(future)
    assert [line.text for line in await future.logs()] == ["about to fail"] * 3


class TestBounds:
    """What is kept."""

    def test_the_first_lines_and_the_latest(self) -> None:
        logs = TaskLogs(task_bytes=2000, total_bytes=100_000)
        for number in range(1000):
            logs.add("k", "stdout", "", f"line {number}\n")
        found = [text for _, _, _, text in logs.get(["k"])["k"]]
        assert found[0] == "line 0"
        assert found[-1] == "line 999"
        assert any("were dropped" in text for text in found)
        assert len(found) < 25

    def test_tasks_that_have_not_written_for_longest_go_first(self) -> None:
        logs = TaskLogs(task_bytes=1000, total_bytes=3000)
        for number in range(100):
            logs.add(f"k{number}", "stdout", "", "x" * 100 + "\n")
            logs.add("k0", "stdout", "", "again\n")
        kept = logs.get([f"k{number}" for number in range(100)])
        assert "k0" in kept
        assert "k99" in kept
        assert len(kept) < 16

    def test_a_line_without_end(self) -> None:
        logs = TaskLogs(task_bytes=1000, total_bytes=3000)
        for _ in range(1000):
            logs.add("k", "stdout", "", "x" * 100)
        ((_, _, _, text),) = logs.get(["k"])["k"]
        assert len(text) <= 1000

    def test_from_the_configuration(self) -> None:
        with dask.config.set({"distributed.worker.task-logs.enabled": False}):
            assert TaskLogs.from_config() is None
        assert TaskLogs.from_config() is not None


def test_prints_and_warnings_reach_the_client(client: Client, capsys: Any) -> None:
    def speak() -> None:
        headrace.print("to", "everybody", sep="-")
        headrace.warn("a warning from a task", RuntimeWarning)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.submit(speak).result()
        client.run_on_scheduler(int)  # events come before this answer or soon after
        from headrace.testing.helpers.polling import poll_for

        poll_for(lambda: any("a warning from a task" in str(each.message) for each in caught))
    assert "to-everybody\n" in capsys.readouterr().out
    assert {each.category for each in caught if "from a task" in str(each.message)} == {RuntimeWarning}


def test_tasks_that_end_no_line_take_bounded_room_too() -> None:
    logs = TaskLogs(task_bytes=1000, total_bytes=100_000)
    for number in range(1000):
        logs.add(f"x-{number}", "stdout", "", "…" * 500)
    assert len(logs.get([f"x-{number}" for number in range(1000)])) < 200
    for _ in range(1000):
        logs.add("one", "stdout", "", "." * 100)
    assert sum(len(text) for _, _, _, text in logs.get(["one"])["one"]) <= 1000
