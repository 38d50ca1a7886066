"""A worker's process is tuned however it was started; the user's collects more rarely while a scheduler is in it."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from headrace import Client, LocalCluster, config
from headrace.deploy.collecting import ALLOCATIONS, collect_less
from headrace.nanny.environment import process_environment
from headrace.nanny.tuning import GC_THRESHOLDS, MALLOPT_NUMBERS, SWITCH_INTERVAL

MEASURE = """
import gc, sys
from headrace.nanny.tuning import tune_allocator, tune_interpreter
tune_allocator()
tune_interpreter()
print(sys.getswitchinterval(), *gc.get_threshold(), gc.get_freeze_count() > 0)
"""


def test_worker_processes_are_tuned_and_this_one_only_collects_more_rarely_until_the_end() -> None:
    here = (sys.getswitchinterval(), gc.get_threshold())
    assert here[1][0] < ALLOCATIONS

    def look() -> tuple[float, tuple[int, ...]]:
        import gc
        import sys

        return sys.getswitchinterval(), gc.get_threshold()

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        interval, thresholds = client.submit(look).result()
        assert (sys.getswitchinterval(), gc.get_threshold()) == (here[0], (ALLOCATIONS, *here[1][1:]))
    assert (interval, tuple(thresholds)) == (SWITCH_INTERVAL, GC_THRESHOLDS)
    assert (sys.getswitchinterval(), gc.get_threshold()) == here


@pytest.mark.parametrize("own", [(0, 10, 10), (ALLOCATIONS * 2, 5, 5)])
def test_a_program_that_collects_more_rarely_keeps_its_thresholds(own: tuple[int, int, int]) -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(*own)
        restore = collect_less()
        assert gc.get_threshold() == own
        restore()
        assert gc.get_threshold() == own
    finally:
        gc.set_threshold(*before)


def test_the_last_cluster_restores_the_threshold_unless_the_program_changed_it() -> None:
    before = gc.get_threshold()
    try:
        first, second = collect_less(), collect_less()
        first()
        assert gc.get_threshold()[0] == ALLOCATIONS
        second()
        assert gc.get_threshold() == before
        third = collect_less()
        gc.set_threshold(900, 9, 9)
        third()
        assert gc.get_threshold() == (900, 9, 9)
    finally:
        gc.set_threshold(*before)


def test_thresholds_of_malloc_reach_processes_by_their_environment() -> None:
    given = config.get("distributed.nanny.pre-spawn-environ")
    environment = process_environment()
    for name in MALLOPT_NUMBERS:
        assert environment[name] == str(given[name])


def test_a_process_can_tune_itself() -> None:
    output = subprocess.check_output([sys.executable, "-c", MEASURE], text=True, timeout=60).split()
    assert output == [str(SWITCH_INTERVAL), *map(str, GC_THRESHOLDS), "True"]
