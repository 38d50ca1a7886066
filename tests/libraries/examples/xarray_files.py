"""xarray on files in chunks: opening many at once, reductions by group, blocks, persisting."""

import tempfile

import numpy as np
import xarray as xr
from dask.distributed import Client

if __name__ == "__main__":
    client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with tempfile.TemporaryDirectory() as directory:
        values = np.random.default_rng(0).random((100, 10))
        for part in range(2):
            times = np.arange(100) + 100 * part
            xr.Dataset({"t": (("time", "x"), values)}, coords={"time": times}).to_netcdf(
                f"{directory}/{part}.nc", engine="scipy"
            )
        ds = xr.open_mfdataset(f"{directory}/*.nc", engine="scipy", parallel=True, chunks={"time": 25})
        np.testing.assert_allclose(ds.t.mean().compute(), values.mean())
        by_phase = ds.groupby(ds.time % 5).mean().compute()
        np.testing.assert_allclose(by_phase.t[3], values[3::5].mean(axis=0))

        doubled = ds.map_blocks(lambda block: block * 2, template=ds)
        assert doubled.compute().equals(ds.load() * 2)
        kept = (ds + 1).persist()
        assert float(kept.t.min()) >= 1
        ds.close()
    client.close()
