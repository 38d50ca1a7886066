"""LightGBM's estimators on dask arrays, as in its examples/python-guide/dask."""

import dask.array as da
import lightgbm as lgb
from sklearn.datasets import make_blobs

from distributed import Client, LocalCluster

if __name__ == "__main__":
    X, y = make_blobs(n_samples=1000, n_features=50, centers=2, random_state=0)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)
    dX = da.from_array(X, chunks=(100, 50))
    dy = da.from_array(y, chunks=(100,))

    dask_model = lgb.DaskLGBMClassifier(n_estimators=10, verbose=-1)
    dask_model.fit(dX, dy)
    assert dask_model.fitted_
    assert (dask_model.predict(dX).compute() == y).mean() > 0.95

    regressor = lgb.DaskLGBMRegressor(n_estimators=10, verbose=-1)
    regressor.fit(dX, dy.astype(float))
    assert regressor.predict(dX).compute().shape == (1000,)
    client.close()
    cluster.close()
