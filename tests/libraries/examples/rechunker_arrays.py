"""rechunker: an array of dask's with other chunks in Zarr, in bounded memory, by the workers of a cluster."""

import dask.array as da
import numpy as np
import zarr
from dask.distributed import Client
from rechunker import rechunk

if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        source = da.random.default_rng(0).random((100, 60), chunks=(100, 20))
        plan = rechunk(
            source, target_chunks=(25, 60), max_mem="100kB", target_store="target.zarr", temp_store="temp.zarr"
        )
        plan.execute()
        target = zarr.open("target.zarr", mode="r")
        assert target.chunks == (25, 60)
        assert np.array_equal(target[:], source.compute())
