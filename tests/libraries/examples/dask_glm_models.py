"""dask-glm: generalized linear models of arrays in chunks, on a cluster."""

import dask.array as da
from dask.distributed import Client
from dask_glm.datasets import make_classification, make_regression
from dask_glm.estimators import LinearRegression, LogisticRegression

if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        X, y = make_classification(n_samples=400, n_features=3, chunksize=100)
        model = LogisticRegression(solver="admm", max_iter=5).fit(X, y)
        assert model.coef_.shape == (3,)
        X, y = make_regression(n_samples=400, n_features=3, n_informative=3, chunksize=100)
        assert LinearRegression(solver="lbfgs").fit(X, y).score(X, y) < da.var(y).compute()
