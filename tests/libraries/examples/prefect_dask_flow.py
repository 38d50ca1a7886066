"""A Prefect flow whose tasks run on a cluster, and use it themselves."""

import time

from prefect import flow, task
from prefect_dask import DaskTaskRunner, get_dask_client


@task
def shout(number):
    time.sleep(0.1)
    print(f"#{number}")
    return number


@task
def compute_task():
    import dask

    with get_dask_client() as client:
        return client.compute(dask.delayed(sum)([1, 2, 3])).result()


@flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}))
def count_to(highest_number):
    numbers = shout.map(range(highest_number)).result()
    return numbers, compute_task.submit().result()


if __name__ == "__main__":
    assert count_to(5) == ([0, 1, 2, 3, 4], 6)
