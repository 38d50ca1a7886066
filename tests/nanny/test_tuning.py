"""A worker's process is tuned however it was started; the user's is not."""

from __future__ import annotations

import subprocess
import sys

from headrace import Client, LocalCluster, config
from headrace.nanny.environment import process_environment
from headrace.nanny.tuning import GC_THRESHOLDS, MALLOPT_NUMBERS, SWITCH_INTERVAL

MEASURE = """
import gc, sys
from headrace.nanny.tuning import tune_allocator, tune_interpreter
tune_allocator()
tune_interpreter()
print(sys.getswitchinterval(), *gc.get_threshold(), gc.get_freeze_count() > 0)
"""


def test_worker_processes_are_tuned_and_this_one_is_not() -> None:
    import gc

    here = (sys.getswitchinterval(), gc.get_threshold())

    def look() -> tuple[float, tuple[int, ...]]:
        import gc
        import sys

        return sys.getswitchinterval(), gc.get_threshold()

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        interval, thresholds = client.submit(look).result()
    assert (interval, tuple(thresholds)) == (SWITCH_INTERVAL, GC_THRESHOLDS)
    assert (sys.getswitchinterval(), gc.get_threshold()) == here


def test_thresholds_of_malloc_reach_processes_by_their_environment() -> None:
    given = config.get("distributed.nanny.pre-spawn-environ")
    environment = process_environment()
    for name in MALLOPT_NUMBERS:
        assert environment[name] == str(given[name])


def test_a_process_can_tune_itself() -> None:
    output = subprocess.check_output([sys.executable, "-c", MEASURE], text=True, timeout=60).split()
    assert output == [str(SWITCH_INTERVAL), *map(str, GC_THRESHOLDS), "True"]
