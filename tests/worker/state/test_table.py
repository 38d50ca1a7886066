"""The table of moves is total, and each short way ends with the records of the long one."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from headrace.messages.worker import ComputeTask, DefineFunction, FreeKeys, ToWorker
from headrace.worker.state import InvalidTransition, WorkerCore, events
from headrace.worker.state.core import RECEIVED
from headrace.worker.state.mover import transition
from headrace.worker.state.scheduler_messages import MESSAGES
from headrace.worker.state.shell_events import EVENTS
from headrace.worker.state.tasks import StateName, TaskState
from headrace.worker.state.transition_table import SHORT_WAYS, TABLE
from tests.worker.state.test_random_events import Shell

STATES = set(get_args(StateName))


def moves_of(core: WorkerCore) -> set[tuple[str, str]]:
    return {(start, asked) for _, start, asked, *_ in core.log if start in STATES}


def run(seed: int, short_ways: bool = True, watched: bool = False) -> Shell:
    shell = Shell(seed)
    shell.state.short_ways = short_ways
    shell.state.watched = watched
    for _ in range(200):
        shell.step()
    shell.finish_everything()
    shell.send(FreeKeys(["k0", "k1", "k2"]))
    return shell


def test_rows_are_of_states() -> None:
    assert {state for pair in TABLE for state in pair} == STATES
    assert set(SHORT_WAYS) <= set(TABLE)
    assert not [pair for pair in TABLE if pair[0] == "forgotten"]


def test_random_events_use_every_row_and_no_other_pair() -> None:
    used: set[tuple[str, str]] = set()
    for seed in range(600):  # some moves need three things at the same time: about 60 seeds find them
        used |= moves_of(run(seed).state)
        if used == set(TABLE):
            break
    assert used == set(TABLE)


@pytest.mark.parametrize("start", sorted(STATES))
def test_an_absent_pair_raises_with_the_story(start: StateName) -> None:
    core = WorkerCore(address="tcp://127.0.0.1:9")
    core.log.append(("x", "released", "waiting", "waiting", FreeKeys, 1.0))
    for finish in get_args(StateName):
        if (start, finish) in TABLE or start == finish:
            continue
        task = core.tasks["x"] = TaskState("x")
        task.state = start
        with pytest.raises(InvalidTransition, match=f"cannot go from {start} to {finish}; its story") as caught:
            transition(core, task, finish)
        assert caught.value.story == [("x", "released", "waiting", "waiting", FreeKeys, 1.0)]
        assert (task.state, core.transition_counter, len(core.log)) == (start, 0, 1)


def test_a_core_takes_what_it_may_be_told_and_nothing_else() -> None:
    assert set(MESSAGES) == set(get_args(ToWorker))
    assert set(EVENTS) == set(get_args(events.FromShell)) == set(events.ShellEvent.__subclasses__())
    assert set(RECEIVED) == set(MESSAGES) | set(EVENTS)


# Short ways


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_no_short_way_is_taken_when_they_are_off(seed: int, watched: bool) -> None:
    shell = run(seed, short_ways=False, watched=watched)
    assert not moves_of(shell.state) & set(SHORT_WAYS)
    assert {task.state for task in shell.state.tasks.values()} <= {"memory", "error"}


def test_both_ways_end_with_the_same_records() -> None:
    ends = [_one_life_of_two_tasks(short_ways) for short_ways in (True, False)]
    assert ends[0] == ends[1]


def _one_life_of_two_tasks(short_ways: bool) -> list[Any]:
    core = WorkerCore(address="tcp://127.0.0.1:9", nthreads=1, validate=True)
    core.short_ways = short_ways
    core.handle(DefineFunction(1, b"f"))
    ends = []
    core.handle_batch([ComputeTask(key, 1, (0, 0, 0), 1, b"a", -1.0, True) for key in ("x", "y")])
    ends.append(_records(core))
    core.handle(events.ExecuteDone("x", 8, "int", 1.0, 2.0))
    ends.append(_records(core))
    core.handle(FreeKeys(["x"]))
    ends.append(_records(core))
    assert moves_of(core) & set(SHORT_WAYS) == (set(SHORT_WAYS) if short_ways else set())
    return ends


def _records(core: WorkerCore) -> Any:
    outbox = core.drain()
    tasks = {
        key: {name: _plain(getattr(task, name)) for name in TaskState.__slots__ if hasattr(task, name)}
        for key, task in core.tasks.items()
    }
    decisions = ([run.key for run in outbox.execute], outbox.free, outbox.messages)
    totals = (core.nbytes, core.in_memory, len(core.executing), core.backlog, core.executed_count)
    return tasks, decisions, totals


def _plain(value: Any) -> Any:
    return sorted(map(repr, value)) if isinstance(value, set | frozenset) else value
