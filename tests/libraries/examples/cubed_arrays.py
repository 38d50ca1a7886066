"""cubed: arrays in bounded memory whose tasks a cluster runs."""

import cubed
import cubed.array_api as xp
from cubed.runtime.executors.dask import DaskExecutor
from dask.distributed import Client

if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        spec = cubed.Spec("work", allowed_mem="100MB", executor=DaskExecutor())
        a = cubed.array_api.asarray([[1, 2, 3], [4, 5, 6], [7, 8, 9]], chunks=(2, 2), spec=spec)
        b = xp.sum(xp.add(a, a), axis=0)
        assert b.compute().tolist() == [24, 30, 36]
