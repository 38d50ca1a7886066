"""afar: a block of code that runs on a worker, and whose names come back as futures."""

import afar
from dask.distributed import Client

if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        factor = 3
        with afar.run("numbers", "total") as results, afar.remotely:
            numbers = [factor * x for x in range(5)]
            total = sum(numbers)
        assert results["numbers"].result() == [0, 3, 6, 9, 12]
        assert results["total"].result() == 30
        with afar.run as local, afar.locally:
            here = factor + 1
        assert local["here"] == 4
