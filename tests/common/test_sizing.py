"""How a machine is split among workers."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from headrace.common import callables, sizing
from headrace.common.sizing import split_cpus, workers_and_threads


class Index:
    """An integer as numpy's are: no `int`."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


@pytest.mark.parametrize("module", [sizing, callables])
def test_examples(module: object) -> None:
    assert not doctest.testmod(module).failed  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpus", "split"),
    [(1, (1, 1)), (4, (4, 1)), (5, (5, 1)), (6, (3, 2)), (12, (4, 3)), (16, (4, 4)), (24, (6, 4)), (128, (16, 8))],
)
def test_cpus_are_split_near_the_square_root(cpus: int, split: tuple[int, int]) -> None:
    assert split_cpus(cpus) == split


@pytest.mark.parametrize("cpus", range(1, 130))
def test_a_split_uses_all_cpus(cpus: int) -> None:
    processes, threads = split_cpus(cpus)
    assert processes * threads == cpus


@pytest.mark.parametrize(
    ("n_workers", "threads", "processes", "cpus", "expected"),
    [
        (None, None, True, 8, (4, 2)),
        (None, None, False, 7, (1, 7)),
        (3, None, True, 8, (3, 3)),
        (2, None, True, 7, (2, 4)),
        (4 / 2, 2.0, True, 7, (2, 2)),
        (Index(2), 1, True, 7, (2, 1)),
        (40, None, True, 7, (40, 1)),
        (None, 3, True, 8, (2, 3)),
        (None, 3, True, 2, (1, 3)),
        (2, 5, True, 2, (2, 5)),
        (None, 1, False, 8, (1, 1)),
        (2, 0, False, 8, (2, 8)),
        (0, None, True, 4, (0, 4)),
    ],
)
def test_what_is_left_open_is_completed(
    n_workers: int | None, threads: int | None, processes: bool, cpus: int, expected: tuple[int, int]
) -> None:
    assert workers_and_threads(n_workers, threads, processes, cpus) == expected


@pytest.mark.parametrize(("n_workers", "threads"), [(-1, None), (None, -1)])
def test_nonsense_is_refused(n_workers: int | None, threads: int | None) -> None:
    with pytest.raises(ValueError, match="must"):
        workers_and_threads(n_workers, threads, True, 4)


@pytest.mark.parametrize(
    ("n_workers", "threads", "text"),
    [
        ("2", None, "n_workers must be an integer, not '2'"),
        (2.5, 1, r"n_workers must be an integer, not 2\.5"),
        (1, "2", "threads_per_worker must be an integer, not '2'"),
    ],
)
def test_what_is_no_integer_is_named(n_workers: Any, threads: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        workers_and_threads(n_workers, threads, True, 4)


def test_integers_of_numpy_are_integers() -> None:
    found = workers_and_threads(Index(2), Index(3), True, 4)  # type: ignore[arg-type]
    assert found == (2, 3)
    assert list(map(type, found)) == [int, int]
