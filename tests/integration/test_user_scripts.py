"""What scripts of dask.distributed's users do around their tasks, each found by running one of them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from headrace import Client, LocalCluster, as_completed
from headrace.machine import share_of_memory, system_memory_limit

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


def run(source: str) -> str:
    """What a program prints."""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports", ["import dask.config, distributed", "import dask; from dask.distributed import Client"]
)
def test_settings_can_be_asked_for_before_there_is_a_client(imports: str) -> None:
    assert run(f"{imports}\nimport dask.config\nprint(dask.config.get('distributed.worker.memory.target'))") == "0.6"


def test_the_drop_in_does_not_import_dask() -> None:
    assert run("import sys, distributed\nprint('dask' in sys.modules)") == "False"


def test_documented_names_of_the_package_diagnostics() -> None:
    source = "from distributed.diagnostics import MemorySampler, SchedulerPlugin\nprint(MemorySampler.__name__)"
    assert run(source) == "MemorySampler"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


def test_the_warning_about_a_large_graph_names_the_users_line(client: Client) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.submit(np.sum, np.ones(2_000_000)).result()
        client.submit(np.sum, [np.zeros(2_000_000)]).result()
        client.get({"a": (np.sum, np.ones(3_000_000))}, "a")
    large = [one for one in caught if "large graph" in str(one.message)]
    assert len(large) == 3
    assert {one.filename for one in large} == {__file__}


class NotThere(Exception):
    """As users write them: `__init__` takes something else than it hands on."""

    def __init__(self, path: str, code: int) -> None:
        super().__init__(f"{path} is not there")
        self.code = code


def look(path: str) -> None:
    raise NotThere(path, 404)


def test_an_exception_with_an_init_of_its_own_is_caught_by_its_class(client: Client) -> None:
    with pytest.raises(NotThere, match=r"^here is not there$") as caught:
        client.submit(look, "here").result()
    assert caught.value.code == 404


def fail_once(counter: list[int]) -> str:
    counter.append(1)
    if len(counter) == 1:
        raise ValueError("the first time")
    return "done"


def test_a_failure_that_a_retry_makes_good_is_in_the_worker_s_log(client: Client) -> None:
    counter = client.submit(list, key="counter", pure=False)
    assert client.submit(fail_once, counter, key="fails-once", retries=1).result() == "done"
    (lines,) = client.get_worker_logs().values()
    text = next(text for level, text in lines if level == "INFO" and "fails-once" in text)
    assert "Compute Failed" in text
    assert "ValueError('the first time')" in text
    assert "in fail_once" in text


def test_an_iterator_over_futures_says_how_far_it_is(client: Client) -> None:
    futures = client.map(abs, range(3))
    client.gather(futures)
    iterator = as_completed(futures)
    next(iterator)
    assert repr(iterator) == "<as_completed: waiting=0 done=2>"


def test_workers_of_a_local_cluster_split_the_memory_evenly() -> None:
    whole = system_memory_limit()
    assert share_of_memory("auto", 1, 1) == whole
    assert share_of_memory("auto", 4, 1000) == whole // 4
    assert share_of_memory("auto", 0, 1000) == whole  # workers that come later: by their threads
    assert share_of_memory("1 GB", 4, 1) == 10**9
    assert share_of_memory(0, 4, 1) is None
    with LocalCluster(n_workers=3, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        limits = [worker["memory_limit"] for worker in cluster.scheduler_info["workers"].values()]
    assert limits == [int(whole / 3)] * 3
