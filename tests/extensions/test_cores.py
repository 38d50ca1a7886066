"""The pure cores of leases, semaphores, locks by several names and queues."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.extensions.leases.core import Leases
from headrace.extensions.multi_locks.core import MultiLocks
from headrace.extensions.queues.core import Item, QueueState
from headrace.extensions.semaphores.core import Semaphores

# Leases


def test_a_lease_lasts_as_long_as_its_holder_is_there() -> None:
    leases = Leases(timeout=30)
    leases.grant("a", "alice", None, present=True, now=0)
    assert not leases.ending
    assert leases.expired(1e9) == []
    assert leases.drop("a")
    assert not leases.drop("a")


def test_a_lease_ends_a_while_after_its_holder_is_gone() -> None:
    leases = Leases(timeout=30)
    leases.grant("a", "alice", None, present=True, now=0)
    leases.grant("b", "bob", None, present=True, now=0)
    leases.holder_gone("alice", now=100)
    leases.holder_gone("alice", now=110)  # the client is removed later: the clock runs already
    assert leases.expired(129) == []
    assert leases.expired(130) == ["a"]
    assert not leases.ending
    assert list(leases.leases) == ["b"]


def test_a_holder_that_returns_keeps_its_leases() -> None:
    leases = Leases(timeout=30)
    leases.grant("a", "alice", None, present=True, now=0)
    leases.holder_gone("alice", now=100)
    leases.holder_back("alice")
    assert leases.expired(1e9) == []
    leases.holder_gone("alice", now=200)
    assert leases.expired(230) == ["a"]


def test_what_nobody_answers_for_is_refreshed_by_hand() -> None:
    leases = Leases(timeout=30)
    leases.grant("a", None, None, present=False, now=0)
    assert leases.refresh(["a", "unknown"], now=20) == ["unknown"]
    assert leases.expired(49) == []
    assert leases.expired(50) == ["a"]


def test_who_takes_a_lease_as_its_connection_breaks_does_not_keep_it() -> None:
    leases = Leases(timeout=30)
    leases.grant("a", "alice", "tcp://worker", present=False, now=0)
    leases.grant("b", "alice", None, present=False, now=0)
    assert leases.of_workers() == ["a"]
    assert leases.expired(30) == ["a", "b"]


def test_leases_may_be_for_ever() -> None:
    leases = Leases(float("inf"))
    leases.grant("a", None, None, present=False, now=0)
    assert leases.expired(1e18) == []


# Semaphores


def test_leases_are_granted_in_turn() -> None:
    semaphores = Semaphores()
    semaphores.create("s", 2)
    assert semaphores.request("s", "a")
    assert semaphores.request("s", "b")
    assert not semaphores.request("s", "c")
    assert not semaphores.request("s", "d")
    assert semaphores.withdraw("s", "c") == []
    assert semaphores.withdraw("s", "a") == ["d"]
    assert semaphores.value("s") == 2
    assert semaphores.holds("s", "d")
    assert semaphores.close("s") == (["b", "d"], [])
    with pytest.raises(RuntimeError, match="not known"):
        semaphores.request("s", "e")


def test_what_is_fleeting_leaves_nothing_behind() -> None:
    semaphores = Semaphores()
    for lease in "ab":
        semaphores.create("lock", 1, fleeting=True)
        semaphores.request("lock", lease)
    assert semaphores.withdraw("lock", "a") == ["b"]
    assert semaphores.withdraw("lock", "b") == []
    assert not semaphores.by_name


def test_a_semaphore_has_one_size() -> None:
    semaphores = Semaphores()
    semaphores.create("s", 2)
    semaphores.create("s", 2)
    with pytest.raises(ValueError, match="Inconsistent max leases: 3, expected: 2"):
        semaphores.create("s", 3)
    with pytest.raises(ValueError, match="at least one"):
        semaphores.create("t", 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["request", "withdraw"]), st.integers(0, 9)), max_size=60))
def test_semaphores_are_never_overbooked_and_never_idle(steps: list[tuple[str, int]]) -> None:
    semaphores = Semaphores()
    semaphores.create("s", 3)
    semaphore = semaphores.by_name["s"]
    order: list[str] = []  # who is inside or waits, oldest first
    for step, number in steps:
        lease = str(number)
        if step == "request" and lease not in order:
            order.append(lease)
            semaphores.request("s", lease)
        elif step == "withdraw":
            order = [other for other in order if other != lease]
            semaphores.withdraw("s", lease)
        assert set(semaphore.leases) == set(order[:3])
        assert list(semaphore.line) == order[3:]


# Locks by several names


def test_all_names_are_had_at_once_or_none() -> None:
    locks = MultiLocks()
    assert locks.request("a", ["x", "y"])
    assert not locks.request("b", ["y", "z"])
    assert not locks.request("c", ["z"])  # b is before it
    assert locks.withdraw("a") == ["b"]
    assert locks.withdraw("b") == ["c"]
    assert locks.withdraw("c") == []
    assert not locks.lines
    assert not locks.requests


def test_some_of_the_names_may_be_enough() -> None:
    locks = MultiLocks()
    assert locks.request("a", ["x"])
    assert locks.request("b", ["x", "y", "z"], needed=2)
    assert list(locks.lines) == ["x", "y", "z"]
    assert locks.request("c", ["x", "w"], needed=1)
    assert not locks.request("d", ["x", "y"], needed=1)
    assert locks.withdraw("b") == ["d"]
    assert locks.holds("d")
    assert locks.withdraw("a") == []


def test_who_gives_up_lets_others_forward() -> None:
    locks = MultiLocks()
    assert locks.request("a", ["x"])
    assert not locks.request("b", ["x", "y"])
    assert not locks.request("c", ["y"])
    assert locks.withdraw("b") == ["c"]


def test_bad_requests_are_refused() -> None:
    locks = MultiLocks()
    with pytest.raises(ValueError, match="3 of 1"):
        locks.request("a", ["x", "x"], needed=3)
    assert locks.request("a", [])
    with pytest.raises(ValueError, match="already"):
        locks.request("a", ["x"])


names = st.lists(st.sampled_from("vwxyz"), min_size=1, max_size=4, unique=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), names, st.integers(1, 4)), max_size=60))
def test_names_have_one_holder_and_all_are_served(steps: list[tuple[int, list[str], int]]) -> None:
    locks = MultiLocks()
    for number, wanted, needed in steps:
        identifier = str(number)
        if identifier in locks.requests:
            locks.withdraw(identifier)
        else:
            locks.request(identifier, wanted, min(needed, len(wanted)))
        check(locks)
    while locks.requests:  # whoever holds something releases it: nobody waits for ever
        holding = [identifier for identifier, request in locks.requests.items() if request.granted]
        assert holding
        locks.withdraw(holding[0])
        check(locks)
    assert not locks.lines


def check(locks: MultiLocks) -> None:
    for identifier, request in locks.requests.items():
        first_in = [name for name in request.names if next(iter(locks.lines[name])) == identifier]
        if request.granted:
            assert first_in == request.names
            assert len(first_in) == request.needed
        else:
            assert len(first_in) < request.needed


# Queues


def items(*values: Any) -> list[Item]:
    return [Item(value) for value in values]


def put(queue: QueueState, *values: Any) -> None:
    for value in values:
        queue.put(object(), Item(value))


def got(taken: Iterable[Item] | None) -> list[Any] | None:
    return None if taken is None else [item.payload for item in taken]


def test_first_in_first_out() -> None:
    queue = QueueState()
    put(queue, 1, 2, 3)
    assert got(queue.get("a")) == [1]
    assert got(queue.get("b", 2)) == [2, 3]
    assert queue.get("c") is None
    assert queue.get("d") is None
    put(queue, 4)
    assert list(queue.served) == [("c", items(4))]
    assert list(queue.getters) == ["d"]


def test_a_full_queue_takes_more_when_something_is_taken() -> None:
    queue = QueueState(maxsize=2)
    assert queue.put("a", Item(1))
    assert queue.put("b", Item(2))
    assert not queue.put("c", Item(3))
    assert not queue.put("d", Item(4))
    assert got(queue.get("e")) == [1]
    assert list(queue.served) == [("c", None)]
    assert got(queue.get_all()) == [2, 3]
    assert list(queue.served) == [("c", None), ("d", None)]
    assert got(queue.items) == [4]


def test_a_batch_is_larger_than_the_queue_and_comes_in_parts() -> None:
    queue = QueueState(maxsize=1)
    assert queue.get("a", 3) is None
    assert queue.get("b") is None  # not before the first
    for value in (1, 2, 3, 4):
        assert queue.put(f"put {value}", Item(value))
    assert list(queue.served) == [("a", items(1, 2, 3)), ("b", items(4))]


def test_what_somebody_has_who_gives_up_is_the_first_again() -> None:
    queue = QueueState()
    put(queue, 1, 2)
    assert queue.get("a", 3) is None
    assert queue.get("b") is None
    queue.withdraw("a")
    assert list(queue.served) == [("b", items(1))]
    queue.give_back(items(1))
    assert got(queue.items) == [1, 2]


def test_a_putter_that_gives_up_has_put_nothing() -> None:
    queue = QueueState(maxsize=1)
    queue.put("a", Item(1))
    queue.put("b", Item(2))
    assert queue.withdraw("b") == Item(2)
    assert queue.withdraw("a") is None
    assert got(queue.get_all()) == [1]


def test_values_whose_tasks_are_forgotten_leave() -> None:
    queue = QueueState(maxsize=2)
    queue.put("a", Item(1, ("x",), "keeper"))
    queue.put("b", Item(2))
    queue.put("c", Item(3))
    assert queue.remove_kept() == [Item(1, ("x",), "keeper")]
    assert got(queue.items) == [2, 3]


def test_leases_that_were_granted_and_given_up_are_counted() -> None:
    semaphores = Semaphores()
    semaphores.create("s", 1)
    state = semaphores.by_name["s"]
    assert semaphores.request("s", "a")
    assert not semaphores.request("s", "b")
    assert not semaphores.request("s", "c")
    semaphores.withdraw("s", "c")  # it has not had one
    assert (state.acquired, state.released) == (1, 0)
    semaphores.withdraw("s", "a")
    assert (state.acquired, state.released) == (2, 1)
    semaphores.withdraw("s", "a")  # for the second time
    semaphores.withdraw("s", "b")
    assert (state.acquired, state.released) == (2, 2)


def test_how_long_requests_usually_wait() -> None:
    semaphores = Semaphores()
    semaphores.create("s", 1)
    semaphores.note_wait("s", 2.0)
    semaphores.note_wait("s", 0.0)
    assert semaphores.by_name["s"].usual_wait == 0.5
    semaphores.note_wait("gone", 1.0)
